//! A poll: wait for an assignment, for records, gather them, hand them out.
//!
//! A poll answers as soon as there is a record, or as many bytes as the instance wants at least;
//! the timeout bounds the answers that are empty or smaller. It
//! sleeps on the watches of its partitions and on the instance's own changes and has no loop that
//! asks again by time. What it gathered counts only if the instance is unchanged at the end: a
//! rebalance or a seek in between makes it start over.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::commit;
use super::cut::Budget;
use super::delivery::{Advance, Delivery, PollBatch};
use super::error::ConsumerError;
use super::gather::{Cursor, gather, wait_for_records};
use super::instance::{Call, Phase, Source};
use super::membership;
use super::positions::{find_slot_mut, reset_position};
use super::registry::{Consumers, Shared};
use super::settings::OffsetReset;
use crate::base::ids::{Offset, TopicPartition};
use crate::base::limits::{HTTP_POLL_BYTES_MAX, HTTP_WAIT_MAX};
use crate::engine::instances::InstanceKey;
use crate::engine::log::ReadError;
use crate::protocol::record_batch::BatchRecords;

/// Opened batches that an instance keeps between polls.
const KEPT_BATCHES_MAX: usize = 8;

/// What a poll asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PollRequest {
    /// How long to wait for a first record; none takes the instance's or the server's default. A
    /// timeout set for the instance is the upper bound.
    pub timeout: Option<Duration>,
    /// Bytes of keys, values and headers to deliver at most; a larger record comes alone.
    pub bytes_max: Option<usize>,
}

/// What the polls of an instance hand on to each other.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Which partition comes first next time.
    pub(super) rotation: usize,
    /// Batches that were opened and not delivered to their end, each for the slot of a token.
    pub(super) opened: HashMap<TopicPartition, (u64, BatchRecords)>,
}

impl Consumers {
    /// Reads the next records of an instance.
    ///
    /// Waits for a rebalance that is under way, then for a first record, both within the timeout;
    /// the answer is empty only when all of it is over. Polls of one instance follow each other.
    ///
    /// # Errors
    /// [`ConsumerError::NotFound`], `NotSubscribed`, `NoOffset`, `OffsetOutOfRange`, `Damaged`,
    /// `UnknownPartition` (of a manual assignment), `Read`, `Group`, `ShuttingDown`.
    ///
    /// # Cancel safety
    /// Safe: positions move only when the delivery is confirmed.
    pub async fn poll(
        &self,
        key: &InstanceKey,
        request: PollRequest,
    ) -> Result<Delivery, ConsumerError> {
        let call = self.call(key)?;
        let deadline = pin!(tokio::time::sleep(self.wait_of(&call, request.timeout)));
        let turn = call.instance.turn.clone().lock_owned().await;
        call.instance.state().acknowledge();
        commit::auto_commit_if_due(&self.shared, &call.instance).await;
        let bytes_max = request.bytes_max.unwrap_or(HTTP_POLL_BYTES_MAX).min(HTTP_POLL_BYTES_MAX);
        let mut poll = Poll::new(&self.shared, call, turn, Budget::new(bytes_max));
        poll.run(deadline).await?;
        Ok(poll.finish())
    }

    fn wait_of(&self, call: &Call, timeout: Option<Duration>) -> Duration {
        let own = call.instance.settings.request_timeout;
        let wait = match (timeout, own) {
            (Some(asked), Some(own)) => asked.min(own),
            (Some(asked), None) => asked,
            (None, Some(own)) => own,
            (None, None) => Duration::from_millis(self.shared.options.request_timeout_ms),
        };
        wait.min(HTTP_WAIT_MAX)
    }
}

/// A poll under way.
pub(super) struct Poll<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) call: Call,
    pub(super) turn: OwnedMutexGuard<Turn>,
    /// What the poll begins with, when it starts over.
    full: Budget,
    /// Where the client says it stands, if it says so; sorted.
    pub(super) after: Vec<(TopicPartition, Offset)>,
    /// The version of the state that the cursors stand for.
    version: Option<u64>,
    is_joining: bool,
    /// A partition that does not exist will be taken away by a rebalance.
    ignores_unknown: bool,
    pub(super) cursors: Vec<Cursor>,
    pub(super) batches: Vec<PollBatch>,
    pub(super) budget: Budget,
}

impl<'a> Poll<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        call: Call,
        turn: OwnedMutexGuard<Turn>,
        budget: Budget,
    ) -> Self {
        Self {
            shared,
            call,
            turn,
            full: budget,
            after: Vec::new(),
            version: None,
            is_joining: false,
            ignores_unknown: false,
            cursors: Vec::new(),
            batches: Vec::new(),
            budget,
        }
    }

    /// Gathers until there is enough or the time is over.
    pub(super) async fn run(
        &mut self,
        mut deadline: Pin<&mut tokio::time::Sleep>,
    ) -> Result<(), ConsumerError> {
        let instance = self.call.instance.clone();
        loop {
            // Listens before it looks, so that no change falls between.
            let mut changed = pin!(instance.changed.notified());
            changed.as_mut().enable();
            self.look().await?;
            gather(self).await;
            if self.is_enough() && self.is_current() {
                return Ok(());
            }
            if !self.is_current() {
                continue;
            }
            if self.budget.records == 0
                && let Some(error) = self.first_error()
            {
                return Err(error);
            }
            let has_records = self.budget.records > 0;
            tokio::select! {
                biased;
                () = self.shared.shutdown.stopping() => {
                    return if has_records { Ok(()) } else { Err(ConsumerError::ShuttingDown) };
                }
                () = deadline.as_mut() => break,
                () = changed => {}
                () = wait_for_records(&self.cursors, self.is_joining) => {}
            }
        }
        if !self.is_current() {
            // Too late to start over: what was gathered may belong to others by now.
            self.start_over();
        }
        Ok(())
    }

    fn is_enough(&self) -> bool {
        let min_bytes = self.call.instance.settings.fetch_min_bytes;
        self.budget.records > 0 && (self.budget.is_spent() || self.budget.bytes >= min_bytes)
    }

    fn is_current(&self) -> bool {
        Some(self.call.instance.state().version) == self.version
    }

    fn start_over(&mut self) {
        self.cursors.clear();
        self.batches.clear();
        self.budget = self.full;
    }

    /// Takes the assignment over if it changed since the last look.
    async fn look(&mut self) -> Result<(), ConsumerError> {
        let instance = self.call.instance.clone();
        let failure = {
            let state = instance.state();
            if state.is_closed {
                return Err(instance.not_found());
            }
            match (&state.source, &state.member.phase) {
                (Source::None, _) => return Err(ConsumerError::NotSubscribed),
                (_, Phase::Failed(error)) => Some(error.clone()),
                _ if self.version == Some(state.version) => return Ok(()),
                _ => None,
            }
        };
        if let Some(error) = failure {
            if self.version.is_some() {
                return Err(error.into());
            }
            // Refused before this poll: perhaps what was in the way is gone.
            membership::join(self.shared, &instance);
        }
        self.look_again().await
    }

    async fn look_again(&mut self) -> Result<(), ConsumerError> {
        self.start_over();
        let instance = self.call.instance.clone();
        let slots: Vec<(TopicPartition, u64, Option<Offset>)> = {
            let state = instance.state();
            self.version = Some(state.version);
            self.is_joining = state.member.phase == Phase::Joining;
            self.ignores_unknown = matches!(state.source, Source::Subscribed { .. });
            let slots = state.slots.iter().filter(|_| !self.is_joining);
            slots.map(|slot| (slot.partition.clone(), slot.token, slot.position)).collect()
        };
        for (partition, token, position) in slots {
            let after = self.after(&partition);
            let found = match position {
                Some(position) => Ok(Some(position)),
                None => self.find_position(&partition, token).await?,
            };
            let position = match (found, after) {
                (Ok(Some(position)), after) => Ok(position.max(after.unwrap_or(position))),
                (Err(_), Some(after)) => Ok(after),
                (Err(error), None) => Err(error),
                (Ok(None), _) => continue,
            };
            let log = self.shared.engine.log.as_ref();
            self.cursors.push(match position {
                Ok(position) => Cursor::open(log, partition, token, position),
                Err(error) => Cursor::unplaced(partition, token, error),
            });
        }
        Ok(())
    }

    /// Where the client says it stands in a partition, if it says so.
    fn after(&self, partition: &TopicPartition) -> Option<Offset> {
        let found = self.after.binary_search_by(|(held, _)| held.cmp(partition)).ok();
        found.and_then(|at| self.after.get(at)).map(|(_, next)| *next)
    }

    /// Finds where to begin in a partition that has no position; none while it does not exist,
    /// and the inner error if it is there and cannot say.
    async fn find_position(
        &self,
        partition: &TopicPartition,
        token: u64,
    ) -> Result<Result<Option<Offset>, ReadError>, ConsumerError> {
        let settings = &self.call.instance.settings;
        if settings.auto_offset_reset == OffsetReset::None {
            return Err(ConsumerError::NoOffset(partition.clone()));
        }
        match reset_position(&self.shared.engine, partition, settings).await {
            Ok(Some(position)) => {
                self.move_slot(partition, token, position);
                Ok(Ok(Some(position)))
            }
            Ok(None) | Err(ReadError::UnknownPartition { .. }) => Ok(Ok(None)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Puts a position where the settings say; nothing was delivered by that.
    pub(super) fn move_slot(&self, partition: &TopicPartition, token: u64, position: Offset) {
        let mut state = self.call.instance.state();
        if let Some(slot) = find_slot_mut(&mut state.slots, partition)
            && slot.token == token
        {
            slot.position = Some(position);
            slot.acknowledged = Some(position);
        }
    }

    fn first_error(&self) -> Option<ConsumerError> {
        let counts = |error: &&ConsumerError| {
            !(self.ignores_unknown && matches!(error, ConsumerError::UnknownPartition(_)))
        };
        self.cursors.iter().filter_map(|cursor| cursor.error.as_ref()).find(counts).cloned()
    }

    pub(super) fn finish(mut self) -> Delivery {
        let moved = self.cursors.iter().filter(|cursor| cursor.next != cursor.start);
        let advances = moved.map(|cursor| Advance {
            partition: cursor.partition.clone(),
            token: cursor.token,
            from: cursor.start,
            to: cursor.next,
        });
        let advances = advances.collect();
        if self.turn.opened.len() > KEPT_BATCHES_MAX {
            self.turn.opened = HashMap::new();
        }
        let (batches, budget) = (self.batches, self.budget);
        Delivery { call: self.call, batches, advances, budget, _turn: self.turn }
    }
}
