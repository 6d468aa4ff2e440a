//! Starts that could not be found when partitions were assigned: they are looked for again.
//!
//! A partition that cannot be read does not say where `latest` or a time is. Its member has the
//! others meanwhile; nothing is assumed of this one, because whatever is assumed is committed.

use std::sync::Arc;

use crate::base::ids::TopicPartition;
use crate::consumers::instance::{Instance, State};
use crate::consumers::live::commit_start;
use crate::consumers::membership::pause;
use crate::consumers::positions::{Resolver, Slot, find_slot_mut};
use crate::consumers::registry::Shared;
use crate::consumers::settings::OffsetReset;

/// Looks in the background for the starts of the partitions that have none, until each is found
/// or not the member's any more; at most every second, and never twice at a time.
pub(in crate::consumers) fn find_starts(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    if instance.settings.auto_offset_reset == OffsetReset::None {
        return;
    }
    {
        let mut state = instance.state();
        if state.session.is_seeking || without_start(&state).is_empty() {
            return;
        }
        state.session.is_seeking = true;
    }
    let (shared, instance) = (Arc::clone(shared), Arc::clone(instance));
    shared.shutdown.clone().spawn(async move {
        tokio::select! {
            () = shared.shutdown.stopping() => {}
            () = seek(&shared, &instance) => {}
        }
    });
}

async fn seek(shared: &Arc<Shared>, instance: &Arc<Instance>) {
    for attempt in 0_u32.. {
        pause(attempt).await;
        let missing = {
            let mut state = instance.state();
            let missing = without_start(&state);
            if missing.is_empty() {
                state.session.is_seeking = false;
                return;
            }
            missing
        };
        let (engine, group) = (&shared.engine, &instance.key.group);
        let resolver = Resolver { engine, group, settings: &instance.settings, holds: &[] };
        let partitions = missing.iter().map(|(partition, _)| partition.clone()).collect();
        // Committed offsets may not be there yet, just as the partitions.
        let Ok(found) = resolver.slots(partitions).await else { continue };
        if place(&mut instance.state(), &missing, found) {
            instance.notify();
            commit_start(shared, instance);
        }
    }
}

/// The partitions of which no start is known, with the tokens of their slots.
fn without_start(state: &State) -> Vec<(TopicPartition, u64)> {
    let slots = state.slots.iter().filter(|slot| slot.position.is_none() && !state.is_closed);
    slots.map(|slot| (slot.partition.clone(), slot.token)).collect()
}

/// Puts slots where they begin, as if that had been known when they were installed; says whether
/// there were any.
fn place(state: &mut State, missing: &[(TopicPartition, u64)], found: Vec<Slot>) -> bool {
    let State { slots, session, .. } = state;
    let mut is_any = false;
    for new in found.into_iter().filter(|new| new.position.is_some()) {
        let is_it = |(partition, _): &&(TopicPartition, u64)| *partition == new.partition;
        let Some((_, token)) = missing.iter().find(is_it) else { continue };
        let Some(slot) = find_slot_mut(slots, &new.partition) else { continue };
        if slot.token != *token || slot.topic_id != new.topic_id || slot.position.is_some() {
            continue;
        }
        is_any = true;
        if slot.acknowledged.is_some() {
            // The client knew it better meanwhile.
            slot.position = slot.acknowledged;
            continue;
        }
        *slot = Slot { token: *token, ..new };
        session.begin(slot);
        session.resume(slot);
    }
    if is_any {
        state.version += 1;
    }
    is_any
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::consumers::fake_engine::Offline;
    use crate::consumers::live::tests::{Stream, ack, at, new};
    use crate::consumers::live::{AckMode, AssignedPartition, MemberRead, NewLiveMember};
    use crate::consumers::tests::{PATIENCE, Server, eventually};

    #[tokio::test]
    async fn a_start_that_cannot_be_found_is_unknown_until_it_is() {
        let server = Server::new();
        let topic = server.fake.topic("t", 2);
        server.fake.append_values(&topic, 0, &["a", "b"]);
        server.fake.append_values(&topic, 1, &["c"]);
        server.fake.set_offline(&topic, 0, Offline::Yes);
        let latest =
            NewLiveMember { auto_offset_reset: OffsetReset::Latest, ..new("m", AckMode::Explicit) };
        let mut stream = Stream::open(&server, latest).await;
        let before = stream.assigned().await;
        let place = |partition, position| {
            let partition = at(&topic, partition);
            AssignedPartition { partition, position }
        };
        assert_eq!(before.partitions, [place(0, None), place(1, Some(1))]);
        eventually(|| server.committed(&topic, 1) == Some(1)).await;
        assert_eq!(server.committed(&topic, 0), None);
        server.fake.set_offline(&topic, 0, Offline::No);
        let after = stream.assigned().await;
        assert_eq!(after.partitions, [place(0, Some(2)), place(1, Some(1))]);
        assert_eq!(after.generation_id, before.generation_id);
        eventually(|| server.committed(&topic, 0) == Some(2)).await;
        eventually(|| !stream.member.call.instance.state().session.is_seeking).await;
    }

    #[tokio::test]
    async fn what_the_client_says_goes_before_a_start_that_is_found_late() {
        let server = Server::new();
        let topic = server.fake.topic("t", 1);
        server.fake.append_values(&topic, 0, &["a", "b", "c"]);
        server.fake.set_offline(&topic, 0, Offline::Yes);
        let resume = vec![(at(&topic, 0), 1)];
        let latest =
            NewLiveMember { auto_offset_reset: OffsetReset::Latest, ..new("m", AckMode::Explicit) };
        let read = MemberRead { records_max: 5, bytes_max: 1 << 20, wait: PATIENCE };
        let reading = NewLiveMember { resume, ..latest.clone() };
        let refused = server.consumers.read_as_member(reading.clone(), read).await;
        assert!(refused.is_err(), "{refused:?}");
        server.fake.set_offline(&topic, 0, Offline::No);
        let instance = server.consumers.static_call(&reading.group, "m").unwrap();
        eventually(|| !instance.instance.state().session.is_seeking).await;
        let found = server.consumers.read_as_member(reading, read).await.unwrap();
        assert_eq!(found.delivery.records().count(), 2);
        assert_eq!(server.committed(&topic, 0), None);
        let group = &instance.instance.key.group;
        server.consumers.acknowledge(group, "m", &[ack(&topic, 0, 2)]).await.unwrap();
        assert_eq!(server.committed(&topic, 0), Some(2));
    }

    #[tokio::test]
    async fn a_read_says_nothing_of_what_it_could_not_find() {
        let server = Server::new();
        let topic = server.fake.topic("t", 2);
        server.fake.append_values(&topic, 1, &["a", "b"]);
        server.fake.set_offline(&topic, 0, Offline::Yes);
        let wait = Duration::from_secs(5);
        let read = MemberRead { records_max: 5, bytes_max: 1 << 20, wait };
        let found = server.consumers.read_as_member(new("m", AckMode::Auto), read).await.unwrap();
        assert_eq!(found.delivery.records().count(), 2);
        assert_eq!(found.next, [(at(&topic, 1), 2)]);
    }
}
