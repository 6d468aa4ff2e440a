//! Bounded reads of a group by cursor, without anything to create before.
//!
//! A read moves nothing but, in the mode `Auto`, what is acknowledged: everything before its
//! cursor. So the same read answers the same records, and a lost answer costs nothing.

use std::pin::pin;
use std::time::Duration;

use super::open::NewLiveMember;
use super::session::{AckMode, sort};
use crate::base::ids::{Offset, TopicPartition};
use crate::base::limits::{HTTP_POLL_BYTES_MAX, HTTP_WAIT_MAX};
use crate::consumers::cut::Budget;
use crate::consumers::instance::State;
use crate::consumers::poll::Poll;
use crate::consumers::positions::CommitExtent;
use crate::consumers::registry::Consumers;
use crate::consumers::{ConsumerError, Delivery, commit};

/// How much a read answers, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberRead {
    /// Records at most; at least 1 counts.
    pub records_max: usize,
    /// Bytes of keys, values and headers at most; a larger record comes alone.
    pub bytes_max: usize,
    /// How long to wait for an assignment and a first record; at most 300 s count.
    pub wait: Duration,
}

/// What a read found.
#[derive(Debug)]
pub struct MemberRecords {
    /// The records. Confirming them moves nothing that a later read could miss.
    pub delivery: Delivery,
    /// Where to go on, in every partition of the member; sorted.
    pub next: Vec<(TopicPartition, Offset)>,
}

impl Consumers {
    /// Reads the records behind `member.resume` and behind what is committed, as a member that
    /// joins its group unless it is a member already, and that stays one for its session.
    ///
    /// In the mode `Auto`, everything before `member.resume` is committed before the answer.
    ///
    /// # Errors
    /// As [`Consumers::open_stream`], `MemberStreams`, and as [`Consumers::poll`].
    ///
    /// # Cancel safety
    /// Dropping the future may or may not leave the member joined, and its cursor committed.
    pub async fn read_as_member(
        &self,
        member: NewLiveMember,
        read: MemberRead,
    ) -> Result<MemberRecords, ConsumerError> {
        let mut after = member.resume.clone();
        sort(&mut after);
        let admit = |state: &State| {
            if !state.session.is_streaming {
                return Ok(());
            }
            let (group, member) = (member.group.to_string(), member.member.clone());
            Err(ConsumerError::MemberStreams { group, member })
        };
        let (call, ()) = self.open_static(&member, admit, |_| ()).await?;
        let deadline = pin!(tokio::time::sleep(read.wait.min(HTTP_WAIT_MAX)));
        // Reads of one member follow each other.
        let mut turn = call.instance.turn.clone().lock_owned().await;
        // Which partition is first follows from the cursor: fair, and the same every time.
        turn.rotation = rotation(&after);
        {
            let mut state = call.instance.state();
            // A stream may have come while this one waited for its turn.
            admit(&state)?;
            state.session.mode = member.ack;
            let is_seen = member.ack == AckMode::Auto;
            state.resume_all(if is_seen { after.clone() } else { Vec::new() });
        }
        // A failure costs a repetition, no more.
        commit::auto_commit(&self.shared, &call.instance, CommitExtent::Acknowledged).await;
        let bytes_max = read.bytes_max.min(HTTP_POLL_BYTES_MAX);
        let budget = Budget::new(bytes_max).with_records_max(read.records_max.max(1));
        let mut poll = Poll::new(&self.shared, call, turn, budget);
        poll.after = after;
        poll.run(deadline).await?;
        let known = poll.cursors.iter().filter(|cursor| cursor.is_placed);
        let next = known.map(|at| (at.partition.clone(), at.next)).collect();
        Ok(MemberRecords { delivery: poll.finish(), next })
    }
}

/// Which partition a read begins with.
fn rotation(after: &[(TopicPartition, Offset)]) -> usize {
    let sum = after.iter().fold(0_i64, |sum, (_, next)| sum.wrapping_add(*next));
    usize::try_from(sum.rem_euclid(1 << 20)).unwrap_or(0)
}
