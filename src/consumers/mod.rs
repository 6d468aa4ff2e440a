//! Layer 5: consumer instances of the HTTP door, as members of their groups.
//!
//! An instance that subscribes joins its group by the same protocol as a native client and
//! assigns for everybody when it is elected leader. It follows rebalances in the background, so a
//! client that is slow to poll disturbs nobody; it is kept in the store, so its URL answers after
//! a restart; and it costs no task and no timer while it is idle (ADR 0007).
//!
//! A stream, or a script that reads by cursor, is a static member with the same driver, keeper and
//! commits, but without a document ([`live`]).
//!
//! ```text
//!  create → subscribe ─→ driver: join, sync ─→ slots ←─ confirm ─ Delivery ←─ poll
//!                          ↑ keeper: heartbeats, topics, expiry      commit ─→ coordinator
//! ```
//!
//! Uses the engine's role traits and the codecs of `protocol/`; knows nothing of HTTP. Positions
//! move over what is delivered, commits cover what was delivered, and what is neither is read
//! again: at least once, never skipped.

mod assignor;
mod calls;
mod closing;
mod commit;
mod cut;
mod delivery;
mod document;
mod driver;
mod error;
mod gather;
mod instance;
mod keeper;
mod leader;
mod live;
mod membership;
mod poll;
mod positions;
mod registry;
mod seek;
mod settings;
mod subscription;

#[cfg(test)]
mod fake_engine;
#[cfg(test)]
mod fake_groups;
#[cfg(test)]
mod rebalance_tests;
#[cfg(test)]
mod tests;

pub use calls::{InstanceDescription, Subscribe};
pub use commit::OffsetCommit;
pub use delivery::{Delivery, PollBatch};
pub use error::ConsumerError;
pub use live::{
    Ack, AckMode, AckOutcome, AckStatus, AssignedPartition, Assignment, Change, Connection,
    LiveMember, MemberRead, MemberRecords, NewLiveMember, Seen,
};
pub use poll::PollRequest;
pub use registry::Consumers;
pub use settings::{
    ASSIGNED_PARTITIONS_MAX, Assignor, ConsumersOptions, Format, INSTANCE_NAME_BYTES_MAX,
    NewInstance, OffsetReset, OnDecodeError, SUBSCRIPTION_TOPICS_MAX, Settings,
};

pub use crate::engine::instances::InstanceKey;
