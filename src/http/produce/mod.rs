//! What all ways to produce over HTTP share, whatever their bodies look like.
//!
//! A handler decodes its format into [`NewRecord`]s and gives them, for one topic or several, to
//! [`Batches`]. `finish` turns those into appends and a [`Ledger`]; the appends may go to the log
//! one by one ([`append_each`]) or in any other way, and the ledger turns the answer to each into
//! the [`Outcome`] of every record, in the order in which the records came.

pub mod batches;
pub mod headers;
pub mod ledger;
pub mod options;
pub mod topic;

pub use batches::{Batches, NewRecord, TopicIndex};
pub use headers::RecordHeaders;
pub use ledger::{Ledger, Outcome, Produced, append_each};
pub use options::ProduceOptions;
pub use topic::find_or_create;
