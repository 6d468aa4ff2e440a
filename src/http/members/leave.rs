//! `DELETE /consumers/{group}/stream/{member}`: a member leaves its group at once.

use axum::extract::{Path, State};
use http::StatusCode;

use crate::base::ids::GroupId;
use crate::http::error::{ApiResult, ErrorBody};
use crate::http::state::AppState;

/// Has a member of streams or reads leave its group, without waiting for its session to end.
///
/// What it acknowledged is committed. A stream that it has open ends with a `fault`.
#[utoipa::path(
    delete, path = "/consumers/{group}/stream/{member}", tag = "consumers",
    operation_id = "leaveGroup",
    params(
        ("group" = String, Path, description = "Name of the group", example = "billing"),
        ("member" = String, Path, description = "Name of the member", example = "tab-1"),
    ),
    responses(
        (status = 204, description = "The member left"),
        (status = 404, body = ErrorBody, description = "40403: no such member here",
            content_type = "application/vnd.kafka.v2+json"),
    )
)]
pub async fn leave(
    State(state): State<AppState>,
    Path((group, member)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    state.consumers.close_member(&GroupId::from(group.as_str()), &member).await?;
    Ok(StatusCode::NO_CONTENT)
}
