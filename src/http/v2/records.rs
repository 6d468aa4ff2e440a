//! `GET /consumers/{group}/instances/{instance}/records`: the poll.

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::encode::array_into;
use super::instance_path::InstancePath;
use super::produce::RecordHeader;
use crate::consumers::{Delivery, Format, PollRequest};
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::get_only::GetOnly;
use crate::http::media::{Embedded, Media};
use crate::http::state::AppState;
use crate::http::{media, query};

/// JSON around one record, for the first guess of the answer's size.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// One record as it is read.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumedRecord {
    /// Its topic.
    #[schema(example = "orders")]
    pub topic: String,
    /// Its key in the instance's format.
    #[schema(value_type = Value)]
    pub key: Option<serde_json::Value>,
    /// Its value in the instance's format; null for a tombstone.
    #[schema(value_type = Value)]
    pub value: Option<serde_json::Value>,
    /// Its partition.
    #[schema(example = 0)]
    pub partition: i32,
    /// Its offset.
    #[schema(example = 42)]
    pub offset: i64,
    /// Milliseconds since the epoch.
    #[schema(example = 1_790_000_000_000_i64)]
    pub timestamp: i64,
    /// Its headers in their order; absent when there are none.
    pub headers: Option<Vec<RecordHeader>>,
}

/// Reads the next records of an instance.
///
/// Answers as soon as there is a record; an empty array comes only after the whole timeout.
#[utoipa::path(
    get, path = "/consumers/{group}/instances/{instance}/records", tag = "consumers",
    operation_id = "readRecords",
    params(
        InstancePath,
        ("timeout" = Option<u64>, Query, description = "Longest wait for a first record, in ms"),
        ("max_bytes" = Option<usize>, Query, description = "Bytes of keys, values and headers at most; a larger record comes alone"),
    ),
    responses(
        (status = 200, description = "The records in the instance's format", content(
            (Vec<ConsumedRecord> = "application/vnd.kafka.json.v2+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.binary.v2+json"),
            (Vec<ConsumedRecord> = "application/vnd.kafka.text.v2+json"),
        )),
        (status = 404, body = ErrorBody, description = "40403: no such instance",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 406, body = ErrorBody, description = "40601: another format than the instance's is accepted",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 408, body = ErrorBody, description = "40801: a record is not in the instance's format; it stays",
            content_type = "application/vnd.kafka.v2+json"),
        (status = 409, body = ErrorBody, description = "40903: the instance is not subscribed",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn poll(
    _: GetOnly,
    State(state): State<AppState>,
    Path(path): Path<InstancePath>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let accepted = media::accepted(&headers)?;
    let key = path.key();
    let format = state.consumers.describe(&key)?.settings.format;
    let served = embedded(format);
    let content_type = served.media_type();
    let answered = async {
        if matches!(accepted, Media::Embedded(wanted) if wanted != served)
            && !media::allows(&headers, served)
        {
            let message =
                format!("accept differs from the instance's format '{}'", format.as_str());
            return Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, 40601, message));
        }
        let request = PollRequest {
            timeout: positive(query.as_deref(), "timeout")?.map(Duration::from_millis),
            bytes_max: positive(query.as_deref(), "max_bytes")?
                .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        let delivery = state.consumers.poll(&key, request).await?;
        let mut body = Vec::with_capacity(guess(&delivery, format));
        let on_error = delivery.settings().on_decode_error;
        let encoded = array_into(delivery.records(), format, on_error, &mut body);
        match encoded.stopped {
            Some(error) if encoded.count == 0 => {
                Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, 40801, error.to_string()))
            }
            _ => {
                // What follows a record that cannot be shown begins the next poll with it.
                delivery.confirm_first(encoded.count);
                Ok(body)
            }
        }
    };
    let body = answered.await.map_err(|error: ApiError| error.with_content_type(content_type))?;
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// A number above zero; zero and negative numbers mean the default, as in Confluent REST Proxy.
fn positive(query: Option<&str>, name: &str) -> ApiResult<Option<u64>> {
    let number: Option<i64> = query::number(query, name)?;
    Ok(number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0))
}

const fn embedded(format: Format) -> Embedded {
    match format {
        Format::Binary => Embedded::Binary,
        Format::Json => Embedded::Json,
        Format::Text => Embedded::Text,
    }
}

fn guess(delivery: &Delivery, format: Format) -> usize {
    let bytes = delivery.bytes();
    let payload = if format == Format::Binary { bytes.div_ceil(3) * 4 } else { bytes };
    payload + delivery.record_count() * RECORD_OVERHEAD_BYTES + 2
}
