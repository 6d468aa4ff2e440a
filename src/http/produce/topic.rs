//! The topic of a produce request: found, or created when the server does that by itself.

use std::sync::Arc;

use crate::engine::topics::Topic;
use crate::http::error::{ApiError, ApiResult};
use crate::http::state::AppState;

/// Finds a topic, or creates it if `auto.create.topics.enable` allows that.
///
/// # Errors
/// 404/40401 when there is none, and what creating it reports.
///
/// # Cancel safety
/// Dropping the future may or may not leave the topic created.
pub async fn find_or_create(state: &AppState, name: &str) -> ApiResult<Arc<Topic>> {
    if let Some(topic) = state.engine.topics.find(name) {
        return Ok(topic);
    }
    match state.engine.topics.auto_create(name).await {
        Some(created) => Ok(created?),
        None => Err(ApiError::topic_not_found(name)),
    }
}
