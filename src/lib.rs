//! Hydrant: a Kafka-compatible log with an HTTP door.
//!
//! Modules by layer; a module may use only those above it in this list. `ARCHITECTURE.md` tells
//! the life of a record through them, `tests/architecture.rs` enforces the rule.

pub mod base;

pub mod protocol;

pub mod coordinator;
pub mod log;

pub mod store;

pub mod engine;

pub mod consumers;

pub mod http;
pub mod kafka;

pub mod cli;
pub mod config;
pub mod telemetry;
