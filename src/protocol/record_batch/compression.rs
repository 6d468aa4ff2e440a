//! The four codecs of Kafka, for reading: producers' bytes are stored as they came.
//!
//! Decompression is bounded by a budget in bytes, whatever the data claims.
//! Snappy comes raw (librdkafka) or in xerial frames (Java); LZ4 is the frame format.

use std::io::Read;

use bytes::Bytes;

use super::BatchError;
use crate::base::limits::DECOMPRESSED_BATCH_BYTES_MAX;

/// A compression codec of Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// No compression.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, raw or xerial-framed.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878; producers may use it from Produce v7 on (KIP-110).
    Zstd,
}

/// First bytes of xerial's framing of snappy.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// Xerial's magic, version and minimum version.
const XERIAL_HEADER_BYTES: usize = 16;

impl Codec {
    /// Takes the codec from the lowest three bits of a batch's attributes.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`] for 5 to 7.
    pub const fn from_number(number: i16) -> Result<Self, BatchError> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(BatchError::UnknownCodec(other)),
        }
    }

    /// Decompresses `data` within [`DECOMPRESSED_BATCH_BYTES_MAX`]; without compression this is
    /// the same bytes, not a copy.
    ///
    /// # Errors
    /// [`BatchError::Decompression`] or [`BatchError::DecompressedTooLarge`].
    pub fn decompress(self, data: &Bytes) -> Result<Bytes, BatchError> {
        match self {
            Self::None => Ok(data.clone()),
            Self::Gzip => self.drain(flate2::read::MultiGzDecoder::new(data.as_ref())),
            Self::Snappy => decompress_snappy(data),
            Self::Lz4 => self.drain(lz4_flex::frame::FrameDecoder::new(data.as_ref())),
            Self::Zstd => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(data.as_ref());
                self.drain(decoder.map_err(|e| self.failed(&e))?)
            }
        }
    }

    fn drain(self, reader: impl Read) -> Result<Bytes, BatchError> {
        let mut out = Vec::new();
        let budget = DECOMPRESSED_BATCH_BYTES_MAX as u64 + 1;
        reader.take(budget).read_to_end(&mut out).map_err(|e| self.failed(&e))?;
        within_budget(out.len())?;
        Ok(Bytes::from(out))
    }

    fn failed(self, reason: &dyn std::fmt::Display) -> BatchError {
        BatchError::Decompression { codec: self, reason: reason.to_string() }
    }
}

const fn within_budget(bytes: usize) -> Result<(), BatchError> {
    if bytes > DECOMPRESSED_BATCH_BYTES_MAX {
        return Err(BatchError::DecompressedTooLarge(DECOMPRESSED_BATCH_BYTES_MAX));
    }
    Ok(())
}

fn decompress_snappy(data: &[u8]) -> Result<Bytes, BatchError> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        snappy_block(data, &mut out)?;
        return Ok(Bytes::from(out));
    }
    let mut rest = data.get(XERIAL_HEADER_BYTES..).unwrap_or_default();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let Some(block) = tail.get(..length) else {
            return Err(Codec::Snappy.failed(&"xerial block is cut short"));
        };
        snappy_block(block, &mut out)?;
        rest = tail.get(length..).unwrap_or_default();
    }
    Ok(Bytes::from(out))
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let failed = |e: snap::Error| Codec::Snappy.failed(&e);
    let length = snap::raw::decompress_len(block).map_err(failed)?;
    within_budget(out.len().saturating_add(length))?;
    let start = out.len();
    out.resize(start + length, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    let written = snap::raw::Decoder::new().decompress(block, target).map_err(failed)?;
    out.truncate(start + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text() -> Vec<u8> {
        b"all four codecs give back what went in ".repeat(50)
    }

    #[test]
    fn gzip_lz4_and_snappy_round_trip() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text()).unwrap();
        let gzip = Bytes::from(gzip.finish().unwrap());
        assert_eq!(Codec::Gzip.decompress(&gzip).unwrap(), text());

        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&text()).unwrap();
        let lz4 = Bytes::from(lz4.finish().unwrap());
        assert_eq!(Codec::Lz4.decompress(&lz4).unwrap(), text());

        let raw = snap::raw::Encoder::new().compress_vec(&text()).unwrap();
        assert_eq!(Codec::Snappy.decompress(&Bytes::from(raw.clone())).unwrap(), text());
        let mut xerial = XERIAL_MAGIC.to_vec();
        xerial.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for _ in 0..2 {
            xerial.extend_from_slice(&u32::try_from(raw.len()).unwrap().to_be_bytes());
            xerial.extend_from_slice(&raw);
        }
        assert_eq!(Codec::Snappy.decompress(&Bytes::from(xerial)).unwrap(), text().repeat(2));
    }

    #[test]
    fn zstd_round_trips() {
        let data = text();
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        let zstd = ruzstd::encoding::compress_to_vec(data.as_slice(), level);
        assert_eq!(Codec::Zstd.decompress(&Bytes::from(zstd)).unwrap(), data);
    }

    #[test]
    fn a_bomb_is_refused_at_the_budget() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![0_u8; 1 << 20];
        for _ in 0..=(DECOMPRESSED_BATCH_BYTES_MAX >> 20) {
            gzip.write_all(&zeros).unwrap();
        }
        let bomb = Bytes::from(gzip.finish().unwrap());
        let refused = Codec::Gzip.decompress(&bomb);
        assert_eq!(refused, Err(BatchError::DecompressedTooLarge(DECOMPRESSED_BATCH_BYTES_MAX)));
        // A raw snappy block whose length field alone claims 4 GiB.
        let claim = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(Codec::Snappy.decompress(&claim).is_err());
    }

    #[test]
    fn garbage_is_an_error_for_every_codec() {
        let garbage = Bytes::from_static(b"\xff\xfe\xfdgarbage that is no stream");
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert!(codec.decompress(&garbage).is_err(), "{codec:?}");
        }
    }
}
