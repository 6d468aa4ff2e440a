//! 1 Fetch: versions 4 to 12.
//!
//! - v4: isolation level and last stable offset (KIP-98)
//! - v5: log start offset in the answer
//! - v6: throttling after the answer (KIP-219)
//! - v7: fetch sessions (KIP-227)
//! - v8: as v7
//! - v9: current leader epoch in the request (KIP-320)
//! - v10: zstd may be answered (KIP-110)
//! - v11: rack in the request, preferred replica in the answer (KIP-392)
//! - v12: flexible encoding, last fetched epoch
//!
//! Deviations: no fetch session is ever made (session id 0 in every answer), so clients send full
//! requests. The last fetched epoch and the rack are read and not used. zstd batches are given to
//! clients below v10 as they are; there is no down-conversion. A request below v13 names topics;
//! topic ids come with a later step.

mod collect;
mod long_poll;
mod reply;

use std::time::Duration;

use crate::base::ids::{Offset, PartitionId, TopicName};
use crate::base::limits::FETCH_BYTES_MAX;
use crate::engine::log::{AbortedTransaction, Bounds, Isolation, Records};
use crate::engine::{Engine, Later};
use crate::protocol::messages::{FetchRequestData, fetch_request};
use crate::protocol::{ErrorCode, KafkaString};

use super::{Body, Call, LEADER_EPOCH, NO_EPOCH, Reply, VersionRange, later};
use crate::kafka::reader::DecodeError;

pub(in crate::kafka) use reply::FetchReply;

pub(super) const RANGE: VersionRange = VersionRange::new(4, 12);

/// A fetch as we carry it out: names resolved once, whatever happens while it waits.
#[derive(Debug)]
struct Plan {
    topics: Vec<KafkaString>,
    partitions: Vec<Wanted>,
    isolation: Isolation,
    bytes_min: usize,
    bytes_max: usize,
    wait_max: Duration,
}

/// One partition of a fetch.
#[derive(Debug)]
struct Wanted {
    /// Index of the topic in the request.
    topic: usize,
    partition: PartitionId,
    /// The topic's name, or why it cannot be read.
    source: Result<TopicName, ErrorCode>,
    offset: Offset,
    bytes_max: usize,
}

/// One partition of the answer.
#[derive(Debug)]
struct PartitionAnswer {
    error: ErrorCode,
    bounds: Bounds,
    records: Records,
    /// Transactions whose records a client of committed ones passes over.
    aborted: Vec<AbortedTransaction>,
}

pub(super) fn start(mut call: Call) -> Result<Later<Reply>, DecodeError> {
    let request = FetchRequestData::read(&mut call.body, call.version)?;
    // Epoch 0 asks for a new session and -1 for none; the others continue one we never made.
    if !matches!(request.session_epoch, 0 | -1) {
        let error = ErrorCode::FetchSessionIdNotFound;
        return Ok(Later::Now(fetched(FetchReply::refused(error))));
    }
    let plan = Plan::new(request, call.engine());
    let session = call.session;
    Ok(later(async move {
        let shared = &session.shared;
        let answers = long_poll::run(&plan, &*shared.engine.log, &shared.shutdown).await;
        fetched(FetchReply::new(plan, answers))
    }))
}

fn fetched(reply: FetchReply) -> Reply {
    let error = reply.first_error();
    Reply { body: Body::Fetch(reply), error }
}

impl Plan {
    fn new(request: FetchRequestData, engine: &Engine) -> Self {
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut partitions = Vec::new();
        for (index, topic) in request.topics.into_iter().enumerate() {
            let found = engine.topics.find(topic.topic.as_str());
            let source = found.map(|t| t.name.clone()).ok_or(ErrorCode::UnknownTopicOrPartition);
            let wanted = topic.partitions.iter().map(|partition| Wanted {
                topic: index,
                partition: partition.partition,
                source: check_epoch(partition).and_then(|()| source.clone()),
                offset: partition.fetch_offset,
                bytes_max: bytes(partition.partition_max_bytes),
            });
            partitions.extend(wanted);
            topics.push(topic.topic);
        }
        let isolation = match request.isolation_level {
            1 => Isolation::ReadCommitted,
            _ => Isolation::ReadUncommitted,
        };
        Self {
            topics,
            partitions,
            isolation,
            bytes_min: bytes(request.min_bytes),
            bytes_max: bytes(request.max_bytes).min(FETCH_BYTES_MAX),
            wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        }
    }
}

/// Compares the leader epoch the client believes in with ours.
const fn check_epoch(partition: &fetch_request::FetchPartition) -> Result<(), ErrorCode> {
    match partition.current_leader_epoch {
        NO_EPOCH | LEADER_EPOCH => Ok(()),
        later if later > LEADER_EPOCH => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Err(ErrorCode::FencedLeaderEpoch),
    }
}

/// Takes a size from the wire; negative ones mean nothing.
fn bytes(size: i32) -> usize {
    usize::try_from(size).unwrap_or(0)
}
