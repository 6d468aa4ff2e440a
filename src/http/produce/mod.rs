//! What all ways to produce over HTTP share, whatever their bodies look like.
//!
//! A handler decodes its format into [`NewRecord`]s and gives them, for one topic or several, to
//! [`Batches`]. `finish` turns those into appends and a [`Ledger`]; the appends may go to the log
//! one by one ([`append_each`]) or in any other way, and the ledger turns the answer to each into
//! the [`Outcome`] of every record, in the order in which the records came. [`deliver`] does that
//! for requests that are answered as a whole, all or none of them if the client wants that, and
//! once if it gave a key ([`once`]) or numbers its records ([`numbered`]).

pub mod batches;
pub mod deliver;
pub mod headers;
pub mod ledger;
pub mod numbered;
pub mod once;
pub mod options;
pub mod topic;

pub use batches::{Batches, NewRecord, TopicIndex};
pub use deliver::deliver;
pub use headers::RecordHeaders;
pub use ledger::{Ledger, Outcome, Produced, append_each};
pub use once::{Answer, Once};
pub use options::{DeliveryHeaders, DeliveryQuery, ProduceOptions};
pub use topic::find_or_create;
