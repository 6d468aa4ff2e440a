//! Consumer groups without anything to create before: a name in the query is a member.
//!
//! The member is static: its name is its `group.instance.id`, so requests that come again and
//! streams that connect again are the same member and cause no rebalance. `records` are bounded
//! reads by cursor, `acks` are acknowledgements of such reads and of streams, `leave` lets one
//! leave. Streams of groups are in `stream::group`; both read `params`.

pub mod acks;
pub mod leave;
pub(super) mod params;
pub(super) mod place;
pub mod records;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::state::AppState;

/// The routes of this folder.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(records::read))
        .routes(routes!(acks::acknowledge))
        .routes(routes!(leave::leave))
}
