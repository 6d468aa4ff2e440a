//! Access control lists: requests are checked, and refused as Kafka refuses them without an
//! authorizer.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::envelope::{ResourceMetadata, collection};
use super::error::V3Error;
use super::paths::ClusterPath;
use super::{Scope, V3Result, request};
use crate::http::error::ErrorBody;
use crate::http::state::AppState;

/// The routes of this resource.
pub(super) fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(search, create, delete)).routes(routes!(create_batch))
}

/// The only name that a resource of type `CLUSTER` can have.
const CLUSTER_NAME: &str = "kafka-cluster";

/// Kinds of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Kafka's names say it")]
pub enum AclResourceType {
    Unknown,
    Any,
    Topic,
    Group,
    Cluster,
    TransactionalId,
    DelegationToken,
}

/// How the name of a resource is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Kafka's names say it")]
pub enum AclPatternType {
    Unknown,
    Any,
    Match,
    Literal,
    Prefixed,
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Kafka's names say it")]
pub enum AclOperation {
    Unknown,
    Any,
    All,
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    ClusterAction,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
}

/// Whether it may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Kafka's names say it")]
pub enum AclPermission {
    Unknown,
    Any,
    Deny,
    Allow,
}

/// An entry of an access control list.
#[derive(Debug, Serialize, ToSchema)]
pub struct KafkaAcl {
    /// What this is.
    #[schema(example = "KafkaAcl")]
    pub kind: &'static str,
    /// Where it is.
    pub metadata: ResourceMetadata,
    /// The cluster.
    #[schema(example = "lkc-1")]
    pub cluster_id: String,
    /// The entry.
    #[serde(flatten)]
    pub entry: CreateAclRequest,
}

collection! {
    /// Entries of access control lists.
    KafkaAclList of KafkaAcl
}

/// An entry to create.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAclRequest {
    /// Kind of the resource.
    pub resource_type: AclResourceType,
    /// Name of the resource.
    #[schema(example = "orders")]
    pub resource_name: String,
    /// How the name is meant.
    pub pattern_type: AclPatternType,
    /// Who.
    #[schema(example = "User:alice")]
    pub principal: String,
    /// From where.
    #[schema(example = "*")]
    pub host: String,
    /// What may be done.
    pub operation: AclOperation,
    /// Whether it may be done.
    pub permission: AclPermission,
}

/// Entries to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAclBatchRequest {
    /// The entries.
    pub data: Vec<CreateAclRequest>,
}

fn disabled() -> V3Error {
    V3Error::refused("security features are disabled: no authorizer is configured")
}

impl CreateAclRequest {
    fn check(&self) -> V3Result<()> {
        let is_cluster = self.resource_type == AclResourceType::Cluster;
        if is_cluster && self.resource_name != CLUSTER_NAME {
            let name = &self.resource_name;
            let message = format!("resource_name '{name}' of a CLUSTER is not '{CLUSTER_NAME}'");
            return Err(V3Error::refused(message));
        }
        Ok(())
    }
}

/// Reads a parameter of the query that has a closed set of values.
fn choice<T: DeserializeOwned>(scope: &Scope, name: &str) -> V3Result<Option<T>> {
    let Some(text) = scope.query(name)? else { return Ok(None) };
    let parsed = serde_json::from_value(serde_json::Value::String(text.to_ascii_uppercase()));
    let unknown = |_| V3Error::bad_request(format!("{name} '{text}' does not exist"));
    parsed.map(Some).map_err(unknown)
}

/// As [`choice`], for one that must be there and be known.
fn known<T: DeserializeOwned + PartialEq>(scope: &Scope, name: &str, unknown: &T) -> V3Result<T> {
    let missing = || V3Error::bad_request(format!("{name} is needed and must not be UNKNOWN"));
    choice(scope, name)?.filter(|value| value != unknown).ok_or_else(missing)
}

/// Searches the access control lists.
#[utoipa::path(
    get, path = "/v3/clusters/{cluster_id}/acls", tag = "clusters", operation_id = "getAclsV3",
    params(
        ClusterPath,
        ("resource_type" = Option<AclResourceType>, Query, description = "Kind of the resource; any if absent"),
        ("resource_name" = Option<String>, Query, description = "Name of the resource; any if absent", example = "orders"),
        ("pattern_type" = Option<AclPatternType>, Query, description = "How the name is meant; any if absent"),
        ("principal" = Option<String>, Query, description = "Who; anybody if absent", example = "User:alice"),
        ("host" = Option<String>, Query, description = "From where; anywhere if absent", example = "*"),
        ("operation" = Option<AclOperation>, Query, description = "What may be done; any if absent"),
        ("permission" = Option<AclPermission>, Query, description = "Whether it may be done; any if absent"),
    ),
    responses(
        (status = 200, body = KafkaAclList, description = "Not without an authorizer"),
        (status = 400, body = ErrorBody, description = "400: a parameter is invalid, 40002: there is no authorizer"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
    )
)]
pub async fn search(scope: Scope) -> V3Result<Response> {
    choice::<AclResourceType>(&scope, "resource_type")?;
    choice::<AclPatternType>(&scope, "pattern_type")?;
    choice::<AclOperation>(&scope, "operation")?;
    choice::<AclPermission>(&scope, "permission")?;
    Err(disabled())
}

/// Creates an entry of an access control list.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/acls", tag = "clusters", operation_id = "createAclV3",
    params(ClusterPath),
    request_body(content = CreateAclRequest, content_type = "application/json",
        example = json!({"resource_type": "TOPIC", "resource_name": "orders",
            "pattern_type": "LITERAL", "principal": "User:alice", "host": "*",
            "operation": "READ", "permission": "ALLOW"})),
    responses(
        (status = 201, description = "Not without an authorizer"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: there is no authorizer"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn create(
    State(state): State<AppState>,
    _: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: CreateAclRequest = request::read(&state, &headers, body).await?;
    wanted.check()?;
    Err(disabled())
}

/// Creates several entries of access control lists.
#[utoipa::path(
    post, path = "/v3/clusters/{cluster_id}/acls:batch", tag = "clusters",
    operation_id = "batchCreateAclsV3",
    params(ClusterPath),
    request_body(content = CreateAclBatchRequest, content_type = "application/json",
        example = json!({"data": [{"resource_type": "TOPIC", "resource_name": "orders",
            "pattern_type": "LITERAL", "principal": "User:alice", "host": "*",
            "operation": "READ", "permission": "ALLOW"}]})),
    responses(
        (status = 201, description = "Not without an authorizer"),
        (status = 400, body = ErrorBody, description = "400: the body cannot be read, 40002: there is no authorizer"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
        (status = 415, body = ErrorBody, description = "The body is not JSON"),
        (status = 422, body = ErrorBody, description = "42206: there is no body, or a member is missing"),
    )
)]
pub async fn create_batch(
    State(state): State<AppState>,
    _: Scope,
    headers: HeaderMap,
    body: Body,
) -> V3Result<Response> {
    let wanted: CreateAclBatchRequest = request::read(&state, &headers, body).await?;
    wanted.data.iter().try_for_each(CreateAclRequest::check)?;
    Err(disabled())
}

/// Deletes the entries that match.
#[utoipa::path(
    delete, path = "/v3/clusters/{cluster_id}/acls", tag = "clusters", operation_id = "deleteAclsV3",
    params(
        ClusterPath,
        ("resource_type" = AclResourceType, Query, description = "Kind of the resource"),
        ("resource_name" = Option<String>, Query, description = "Name of the resource; any if absent", example = "orders"),
        ("pattern_type" = AclPatternType, Query, description = "How the name is meant"),
        ("principal" = Option<String>, Query, description = "Who; anybody if absent", example = "User:alice"),
        ("host" = Option<String>, Query, description = "From where; anywhere if absent", example = "*"),
        ("operation" = AclOperation, Query, description = "What may be done"),
        ("permission" = AclPermission, Query, description = "Whether it may be done"),
    ),
    responses(
        (status = 200, body = KafkaAclList, description = "Not without an authorizer"),
        (status = 400, body = ErrorBody, description = "400: a parameter is missing or invalid, 40002: there is no authorizer"),
        (status = 404, body = ErrorBody, description = "404: no such cluster"),
    )
)]
pub async fn delete(scope: Scope) -> V3Result<Response> {
    known(&scope, "resource_type", &AclResourceType::Unknown)?;
    known(&scope, "pattern_type", &AclPatternType::Unknown)?;
    known(&scope, "operation", &AclOperation::Unknown)?;
    known(&scope, "permission", &AclPermission::Unknown)?;
    Err(disabled())
}
