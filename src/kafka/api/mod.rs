//! The Kafka APIs that are offered, one file each, numbered by API key.
//!
//! [`TABLE`] is the only list: ApiVersions answers from it, dispatch looks up in it and versions
//! are checked against it, so what is advertised is what is served. Each file begins with its
//! range of versions, what each version changed and where we deviate.

mod a00_produce;
mod a01_fetch;
mod a02_list_offsets;
mod a03_metadata;
mod a08_offset_commit;
mod a09_offset_fetch;
mod a10_find_coordinator;
mod a11_join_group;
mod a12_heartbeat;
mod a13_leave_group;
mod a14_sync_group;
mod a15_describe_groups;
mod a16_list_groups;
mod a18_api_versions;
mod a19_create_topics;
mod a20_delete_topics;
mod a21_delete_records;
mod a22_init_producer_id;
mod a32_describe_configs;
mod a33_alter_configs;
mod a37_create_partitions;
mod a42_delete_groups;
mod a44_incremental_alter_configs;
mod a47_offset_delete;
mod a60_describe_cluster;
mod configs;
mod errors;
mod operations;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Session;
use super::reader::DecodeError;
use crate::base::ids::TopicId;
use crate::engine::{BoxFuture, Engine, Later};
use crate::protocol::messages as wire;
use crate::protocol::{ApiKey, ErrorCode, KafkaString, KafkaUuid, ProtocolError};

pub(super) use a01_fetch::FetchReply;

/// The epoch of every partition's leadership: one node never loses it.
const LEADER_EPOCH: i32 = 0;

/// Where a request says "no epoch" or an answer "none known".
const NO_EPOCH: i32 = -1;

/// The versions of one API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct VersionRange {
    /// Lowest version listed by ApiVersions.
    advertised_min: i16,
    /// Lowest version that is answered.
    served_min: i16,
    max: i16,
}

impl VersionRange {
    /// Serves and advertises `min` to `max`.
    const fn new(min: i16, max: i16) -> Self {
        Self { advertised_min: min, served_min: min, max }
    }

    /// Advertises from 0 what is served from `min`, for clients that take the old end of the
    /// range as a sign of what the broker can do.
    const fn advertised_from_zero(min: i16, max: i16) -> Self {
        Self { advertised_min: 0, served_min: min, max }
    }

    /// Tells whether a request of this version is answered.
    pub(super) const fn serves(self, version: i16) -> bool {
        self.served_min <= version && version <= self.max
    }
}

/// Starts a request: what must happen in order of arrival happens in the call.
type Start = fn(Call) -> Result<Later<Reply>, DecodeError>;

/// One row of the table.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) key: ApiKey,
    /// The API's name in metrics and logs.
    pub(super) name: &'static str,
    pub(super) range: VersionRange,
    /// Whether further requests of this kind may start before this one is answered.
    pub(super) is_pipelined: bool,
    pub(super) start: Start,
}

macro_rules! table {
    ($($key:ident $module:ident $($pipelined:ident)?;)+) => {
        [$(Api {
            key: ApiKey::$key,
            name: stringify!($key),
            range: $module::RANGE,
            is_pipelined: false $(|| stringify!($pipelined).len() > 0)?,
            start: $module::start,
        }),+]
    };
}

/// Every API that is offered, by ascending key.
pub(super) static TABLE: [Api; 25] = table! {
    Produce a00_produce pipelined;
    Fetch a01_fetch;
    ListOffsets a02_list_offsets;
    Metadata a03_metadata;
    OffsetCommit a08_offset_commit;
    OffsetFetch a09_offset_fetch;
    FindCoordinator a10_find_coordinator;
    JoinGroup a11_join_group;
    Heartbeat a12_heartbeat;
    LeaveGroup a13_leave_group;
    SyncGroup a14_sync_group;
    DescribeGroups a15_describe_groups;
    ListGroups a16_list_groups;
    ApiVersions a18_api_versions;
    CreateTopics a19_create_topics;
    DeleteTopics a20_delete_topics;
    DeleteRecords a21_delete_records;
    InitProducerId a22_init_producer_id;
    DescribeConfigs a32_describe_configs;
    AlterConfigs a33_alter_configs;
    CreatePartitions a37_create_partitions;
    DeleteGroups a42_delete_groups;
    IncrementalAlterConfigs a44_incremental_alter_configs;
    OffsetDelete a47_offset_delete;
    DescribeCluster a60_describe_cluster;
};

/// Finds the row of an API key and its index in the table.
pub(super) fn find(key: i16) -> Option<(usize, &'static Api)> {
    let index = TABLE.binary_search_by_key(&key, |api| api.key as i16).ok()?;
    TABLE.get(index).map(|api| (index, api))
}

/// A request with its header decoded and its body not.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) session: Arc<Session>,
    pub(super) version: i16,
    pub(super) client_id: Option<KafkaString>,
    pub(super) body: Bytes,
}

impl Call {
    fn engine(&self) -> &Engine {
        &self.session.shared.engine
    }

    /// This broker as answers describe it.
    fn broker(&self) -> Broker {
        let shared = &self.session.shared;
        Broker {
            id: shared.engine.node.id,
            host: text(&shared.options.advertised_host),
            port: i32::from(shared.options.advertised_port),
        }
    }
}

/// Where clients reach this broker.
#[derive(Debug, Clone)]
struct Broker {
    id: i32,
    host: KafkaString,
    port: i32,
}

/// The answer to one request, not yet encoded.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) body: Body,
    /// The first error in the answer, for metrics.
    pub(super) error: ErrorCode,
}

/// The shapes an answer has.
#[derive(Debug)]
pub(super) enum Body {
    /// A message of the schema.
    Message(Box<dyn Message>),
    /// Records with their envelope, encoded around the records instead of over them.
    Fetch(FetchReply),
    /// No answer at all (`acks=0`); with an error the connection closes.
    Nothing,
}

impl Reply {
    fn message(message: impl Message, error: ErrorCode) -> Self {
        Self { body: Body::Message(Box::new(message)), error }
    }

    fn nothing(error: ErrorCode) -> Self {
        Self { body: Body::Nothing, error }
    }
}

/// An answer that is there at once.
fn ready(message: impl Message, error: ErrorCode) -> Later<Reply> {
    Later::Now(Reply::message(message, error))
}

/// An answer that a future brings.
fn later(future: impl Future<Output = Reply> + Send + 'static) -> Later<Reply> {
    let future: BoxFuture<Reply> = Box::pin(future);
    Later::Then(future)
}

/// A message that can be written in a version.
pub(super) trait Message: std::fmt::Debug + Send + 'static {
    /// Appends the body of the answer.
    fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError>;
}

macro_rules! messages {
    ($($message:ident),+ $(,)?) => {
        $(impl Message for wire::$message {
            fn encode(&self, out: &mut BytesMut, version: i16) -> Result<(), ProtocolError> {
                self.write(out, version)
            }
        })+
    };
}

messages! {
    AlterConfigsResponseData, ApiVersionsResponseData, CreatePartitionsResponseData,
    CreateTopicsResponseData, IncrementalAlterConfigsResponseData, DeleteGroupsResponseData,
    DeleteRecordsResponseData, DeleteTopicsResponseData,
    DescribeClusterResponseData, DescribeConfigsResponseData, DescribeGroupsResponseData,
    FindCoordinatorResponseData, HeartbeatResponseData, InitProducerIdResponseData,
    JoinGroupResponseData, LeaveGroupResponseData, ListGroupsResponseData,
    ListOffsetsResponseData, MetadataResponseData, OffsetCommitResponseData,
    OffsetDeleteResponseData, OffsetFetchResponseData, ProduceResponseData, SyncGroupResponseData,
}

/// Copies text for an answer.
fn text(text: &str) -> KafkaString {
    KafkaString::from(text.to_owned())
}

/// Copies the text of an optional field of a request.
fn owned(text: Option<&KafkaString>) -> Option<String> {
    text.map(|text| text.as_str().to_owned())
}

/// The identity of a topic as the wire has it.
const fn uuid(id: TopicId) -> KafkaUuid {
    let bits = id.as_u128();
    KafkaUuid::from_parts((bits >> 64) as u64, bits as u64)
}

/// The identity of a topic from the wire; none for the zero value, which means absent.
fn topic_id(id: KafkaUuid) -> Option<TopicId> {
    let bits = uuid::Uuid::from(id).as_u128();
    (bits != 0).then(|| TopicId::from_u128(bits))
}

/// The first error among `codes`, for metrics.
fn first_error(codes: impl IntoIterator<Item = i16>) -> ErrorCode {
    codes.into_iter().find(|code| *code != 0).map_or(ErrorCode::None, ErrorCode::from)
}
