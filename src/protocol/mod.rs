//! Layer 1: the Kafka wire protocol without any I/O.
//!
//! Message structs come from the `kacrab-protocol` crate and only this module names it
//! (ADR 0004). Ours is the record batch (the unit that is stored, fetched and checked), its
//! compression, the bytes that consumers leave for each other in a group, and murmur2, which
//! places keys where the Java client places them.
//! Nothing here spawns, reads a clock or trusts a length from its input.

pub mod consumer_protocol;
pub mod murmur2;
pub mod record_batch;

pub use kacrab_protocol::generated::{ApiKey, ErrorCode};
pub use kacrab_protocol::primitives;
pub use kacrab_protocol::version::{request_header_version, response_header_version};
pub use kacrab_protocol::{KafkaString, KafkaUuid, ProtocolError};

/// The generated request and response structs.
pub mod messages {
    pub use kacrab_protocol::generated::*;
}
