//! Static members (KIP-345): what a stream inside a group, or a script that reads by cursor, is.
//!
//! A member is found by its name. Whoever opens it again takes it over: the connection before is
//! fenced, the assignment stays, and no rebalance happens. When its connection breaks it lingers
//! for the session timeout; the keeper beats for it meanwhile. `open` begins a connection,
//! `change` tells what happens to its partitions, `ack` moves what is committed, `connection` is
//! what a connection may say of its member, also after its end, `starts` looks again for starts
//! that were not to be found.
//!
//! Of each partition, `position` is what was written to the connection, `acknowledged` what the
//! client is done with. Commits follow `acknowledged` and never go back. A connection that begins
//! reads from there, so what was written and not acknowledged is written again.

mod ack;
mod change;
mod connection;
mod open;
mod read;
mod session;
mod starts;

pub use ack::{Ack, AckOutcome, AckStatus};
pub use change::{AssignedPartition, Assignment, Change, Seen};
pub use connection::Connection;
pub use open::{LiveMember, NewLiveMember};
pub use read::{MemberRead, MemberRecords};
pub use session::AckMode;

#[cfg(test)]
mod tests;

pub(super) use session::{Session, await_final_acks, commit_start};
pub(super) use starts::find_starts;
