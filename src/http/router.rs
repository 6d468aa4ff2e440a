//! All routes, and the specification that is generated from the same lines.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri, header};
use utoipa::OpenApi;
use utoipa::openapi::OpenApi as Specification;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use super::error::ApiError;
use super::state::AppState;
use super::{
    admin, cors, cursors, health, media, members, observe, openapi, peers, plain, reads, stream,
    v2, v3, web,
};

/// What the specification says of itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hydrant",
        description = "A Kafka-compatible log with an HTTP door.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        contact(name = "Hydrant"),
    ),
    servers((url = "/", description = "The server that this document came from")),
    tags(
        (name = "topics", description = "Topics and partitions"),
        (name = "records", description = "Produce records"),
        (name = "consumers", description = "Consumer instances: members of consumer groups"),
        (name = "streams", description = "Live streams"),
        (name = "admin", description = "Administration"),
        (name = "clusters", description = "v3: clusters, brokers, topics and their configuration"),
        (name = "groups", description = "Consumer groups: members, offsets and lag"),
        (name = "operations", description = "Health, metrics and this specification"),
    )
)]
struct ApiDoc;

fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(ApiDoc::openapi())
        .routes(routes!(v2::brokers::list))
        .routes(routes!(v2::topics::list))
        .routes(routes!(v2::topics::get, v2::produce::to_topic))
        .routes(routes!(v2::produce_many::to_topics))
        .routes(routes!(v2::partitions::list))
        .routes(routes!(v2::partitions::get, v2::produce::to_partition))
        .routes(routes!(v2::partitions::offsets))
        .routes(routes!(v2::consumers::create))
        .routes(routes!(v2::consumers::delete))
        .routes(routes!(
            v2::consumers::subscribe,
            v2::consumers::subscription,
            v2::consumers::unsubscribe
        ))
        .routes(routes!(v2::consumers::assign, v2::consumers::assignment))
        .routes(routes!(v2::records::poll))
        .routes(routes!(v2::offsets::commit, v2::offsets::committed))
        .routes(routes!(v2::offsets::query_committed))
        .routes(routes!(v2::offsets::seek))
        .routes(routes!(v2::offsets::seek_to_beginning))
        .routes(routes!(v2::offsets::seek_to_end))
        .merge(stream::routes())
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz))
        .routes(routes!(health::healthz))
        .routes(routes!(health::metrics))
        .merge(members::routes())
        .merge(cursors::routes())
        .merge(web::routes())
        .merge(v3::routes())
        .merge(plain::routes())
        .merge(admin::routes())
        .merge(reads::routes())
}

/// The specification as committed in `openapi/hydrant.json`.
#[must_use]
pub fn specification() -> Specification {
    let mut document = routes().into_openapi();
    openapi::complete(&mut document);
    document
}

/// The same in OpenAPI 3.0, as committed in `openapi/hydrant-3.0.json`.
#[must_use]
pub fn specification_3_0() -> serde_json::Value {
    openapi::down::to_3_0(serde_json::to_value(specification()).unwrap_or_default())
}

/// Builds the router of the door.
pub fn router(state: AppState) -> Router {
    let (router, _) = routes().split_for_parts();
    let older = axum::Json(specification_3_0());
    let cors = cors::layer(&state.options.cors_origins);
    let docs = SwaggerUi::new("/docs").url("/openapi.json", specification());
    let (embedded_v3, _) = v3::routes().split_for_parts();
    let router = router
        .nest("/kafka", embedded_v3)
        .route("/", axum::routing::get(root).post(root))
        .route("/openapi-3.0.json", axum::routing::get(async move || older.clone()))
        .merge(docs)
        .merge(peers::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(state.clone(), observe::observe));
    let router = match cors {
        Some(cors) => router.layer(cors).layer(axum::middleware::from_fn(cors::allow_families)),
        None => router,
    };
    router.with_state(state)
}

/// `/` answers an empty object, as Confluent REST Proxy does.
async fn root() -> Response {
    ([(header::CONTENT_TYPE, media::KAFKA_V2_JSON)], "{}").into_response()
}

async fn not_found(State(_): State<AppState>, method: Method, uri: Uri) -> ApiError {
    let message = format!("no route for {method} {}", uri.path());
    ApiError::status(StatusCode::NOT_FOUND, message).with_content_type(error_type(&uri))
}

/// The framework adds which methods are, in `Allow`; that is all that OPTIONS asks for.
async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let message = format!("{method} is not allowed on {}", uri.path());
    let error = ApiError::status(StatusCode::METHOD_NOT_ALLOWED, message);
    error.with_content_type(error_type(&uri)).into_response()
}

/// The media type of errors that no handler answers: v3 speaks plain JSON.
fn error_type(uri: &Uri) -> &'static str {
    let path = uri.path();
    let is_v3 = path.strip_prefix("/kafka").unwrap_or(path).starts_with("/v3/");
    if is_v3 { media::JSON } else { media::KAFKA_V2_JSON }
}
