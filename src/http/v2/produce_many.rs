//! `POST /records`: records for any topics in one request, all or none of them if wanted.

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::produce::{Head, ProduceAnswer, ProduceRecord, ProduceRefusal, answer, fill};
use super::produce_request::ProduceRequest;
use crate::http::body;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::produce::{
    Batches, DeliveryHeaders, DeliveryQuery, Once, TopicIndex, deliver, find_or_create, once,
};
use crate::http::state::AppState;

/// Topics in one request.
const TOPICS_MAX: usize = 256;

/// Records for several topics.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"records": [
    {"topic": "orders", "key": "o-17", "value": {"amount": 12.5}},
    {"topic": "audit", "value": {"order": "o-17"}},
]}))]
pub struct ProduceManyBody {
    /// The records, at least one.
    pub records: Vec<ProduceRecordTo>,
}

/// One record and its topic.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProduceRecordTo {
    /// Name of the topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// The record.
    #[serde(flatten)]
    pub record: ProduceRecord,
}

/// Produces records to several topics.
///
/// With `atomic=true`, readers of committed records see all of them or none, also when the server
/// is killed in between.
#[utoipa::path(
    post, path = "/records", tag = "records", operation_id = "produceToTopics",
    params(DeliveryQuery, DeliveryHeaders),
    request_body(content(
        (ProduceManyBody = "application/vnd.kafka.json.v2+json"),
        (ProduceManyBody = "application/vnd.kafka.binary.v2+json",
            example = json!({"records": [{"topic": "orders", "value": "YWJj"}]})),
        (ProduceManyBody = "application/vnd.kafka.text.v2+json",
            example = json!({"records": [{"topic": "orders", "value": "hello"}]})),
        (ProduceManyBody = "application/json"),
    )),
    responses(
        (status = 200, body = ProduceAnswer, description = "One entry a record, errors included",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 400, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 403, body = ProduceRefusal, description = "40301, in an entry or of the whole: the broker's own topics cannot be written to",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 404, body = ErrorBody, description = "40401: no such topic",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "A request with the idempotency key is being worked on",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 413, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 415, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
        (status = 422, body = ErrorBody, content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn to_topics(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    request: Body,
) -> ApiResult<Response> {
    let head = Head::read(&headers, query.as_deref())?;
    let bytes = body::read(&state.bodies, request).await?;
    let claim = match once::begin(&state, &headers, &head.identity([b"", b"", &bytes]))? {
        Once::Begin(claim) => claim,
        Once::Replay(response) => return Ok(response),
    };
    let names = names(&ProduceRequest::parse(&bytes)?)?;
    let mut topics = Vec::with_capacity(names.len());
    for name in &names {
        topics.push(find_or_create(&state, name).await?);
    }
    let filled = {
        let request = ProduceRequest::parse(&bytes)?;
        let mut batches = Batches::new(&state, &head.options, request.records.len());
        let indexes: Vec<TopicIndex> = topics.into_iter().map(|t| batches.topic(t)).collect();
        fill(&mut batches, head.format, &request, |_, record| {
            let name = record.topic.as_deref().unwrap_or_default();
            let at = names.binary_search_by(|known| known.as_str().cmp(name)).ok();
            let index = at.and_then(|at| indexes.get(at)).copied();
            index.map(|index| (index, None)).ok_or_else(|| ApiError::topic_not_found(name))
        })?;
        batches.finish()
    };
    deliver(&state, &head.options, claim, filled, answer).await
}

/// The names of all topics, sorted, each once.
fn names(request: &ProduceRequest<'_>) -> ApiResult<Vec<String>> {
    let mut names = Vec::new();
    for (at, record) in request.records.iter().enumerate() {
        let missing = || ApiError::unprocessable(format!("records[{at}].topic is missing"));
        let name = record.topic.as_deref().ok_or_else(missing)?;
        if let Err(place) = names.binary_search_by(|known: &String| known.as_str().cmp(name)) {
            if names.len() == TOPICS_MAX {
                let message = format!("records are for more than {TOPICS_MAX} topics");
                return Err(ApiError::unprocessable(message));
            }
            names.insert(place, name.to_owned());
        }
    }
    Ok(names)
}
