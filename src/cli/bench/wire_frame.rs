//! Frames of the Kafka protocol: requests with their headers, responses, common versions.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::BenchResult;
use crate::protocol::messages::{ApiVersion, client_api_info};
use crate::protocol::{
    ApiKey, ProtocolError, primitives, request_header_version, response_header_version,
};

/// Name this client gives in every request.
const CLIENT_ID: &str = "hydrant-bench";

/// Where the correlation id lies in a request frame, behind length, key and version.
const CORRELATION_AT: usize = 8;

/// First room of a connection's buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// Version ranges that a broker announced.
#[derive(Debug, Default)]
pub(super) struct Versions(HashMap<i16, (i16, i16)>);

impl Versions {
    /// Takes the ranges from an `ApiVersions` answer.
    pub(super) fn announced(ranges: &[ApiVersion]) -> Self {
        Self(ranges.iter().map(|r| (r.api_key, (r.min_version, r.max_version))).collect())
    }

    /// Picks the highest version of `api` that both sides know and that is not above `cap`.
    pub(super) fn pick(&self, api: ApiKey, cap: i16) -> BenchResult<i16> {
        let ours = client_api_info(api);
        let (low, high) = self.0.get(&(api as i16)).copied().unwrap_or((0, -1));
        let version = high.min(ours.max_version).min(cap);
        if version < low.max(ours.min_version) {
            return Err(
                format!("no common version of {api:?}: the server has {low} to {high}").into()
            );
        }
        Ok(version)
    }
}

/// Encodes one request with its length; its correlation id is 0.
pub(super) fn encode_request(
    api: ApiKey,
    version: i16,
    write_body: impl FnOnce(&mut BytesMut, i16) -> Result<(), ProtocolError>,
) -> BenchResult<BytesMut> {
    let mut frame = BytesMut::zeroed(4);
    frame.extend_from_slice(&(api as i16).to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&0_i32.to_be_bytes());
    frame.extend_from_slice(&i16::try_from(CLIENT_ID.len())?.to_be_bytes());
    frame.extend_from_slice(CLIENT_ID.as_bytes());
    if request_header_version(api as i16, version) >= 2 {
        frame.extend_from_slice(&[0]);
    }
    write_body(&mut frame, version)?;
    let length = i32::try_from(frame.len() - 4)?;
    frame.get_mut(..4).ok_or("frame is empty")?.copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Writes `correlation` into an encoded request.
pub(super) fn set_correlation(frame: &mut [u8], correlation: i32) {
    if let Some(slot) = frame.get_mut(CORRELATION_AT..CORRELATION_AT + 4) {
        slot.copy_from_slice(&correlation.to_be_bytes());
    }
}

/// Reads response frames from one direction of a connection.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    /// Where frames come from.
    pub(super) socket: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `socket`, where nothing has been read yet.
    pub(super) fn new(socket: R) -> Self {
        Self { socket, buffer: BytesMut::with_capacity(BUFFER_BYTES) }
    }

    /// Reads the next response: its correlation id and its bytes behind the header.
    ///
    /// # Cancel safety
    /// Safe: bytes that were read stay in the buffer.
    pub(super) async fn next(&mut self, api: ApiKey, version: i16) -> BenchResult<(i32, Bytes)> {
        let mut frame = self.next_frame().await?;
        let correlation = primitives::read_i32(&mut frame)?;
        if response_header_version(api as i16, version) >= 1 {
            for _ in 0..primitives::read_unsigned_varint(&mut frame)? {
                let _tag = primitives::read_unsigned_varint(&mut frame)?;
                let length = usize::try_from(primitives::read_unsigned_varint(&mut frame)?)?;
                drop(frame.split_to(length.min(frame.len())));
            }
        }
        Ok((correlation, frame))
    }

    async fn next_frame(&mut self) -> BenchResult<Bytes> {
        self.fill(4).await?;
        let length = self.buffer.first_chunk::<4>().copied().unwrap_or_default();
        let length = usize::try_from(i32::from_be_bytes(length))?;
        self.fill(4 + length).await?;
        let mut frame = self.buffer.split_to(4 + length);
        Ok(frame.split_off(4).freeze())
    }

    async fn fill(&mut self, needed: usize) -> BenchResult<()> {
        while self.buffer.len() < needed {
            // The old frame is gone by now, so this takes its room back instead of growing.
            self.buffer.reserve((needed - self.buffer.len()).max(BUFFER_BYTES));
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_carry_their_length_and_correlation() {
        let mut frame = encode_request(ApiKey::ApiVersions, 0, |_, _| Ok(())).unwrap();
        set_correlation(&mut frame, 7);
        assert_eq!(frame.get(..12).unwrap(), [0, 0, 0, 23, 0, 18, 0, 0, 0, 0, 0, 7]);
        assert_eq!(frame.len(), 27);
    }

    #[test]
    fn versions_need_a_common_range() {
        let versions = Versions(HashMap::from([(0, (3, 9)), (1, (0, 3))]));
        assert_eq!(versions.pick(ApiKey::Produce, i16::MAX).unwrap(), 9);
        assert_eq!(versions.pick(ApiKey::Produce, 7).unwrap(), 7);
        assert!(versions.pick(ApiKey::Fetch, i16::MAX).is_err());
        assert!(versions.pick(ApiKey::Metadata, i16::MAX).is_err());
    }
}
