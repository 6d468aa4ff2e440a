//! Record batch v2: the unit that producers send, the log stores and consumers fetch.
//!
//! Layout: 61 fixed bytes ([`header`]), then records, compressed or not ([`record`]). The log
//! keeps a producer's bytes as they came; only `base_offset` and `partition_leader_epoch`, which
//! lie outside the CRC, are written on append. [`validate`] is the one check at the edge;
//! [`control`] are the markers that end transactions.
//! The format is Kafka's (KIP-98, magic 2); sizes and offsets are big-endian.

pub mod builder;
pub mod compression;
pub mod control;
pub mod header;
pub mod record;
pub mod validate;

pub use builder::{BatchBuilder, ProducerStamp};
pub use compression::Codec;
pub use header::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES};
pub use record::{BatchRecords, Record, SharedRecord};

/// Why bytes are not a batch or not a batch that may be appended or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header, or than the header announces.
    #[error("batch of {available} bytes is shorter than its {needed}")]
    Truncated {
        /// Bytes there are.
        available: usize,
        /// Bytes there must be.
        needed: usize,
    },
    /// More bytes than one batch where exactly one is allowed.
    #[error("{0} bytes follow the batch where exactly one batch is allowed")]
    TrailingBytes(usize),
    /// The length field is below the fixed part of a batch.
    #[error("batch length {0} is below the fixed part of a batch")]
    BadLength(i32),
    /// A message format other than v2.
    #[error("magic {0} is not supported, only record batch v2 is")]
    UnsupportedMagic(i8),
    /// CRC-32C over attributes to end does not match.
    #[error("crc {stored:#010x} does not match the computed {computed:#010x}")]
    CrcMismatch {
        /// As stored in the batch.
        stored: u32,
        /// As computed over its bytes.
        computed: u32,
    },
    /// A codec number that Kafka does not define.
    #[error("compression codec {0} is unknown")]
    UnknownCodec(i16),
    /// The compressed bytes could not be read.
    #[error("{codec:?} data cannot be decompressed: {reason}")]
    Decompression {
        /// The codec the batch names.
        codec: Codec,
        /// What the decoder said.
        reason: String,
    },
    /// Decompression went over the budget.
    #[error("batch decompresses to more than {0} bytes")]
    DecompressedTooLarge(usize),
    /// The batch has no record.
    #[error("batch has no record")]
    Empty,
    /// The header's count, last offset delta and records disagree.
    #[error("record {index}: {reason}")]
    BadRecord {
        /// Position in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Something in the header that a client may not send.
    #[error("batch header: {0}")]
    BadHeader(&'static str),
}
