//! The limits that are not configuration: every queue, frame and wait names its bound here.

use std::time::Duration;

/// Largest Kafka frame accepted, in bytes (Kafka's `socket.request.max.bytes` default).
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// Largest Kafka frame of a request that carries no records, in bytes.
/// Decoded arrays take up to some forty times their wire size, so this bounds one request's memory.
pub const CONTROL_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes that one compressed batch may become when it is decompressed.
pub const DECOMPRESSED_BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest answer to one Fetch, in bytes (Kafka's `fetch.max.bytes` default of the broker, 55 MiB).
pub const FETCH_BYTES_MAX: usize = 57_671_680;

/// Bytes of requests that all Kafka connections together may hold in memory.
pub const INFLIGHT_REQUEST_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Partitions that one topic may have.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;

/// Partitions that one server may hold open; each costs a file descriptor or two.
pub const PARTITIONS_MAX: usize = 100_000;

/// Kafka connections open at once.
pub const KAFKA_CONNECTIONS_MAX: usize = 10_000;

/// HTTP connections open at once; live streams hold one each.
pub const HTTP_CONNECTIONS_MAX: usize = 20_000;

/// Largest HTTP request body, in bytes.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of request bodies that all HTTP connections together may hold in memory.
pub const HTTP_INFLIGHT_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Longest pause within an HTTP request body that is read whole.
pub const HTTP_BODY_IDLE_MAX: Duration = Duration::from_secs(30);

/// Longest time that an HTTP request body that is read whole may take.
pub const HTTP_BODY_WAIT_MAX: Duration = Duration::from_secs(600);

/// Longest target of an HTTP request, in bytes.
pub const HTTP_URI_BYTES_MAX: usize = 16 * 1024;

/// Names and values of the headers of one HTTP request, in bytes.
pub const HTTP_HEADER_BYTES_MAX: usize = 64 * 1024;

/// Headers of one HTTP request (hyper's default for HTTP/1.1, which needs no allocation).
pub const HTTP_HEADERS_MAX: usize = 100;

/// Clients whose request rate is remembered at once.
pub const HTTP_RATE_CLIENTS_MAX: usize = 65_536;

/// Records in one HTTP produce request.
pub const HTTP_PRODUCE_RECORDS_MAX: usize = 100_000;

/// Largest record in a streamed produce, in bytes of its JSON: as large as a whole body may be.
pub const HTTP_STREAMED_RECORD_BYTES_MAX: usize = HTTP_BODY_BYTES_MAX;

/// Longest life of one streamed produce (kafka-rest's `streaming.connection.max.duration.ms`).
pub const HTTP_PRODUCE_STREAM_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Entries of one v3 produce batch that can be configured.
pub const HTTP_PRODUCE_BATCH_ENTRIES_MAX: usize = 10_000;

/// Largest answer to one `records` read (kafka-rest's `consumer.request.max.bytes`).
pub const HTTP_POLL_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest time one HTTP request may wait for records or for a rebalance.
pub const HTTP_WAIT_MAX: Duration = Duration::from_secs(300);

/// HTTP consumer instances that may exist at once.
pub const CONSUMER_INSTANCES_MAX: usize = 20_000;

/// Groups that may exist at once.
pub const GROUPS_MAX: usize = 100_000;

/// Longest regular expression of a topic pattern, in bytes (matching is linear in time).
pub const TOPIC_PATTERN_BYTES_MAX: usize = 1024;

/// Partitions in one live stream.
pub const STREAM_PARTITIONS_MAX: usize = 4096;

/// Topics in one live stream.
pub const STREAM_TOPICS_MAX: usize = 256;

/// Longest regular expression of a live stream's topics, in bytes (matching is linear in time).
pub const STREAM_PATTERN_BYTES_MAX: usize = 256;

/// Live streams open at once.
pub const STREAMS_MAX: usize = 20_000;

/// WebSockets open at once.
pub const WEBSOCKETS_MAX: usize = 10_000;

/// Live streams that one remote address may have open by default.
pub const STREAMS_PER_IP_MAX: usize = 50;

/// Largest encoded stream cursor, in bytes; common proxies cap all headers at 8 KiB.
pub const CURSOR_BYTES_MAX: usize = 4096;

/// Streams of which positions are stored because their cursor is longer than [`CURSOR_BYTES_MAX`].
pub const STORED_CURSORS_MAX: usize = 10_000;

/// Bytes of all stored positions of streams.
pub const STORED_CURSOR_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Cursors that a client had made of positions, with `POST /cursors:encode`, and that are stored;
/// they are part of [`STORED_CURSORS_MAX`], so that streams keep the rest.
pub const MADE_CURSORS_MAX: usize = 1_000;

/// Bytes of all positions that are stored for cursors that were made.
pub const MADE_CURSOR_BYTES_MAX: usize = STORED_CURSOR_BYTES_MAX / 4;

/// Time for which a stored cursor can be used after the stream wrote it last.
pub const STORED_CURSOR_TTL: Duration = Duration::from_secs(24 * 3600);

/// Bytes of log that one read or stream which begins at its last N records looks through for them.
pub const LOOK_BACK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Idempotency keys that are remembered at once.
pub const IDEMPOTENCY_KEYS_MAX: usize = 200_000;

/// Bytes of idempotency keys and the answers that are kept of them.
pub const IDEMPOTENCY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Producers that have names; names are kept for good.
pub const PRODUCER_NAMES_MAX: usize = 100_000;

/// Producer states kept per partition.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 100_000;
