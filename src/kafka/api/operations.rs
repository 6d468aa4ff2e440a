//! What a client may do, as bits of Kafka's `AclOperation` (KIP-430).
//!
//! Without access control everything is allowed; the answer lists what exists for a resource.

const READ: i32 = 1 << 3;
const WRITE: i32 = 1 << 4;
const CREATE: i32 = 1 << 5;
const DELETE: i32 = 1 << 6;
const ALTER: i32 = 1 << 7;
const DESCRIBE: i32 = 1 << 8;
const CLUSTER_ACTION: i32 = 1 << 9;
const DESCRIBE_CONFIGS: i32 = 1 << 10;
const ALTER_CONFIGS: i32 = 1 << 11;
const IDEMPOTENT_WRITE: i32 = 1 << 12;

/// Says that the client did not ask.
const NOT_REQUESTED: i32 = i32::MIN;

/// The operations on a topic, if they were asked for.
pub(super) const fn topic(is_requested: bool) -> i32 {
    let all = READ | WRITE | CREATE | DELETE | ALTER | DESCRIBE | DESCRIBE_CONFIGS | ALTER_CONFIGS;
    if is_requested { all } else { NOT_REQUESTED }
}

/// The operations on a group, if they were asked for.
pub(super) const fn group(is_requested: bool) -> i32 {
    if is_requested { READ | DELETE | DESCRIBE } else { NOT_REQUESTED }
}

/// The operations on the cluster, if they were asked for.
pub(super) const fn cluster(is_requested: bool) -> i32 {
    let configs = DESCRIBE_CONFIGS | ALTER_CONFIGS;
    let all = CREATE | ALTER | DESCRIBE | CLUSTER_ACTION | configs | IDEMPOTENT_WRITE;
    if is_requested { all } else { NOT_REQUESTED }
}
