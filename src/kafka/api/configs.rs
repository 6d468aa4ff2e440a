//! Configuration entries as the wire shows them: source, type, and whether they are read only.

use crate::engine::topics::ConfigSource;

/// Where a value comes from, by Kafka's numbers (KIP-226).
pub(super) const SOURCE_TOPIC: i8 = 1;
pub(super) const SOURCE_STATIC_BROKER: i8 = 4;
pub(super) const SOURCE_DEFAULT: i8 = 5;

const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_INT: i8 = 3;
const TYPE_LONG: i8 = 5;
const TYPE_DOUBLE: i8 = 6;
const TYPE_LIST: i8 = 7;

/// Kafka's number of a source.
pub(super) const fn source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Topic => SOURCE_TOPIC,
        ConfigSource::Default => SOURCE_DEFAULT,
    }
}

/// Kafka's number of an entry's type (KIP-569).
pub(super) fn kind(name: &str) -> i8 {
    match name {
        "preallocate"
        | "unclean.leader.election.enable"
        | "remote.storage.enable"
        | "message.downconversion.enable"
        | "auto.create.topics.enable"
        | "delete.topic.enable" => TYPE_BOOLEAN,
        "max.message.bytes"
        | "min.insync.replicas"
        | "segment.bytes"
        | "segment.index.bytes"
        | "index.interval.bytes"
        | "broker.id"
        | "node.id"
        | "max.connections"
        | "num.partitions"
        | "default.replication.factor"
        | "socket.request.max.bytes"
        | "fetch.max.bytes" => TYPE_INT,
        "min.cleanable.dirty.ratio" => TYPE_DOUBLE,
        "cleanup.policy"
        | "leader.replication.throttled.replicas"
        | "follower.replication.throttled.replicas" => TYPE_LIST,
        "compression.type"
        | "message.timestamp.type"
        | "message.format.version"
        | "advertised.listeners" => TYPE_STRING,
        // What remains of Kafka's entries are times and sizes.
        name if name.ends_with(".ms") || name.ends_with(".bytes") => TYPE_LONG,
        "flush.messages" => TYPE_LONG,
        _ => TYPE_STRING,
    }
}
