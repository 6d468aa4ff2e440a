//! `/admin/groups`: consumer groups with members, offsets and lag, and deleting them.

use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::base::ids::{GroupId, Offset, PartitionId, TimestampMs, TopicName, TopicPartition};
use crate::engine::groups::{GroupDescription, GroupError, OffsetQuery};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::groups::{self, Lag};
use crate::http::query;
use crate::http::state::AppState;

/// A group in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupSummary {
    /// Its id.
    #[schema(example = "billing")]
    pub group_id: String,
    /// Its state, in Kafka's words: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    #[schema(example = "Stable")]
    pub state: &'static str,
    /// `consumer` for consumers; empty if the group never had a member.
    #[schema(example = "consumer")]
    pub protocol_type: String,
    /// Number of its members.
    #[schema(example = 2)]
    pub members: usize,
}

/// A group with everything about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupDetail {
    /// Its id.
    #[schema(example = "billing")]
    pub group_id: String,
    /// Its state, in Kafka's words: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
    #[schema(example = "Stable")]
    pub state: &'static str,
    /// `consumer` for consumers; empty if the group never had a member.
    #[schema(example = "consumer")]
    pub protocol_type: String,
    /// The rule by which partitions are assigned; empty unless the group is stable.
    #[schema(example = "range")]
    pub protocol_name: String,
    /// How often the group has been formed.
    #[schema(example = 3)]
    pub generation_id: i32,
    /// Who is in it.
    pub members: Vec<GroupMember>,
    /// What it committed, the largest lag first.
    pub offsets: Vec<GroupOffset>,
    /// The sum of all lags.
    #[schema(example = 2)]
    pub total_lag: i64,
}

/// A member of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupMember {
    /// Its id, given by the server.
    #[schema(example = "worker-1-5b8e1a9c-6d4f-4c0e-9f0b-2a7c3d1e8f60")]
    pub member_id: String,
    /// The identity of a static member.
    pub instance_id: Option<String>,
    /// The client's own name; of an HTTP consumer instance, the name of the instance.
    #[schema(example = "worker-1")]
    pub client_id: String,
    /// The address it connected from.
    #[schema(example = "/127.0.0.1")]
    pub client_host: String,
    /// What it reads.
    pub assignment: Vec<PartitionName>,
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartitionName {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
}

/// What a group committed for a partition.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupOffset {
    /// The topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The partition.
    #[schema(example = 0)]
    pub partition: PartitionId,
    /// The next offset the group will read.
    #[schema(example = 40)]
    pub committed_offset: Offset,
    /// The client's own note.
    pub metadata: String,
    /// When it was committed, in ms since 1970.
    #[schema(example = 1790000000000_i64)]
    pub commit_timestamp: TimestampMs,
    /// First readable offset of the partition.
    #[schema(example = 0)]
    pub log_start_offset: Offset,
    /// Offset after the last record of the partition.
    #[schema(example = 42)]
    pub log_end_offset: Offset,
    /// Offsets between the committed one and the end.
    #[schema(example = 2)]
    pub lag: i64,
    /// The member that reads the partition.
    #[schema(example = "worker-1-5b8e1a9c-6d4f-4c0e-9f0b-2a7c3d1e8f60")]
    pub member_id: Option<String>,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedOffsets {
    /// The partitions for which the group had an offset.
    pub deleted: Vec<PartitionName>,
}

impl From<&TopicPartition> for PartitionName {
    fn from(name: &TopicPartition) -> Self {
        Self { topic: name.topic.to_string(), partition: name.partition }
    }
}

impl From<Lag> for GroupOffset {
    fn from(lag: Lag) -> Self {
        Self {
            topic: lag.partition.topic.to_string(),
            partition: lag.partition.partition,
            committed_offset: lag.committed.offset,
            metadata: lag.committed.metadata,
            commit_timestamp: lag.committed.commit_timestamp,
            log_start_offset: lag.log_start_offset,
            log_end_offset: lag.log_end_offset,
            lag: lag.lag,
            member_id: lag.owner.map(|owner| owner.member_id),
        }
    }
}

pub(super) fn find(state: &AppState, id: &str) -> ApiResult<GroupDescription> {
    groups::find(state, id).ok_or_else(|| missing(id))
}

pub(super) fn missing(id: &str) -> ApiError {
    ApiError {
        message: format!("group '{id}' does not exist"),
        ..GroupError::GroupIdNotFound.into()
    }
}

/// Says which group an error is about.
pub(super) fn explain(id: &str, error: GroupError) -> ApiError {
    let message = format!("group '{id}': {error}");
    ApiError { message, ..error.into() }
}

/// Lists all groups, those of other protocols than consumers' included.
#[utoipa::path(
    get, path = "/admin/groups", tag = "admin", operation_id = "listGroups",
    responses((status = 200, body = Vec<GroupSummary>, description = "The groups by id"))
)]
pub async fn list_groups(State(state): State<AppState>, headers: HeaderMap) -> ApiResult<Response> {
    let all = state.engine.groups.list();
    let groups: Vec<_> = all
        .into_iter()
        .map(|group| GroupSummary {
            group_id: group.group_id.to_string(),
            state: group.state.as_str(),
            protocol_type: group.protocol_type,
            members: group.members.len(),
        })
        .collect();
    super::json(&headers, &groups)
}

/// Describes a group: members, what they read, committed offsets and lag.
#[utoipa::path(
    get, path = "/admin/groups/{group}", tag = "admin", operation_id = "getGroup",
    params(("group" = String, Path, description = "Id of the group", example = "billing")),
    responses(
        (status = 200, body = GroupDetail),
        (status = 404, body = ErrorBody, description = "40405: no such group",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn get_group(
    State(state): State<AppState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let group = find(&state, &id)?;
    let lags = groups::lags(&state, &group)?;
    let members = group.members.iter().map(|member| GroupMember {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        assignment: groups::assignment(&group, member).iter().map(PartitionName::from).collect(),
    });
    let detail = GroupDetail {
        members: members.collect(),
        total_lag: groups::total(&lags),
        offsets: lags.into_iter().map(GroupOffset::from).collect(),
        group_id: group.group_id.to_string(),
        state: group.state.as_str(),
        protocol_type: group.protocol_type,
        protocol_name: group.protocol_name,
        generation_id: group.generation_id,
    };
    super::json(&headers, &detail)
}

/// Deletes a group without members, with all its committed offsets.
#[utoipa::path(
    delete, path = "/admin/groups/{group}", tag = "admin", operation_id = "deleteGroup",
    params(("group" = String, Path, description = "Id of the group", example = "billing")),
    responses(
        (status = 204, description = "The group is gone, also after a crash"),
        (status = 404, body = ErrorBody, description = "40405: no such group",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40002: the group has members",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn delete_group(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    let deleted = state.engine.groups.delete(&GroupId::from(id.as_str())).await;
    deleted.map_err(|error| explain(&id, error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes the offsets that a group committed for a topic or for one partition of it.
#[utoipa::path(
    delete, path = "/admin/groups/{group}/offsets", tag = "admin",
    operation_id = "deleteGroupOffsets",
    params(
        ("group" = String, Path, description = "Id of the group", example = "billing"),
        ("topic" = String, Query, description = "Name of the topic", example = "orders"),
        ("partition" = Option<i32>, Query,
            description = "Number of the partition; all that have an offset if absent", example = 0),
    ),
    responses(
        (status = 200, body = DeletedOffsets),
        (status = 404, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40401: no such topic, 40402: no such partition, 40405: no such group"),
        (status = 409, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "40002: a member of the group is subscribed to the topic"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json",
            description = "topic is missing"),
    )
)]
pub async fn delete_offsets(
    State(state): State<AppState>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let topic = query::find(query.as_deref(), "topic")?;
    let topic = topic.ok_or_else(|| ApiError::unprocessable("query parameter topic is missing"))?;
    let partition = query::number::<PartitionId>(query.as_deref(), "partition")?;
    let group = find(&state, &id)?;
    let found = state.engine.topics.find(&topic);
    let found = found.ok_or_else(|| ApiError::topic_not_found(&topic))?;
    if let Some(number) = partition.filter(|number| !(0..found.partition_count).contains(number)) {
        return Err(ApiError::partition_not_found(&topic, number));
    }
    let there = committed_of(&state, &group, &found.name, partition)?;
    let results = state.engine.groups.delete_offsets(&group.group_id, &there).await;
    for result in results.map_err(|error| explain(&id, error))? {
        result.map_err(|refusal| {
            let message = format!("offsets of group '{id}' for topic '{topic}': {refusal}");
            ApiError { message, ..refusal.into() }
        })?;
    }
    let deleted = there.iter().map(PartitionName::from).collect();
    super::json(&headers, &DeletedOffsets { deleted })
}

/// The partitions of a topic, or the one, that a group has an offset for.
fn committed_of(
    state: &AppState,
    group: &GroupDescription,
    topic: &TopicName,
    partition: Option<PartitionId>,
) -> ApiResult<Vec<TopicPartition>> {
    let all = state.engine.groups.committed(&group.group_id, &OffsetQuery::All)?;
    let names = all.into_iter().map(|(name, _)| name);
    let wanted = names.filter(|name| {
        name.topic == *topic && partition.is_none_or(|number| number == name.partition)
    });
    Ok(wanted.collect())
}
