//! Layer 6: the HTTP door. It turns requests into calls of the engine and of the consumer
//! instances, and answers into JSON and event streams.
//!
//! Only this module knows JSON bodies, media types and status codes. It never speaks the Kafka
//! wire protocol and never calls `kafka/`, `log/`, `store/` or `coordinator/`.

pub mod admin;
pub mod around;
pub mod body;
pub mod connections;
pub mod cors;
pub mod cursors;
pub mod encoding;
pub mod error;
mod gathered;
pub mod get_only;
pub mod groups;
pub mod health;
mod linger;
pub mod link;
pub mod media;
pub mod members;
pub mod metrics;
pub mod observe;
pub mod openapi;
mod peers;
pub mod plain;
pub mod produce;
pub mod query;
mod reads;
mod record;
pub mod router;
pub mod server;
mod stall;
pub mod state;
pub mod stream;
pub mod time;
pub mod v2;
pub mod v3;
mod version;
mod wire;

pub use metrics::HttpMetrics;
pub use state::{AppState, HttpOptions, StreamOptions};
pub mod web;
