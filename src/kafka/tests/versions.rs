//! The table of APIs: what is advertised is served, in every version, and nothing panics.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{Client, connected, frame};
use crate::kafka::KafkaOptions;
use crate::kafka::api::{Api, Call, TABLE};
use crate::kafka::dispatch::Request;
use crate::kafka::fake_engine::{Fake, TOPIC};
use crate::protocol::messages::{self as wire, ApiVersionsResponseData};
use crate::protocol::{ApiKey, KafkaString};

fn served(api: &Api) -> impl Iterator<Item = i16> + use<> {
    let range = api.range;
    (0..100).filter(move |version| range.serves(*version))
}

async fn api_versions(client: &mut Client, version: i16) -> ApiVersionsResponseData {
    let name: &[u8] = if version >= 3 { b"\x05test\x041.0\0" } else { b"" };
    client.send(&frame(18, version, 1, name)).await;
    // The header of this answer never has tagged fields; an unknown version is answered in v0.
    let mut body = client.answer(18, version, 1).await;
    let answered = if version > 4 { 0 } else { version };
    let response = ApiVersionsResponseData::read(&mut body, answered).unwrap();
    assert!(body.is_empty());
    response
}

/// (key, lowest, highest) as advertised.
fn ranges(response: &ApiVersionsResponseData) -> Vec<(i16, i16, i16)> {
    let keys = response.api_keys.iter();
    keys.map(|api| (api.api_key, api.min_version, api.max_version)).collect()
}

const ADVERTISED: [(i16, i16, i16); 25] = [
    (0, 0, 11),
    (1, 4, 12),
    (2, 1, 8),
    (3, 0, 12),
    (8, 2, 8),
    (9, 1, 8),
    (10, 0, 4),
    (11, 0, 9),
    (12, 0, 4),
    (13, 0, 5),
    (14, 0, 5),
    (15, 0, 6),
    (16, 0, 5),
    (18, 0, 4),
    (19, 2, 7),
    (20, 1, 6),
    (21, 0, 2),
    (22, 0, 4),
    (32, 1, 4),
    (33, 0, 2),
    (37, 0, 3),
    (42, 0, 2),
    (44, 0, 1),
    (47, 0, 0),
    (60, 0, 1),
];

#[tokio::test]
async fn api_versions_lists_the_table_in_every_version() {
    let (_fake, mut client, _shutdown) = connected().await;
    for version in 0..=4 {
        let response = api_versions(&mut client, version).await;
        assert_eq!(response.error_code, 0);
        assert_eq!(ranges(&response), ADVERTISED, "version {version}");
    }
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let (_fake, mut client, _shutdown) = connected().await;
    for version in [5, 99, i16::MAX] {
        let response = api_versions(&mut client, version).await;
        assert_eq!(response.error_code, 35);
        assert_eq!(ranges(&response), ADVERTISED);
    }
    // The connection is as good as before.
    assert_eq!(api_versions(&mut client, 3).await.error_code, 0);
}

#[tokio::test]
async fn a_client_without_a_proper_name_is_an_invalid_request() {
    let (_fake, mut client, _shutdown) = connected().await;
    client.send(&frame(18, 3, 1, b"\x05-bad\x041.0\0")).await;
    let mut body = client.answer(18, 3, 1).await;
    assert_eq!(ApiVersionsResponseData::read(&mut body, 3).unwrap().error_code, 42);
}

/// Sends `request` in `version` and reads the answer with the codec crate, to its last byte.
macro_rules! exchange {
    ($client:expr, $api:expr, $version:expr, $request:expr, $response:ident) => {{
        let (key, version) = ($api.key as i16, $version);
        let mut body = BytesMut::new();
        $request.write(&mut body, version).unwrap();
        $client.send(&frame(key, version, 7, &body)).await;
        let mut answer = $client.answer(key, version, 7).await;
        let response = wire::$response::read(&mut answer, version).unwrap();
        assert!(answer.is_empty(), "{} v{version} has bytes left", $api.name);
        response
    }};
}

/// For each API a request that every version can carry, answered in every served version.
macro_rules! round_trips {
    ($client:expr, $($key:ident: |$version:ident| $request:expr => $response:ident;)+) => {
        for api in &TABLE {
            match api.key {
                $(ApiKey::$key => for $version in served(api) {
                    exchange!($client, api, $version, $request, $response);
                },)+
                other => panic!("{other:?} is not covered"),
            }
        }
    };
}

#[tokio::test]
async fn every_api_answers_in_every_version_it_serves() {
    let (_fake, mut client, _shutdown) = connected().await;
    let group_id = || text("group");
    round_trips! { client,
        Produce: |version| produce() => ProduceResponseData;
        Fetch: |version| wire::FetchRequestData::default() => FetchResponseData;
        ListOffsets: |version| list_offsets() => ListOffsetsResponseData;
        Metadata: |version| metadata(&[TOPIC, "a b", "auto"]) => MetadataResponseData;
        OffsetCommit: |version| offset_commit() => OffsetCommitResponseData;
        OffsetFetch: |version| offset_fetch(version) => OffsetFetchResponseData;
        FindCoordinator: |version| find_coordinator(version) => FindCoordinatorResponseData;
        JoinGroup: |version| wire::JoinGroupRequestData::default() => JoinGroupResponseData;
        Heartbeat: |version| wire::HeartbeatRequestData::default().with_group_id(group_id())
            => HeartbeatResponseData;
        LeaveGroup: |version| leave_group(version) => LeaveGroupResponseData;
        SyncGroup: |version| wire::SyncGroupRequestData::default().with_group_id(group_id())
            => SyncGroupResponseData;
        DescribeGroups: |version| wire::DescribeGroupsRequestData::default()
            .with_groups(vec![group_id()]) => DescribeGroupsResponseData;
        ListGroups: |version| wire::ListGroupsRequestData::default() => ListGroupsResponseData;
        ApiVersions: |version| wire::ApiVersionsRequestData::default()
            .with_client_software_name(text("test"))
            .with_client_software_version(text("1")) => ApiVersionsResponseData;
        CreateTopics: |version| create_topics(&["a b", TOPIC]) => CreateTopicsResponseData;
        DeleteRecords: |version| wire::DeleteRecordsRequestData::default()
            => DeleteRecordsResponseData;
        DeleteGroups: |version| wire::DeleteGroupsRequestData::default()
            => DeleteGroupsResponseData;
        OffsetDelete: |version| wire::OffsetDeleteRequestData::default()
            => OffsetDeleteResponseData;
        DeleteTopics: |version| wire::DeleteTopicsRequestData::default()
            => DeleteTopicsResponseData;
        InitProducerId: |version| wire::InitProducerIdRequestData::default()
            .with_transactional_id(Some(text("tx"))) => InitProducerIdResponseData;
        DescribeConfigs: |version| describe_configs() => DescribeConfigsResponseData;
        AlterConfigs: |version| alter_configs() => AlterConfigsResponseData;
        CreatePartitions: |version| wire::CreatePartitionsRequestData::default()
            => CreatePartitionsResponseData;
        IncrementalAlterConfigs: |version| incremental_alter_configs()
            => IncrementalAlterConfigsResponseData;
        DescribeCluster: |version| wire::DescribeClusterRequestData::default()
            => DescribeClusterResponseData;
    }
}

fn alter_configs() -> wire::AlterConfigsRequestData {
    let resource = wire::alter_configs_request::AlterConfigsResource {
        resource_type: 2,
        resource_name: text("a b"),
        ..Default::default()
    };
    wire::AlterConfigsRequestData { resources: vec![resource], ..Default::default() }
}

fn incremental_alter_configs() -> wire::IncrementalAlterConfigsRequestData {
    let resource = wire::incremental_alter_configs_request::AlterConfigsResource {
        resource_type: 4,
        resource_name: text("1"),
        ..Default::default()
    };
    wire::IncrementalAlterConfigsRequestData { resources: vec![resource], ..Default::default() }
}

fn text(text: &str) -> KafkaString {
    text.to_owned().into()
}

fn produce() -> wire::ProduceRequestData {
    let partition = wire::PartitionProduceData { index: 0, ..Default::default() };
    let topic = wire::TopicProduceData {
        name: text(TOPIC),
        partition_data: vec![partition],
        ..Default::default()
    };
    wire::ProduceRequestData { acks: 1, topic_data: vec![topic], ..Default::default() }
}

fn metadata(names: &[&str]) -> wire::MetadataRequestData {
    let topics = names.iter().map(|name| metadata_topic(name)).collect();
    wire::MetadataRequestData {
        topics: Some(topics),
        allow_auto_topic_creation: true,
        ..Default::default()
    }
}

fn offset_fetch(version: i16) -> wire::OffsetFetchRequestData {
    if version < 8 {
        let topic = wire::OffsetFetchRequestTopic {
            name: text("a b"),
            partition_indexes: vec![1],
            ..Default::default()
        };
        return wire::OffsetFetchRequestData { topics: Some(vec![topic]), ..Default::default() };
    }
    let topic = wire::OffsetFetchRequestTopics {
        name: text(TOPIC),
        partition_indexes: vec![1],
        ..Default::default()
    };
    let some = wire::OffsetFetchRequestGroup { topics: Some(vec![topic]), ..Default::default() };
    let all = wire::OffsetFetchRequestGroup { topics: None, ..Default::default() };
    wire::OffsetFetchRequestData { groups: vec![some, all], ..Default::default() }
}

fn find_coordinator(version: i16) -> wire::FindCoordinatorRequestData {
    let request = wire::FindCoordinatorRequestData::default();
    if version < 4 {
        return request.with_key(text("group"));
    }
    request.with_coordinator_keys(vec![text("a"), text("b")])
}

fn leave_group(version: i16) -> wire::LeaveGroupRequestData {
    let request = wire::LeaveGroupRequestData::default().with_group_id(text("group"));
    if version < 3 {
        return request.with_member_id(text("member"));
    }
    let member = wire::MemberIdentity { member_id: text("member"), ..Default::default() };
    request.with_members(vec![member])
}

fn create_topics(names: &[&str]) -> wire::CreateTopicsRequestData {
    let topics = names.iter().map(|name| creatable(name)).collect();
    wire::CreateTopicsRequestData { topics, ..Default::default() }
}

fn metadata_topic(name: &str) -> wire::MetadataRequestTopic {
    wire::MetadataRequestTopic { name: Some(text(name)), ..Default::default() }
}

fn creatable(name: &str) -> wire::CreatableTopic {
    wire::CreatableTopic { name: text(name), num_partitions: 1, ..Default::default() }
}

fn list_offsets() -> wire::ListOffsetsRequestData {
    let ask = |partition_index, timestamp| wire::list_offsets_request::ListOffsetsPartition {
        partition_index,
        timestamp,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let topic = wire::list_offsets_request::ListOffsetsTopic {
        name: text(TOPIC),
        partitions: vec![ask(0, -1), ask(1, 5), ask(9, -2)],
        ..Default::default()
    };
    wire::ListOffsetsRequestData { topics: vec![topic], ..Default::default() }
}

fn offset_commit() -> wire::OffsetCommitRequestData {
    let topic = |name: &str| wire::OffsetCommitRequestTopic {
        name: text(name),
        partitions: vec![Default::default()],
        ..Default::default()
    };
    let topics = vec![topic("a b"), topic(TOPIC)];
    wire::OffsetCommitRequestData { topics, ..Default::default() }
}

fn describe_configs() -> wire::DescribeConfigsRequestData {
    let resource = |resource_type, name: &str| wire::DescribeConfigsResource {
        resource_type,
        resource_name: text(name),
        ..Default::default()
    };
    let resources =
        vec![resource(2, TOPIC), resource(2, "missing"), resource(4, "7"), resource(4, "x")];
    wire::DescribeConfigsRequestData { resources, include_synonyms: true, ..Default::default() }
}

#[tokio::test]
async fn topics_are_created_described_and_deleted() {
    let fake = Fake::new();
    let (address, _shutdown) = fake.serve(KafkaOptions::default()).await;
    let mut client = Client::connect(address).await;
    let row = |key: ApiKey| TABLE.iter().find(|api| api.key == key).unwrap();
    let create = create_topics(&["new", "twice", "twice", TOPIC]);
    let created = exchange!(client, row(ApiKey::CreateTopics), 7, create, CreateTopicsResponseData);
    let codes = created.topics.iter().map(|topic| (topic.name.as_str(), topic.error_code));
    assert_eq!(codes.collect::<Vec<_>>(), [("new", 0), ("twice", 42), (TOPIC, 36)]);
    let made = &created.topics[0];
    assert_eq!((made.num_partitions, made.replication_factor), (2, 1));
    assert_eq!(made.configs.as_ref().unwrap()[0].name.as_str(), "cleanup.policy");

    let by_id = wire::MetadataRequestTopic { topic_id: made.topic_id, ..Default::default() };
    let both = wire::MetadataRequestTopic { topic_id: made.topic_id, ..metadata_topic("new") };
    let topics = Some(vec![by_id, both, metadata_topic("auto"), metadata_topic("auto")]);
    let request =
        wire::MetadataRequestData { topics, allow_auto_topic_creation: true, ..Default::default() };
    let metadata = exchange!(client, row(ApiKey::Metadata), 12, request, MetadataResponseData);
    let names = metadata.topics.iter().map(|topic| {
        (
            topic.error_code,
            topic.name.as_ref().map_or("", |name| name.as_str()),
            topic.partitions.len(),
        )
    });
    assert_eq!(names.collect::<Vec<_>>(), [(0, "new", 2), (42, "new", 0), (0, "auto", 2)]);
    assert_eq!(metadata.topics[0].partitions[1].isr_nodes, [7]);

    let by_id = wire::DeleteTopicState { topic_id: made.topic_id, ..Default::default() };
    let again = wire::DeleteTopicState { name: Some(text("new")), ..Default::default() };
    let request =
        wire::DeleteTopicsRequestData { topics: vec![by_id, again], ..Default::default() };
    let deleted =
        exchange!(client, row(ApiKey::DeleteTopics), 6, request, DeleteTopicsResponseData);
    let codes = deleted.responses.iter().map(|topic| topic.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [0, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_make_any_decoder_panic(
        body in proptest::collection::vec(prop_oneof![3 => 0_u8..4, 1 => any::<u8>()], 0..160),
    ) {
        let session = Fake::new().session();
        for api in &TABLE {
            for version in served(api) {
                let body = Bytes::from(body.clone());
                let call = Call { session: session.clone(), version, client_id: None, body };
                let _ = (api.start)(call);
            }
        }
    }

    #[test]
    fn no_bytes_make_the_header_panic(
        key in 0_i16..70,
        version in -1_i16..14,
        rest in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&key.to_be_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&rest);
        let _ = Request::parse(bytes.freeze());
    }
}
