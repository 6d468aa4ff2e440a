//! Frames of zstd decoded block by block, so that a small input never becomes a large output at
//! once: a block is at most 128 KiB when decoded, and the window has a limit.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest window accepted, in bytes: what RFC 9659 allows for the content encoding.
const WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Largest size field of a block, whatever its type (RFC 8878, section 3.1.1.2.4).
const BLOCK_BYTES_MAX: usize = 128 * 1024;

const MAGIC: u32 = 0xFD2F_B528;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184D_2A50..=0x184D_2A5F;

/// What comes next in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Frame,
    Block { has_checksum: bool },
    Skip(usize),
}

/// Turns pushed input into output, a block by [`step`](Self::step).
pub(super) struct ZstdDecoder {
    frames: FrameDecoder,
    input: BytesMut,
    next: Next,
    /// A frame was seen: an empty body is not zstd.
    has_begun: bool,
}

impl ZstdDecoder {
    pub(super) fn new() -> Self {
        let mut frames = FrameDecoder::new();
        frames.set_max_window_size(WINDOW_BYTES_MAX);
        Self { frames, input: BytesMut::new(), next: Next::Frame, has_begun: false }
    }

    pub(super) fn push(&mut self, input: &[u8]) {
        self.input.extend_from_slice(input);
    }

    /// The next output, empty at times; none when more input is needed.
    pub(super) fn step(&mut self) -> io::Result<Option<Bytes>> {
        match self.next {
            Next::Frame => self.frame(),
            Next::Block { has_checksum } => self.block(has_checksum),
            Next::Skip(left) => {
                let now = left.min(self.input.len());
                self.input.advance(now);
                self.next = if now == left { Next::Frame } else { Next::Skip(left - now) };
                Ok((now == left || now > 0).then(Bytes::new))
            }
        }
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        let is_whole = self.has_begun && self.next == Next::Frame && self.input.is_empty();
        if is_whole { Ok(()) } else { Err(damaged("it ends within a frame")) }
    }

    fn frame(&mut self) -> io::Result<Option<Bytes>> {
        let Some(magic) = self.input.first_chunk::<4>() else { return Ok(None) };
        let magic = u32::from_le_bytes(*magic);
        if SKIPPABLE.contains(&magic) {
            let Some(size) = self.input.get(4..8) else { return Ok(None) };
            let size = size.iter().rev().fold(0, |size, byte| size << 8 | usize::from(*byte));
            self.input.advance(8);
            self.next = Next::Skip(size);
            return Ok(Some(Bytes::new()));
        }
        if magic != MAGIC {
            return Err(damaged("it does not begin with a frame"));
        }
        let Some(descriptor) = self.input.get(4) else { return Ok(None) };
        let has_checksum = descriptor & 0b100 != 0;
        let length = header_bytes(*descriptor);
        let Some(header) = self.input.get(..length) else { return Ok(None) };
        self.frames.reset(header).map_err(|error| damaged(&error.to_string()))?;
        self.input.advance(length);
        self.has_begun = true;
        self.next = Next::Block { has_checksum };
        Ok(Some(Bytes::new()))
    }

    fn block(&mut self, has_checksum: bool) -> io::Result<Option<Bytes>> {
        let Some([a, b, c]) = self.input.first_chunk::<3>() else { return Ok(None) };
        let header = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let (is_last, kind, size) = (header & 1 == 1, header >> 1 & 3, header >> 3);
        if size > BLOCK_BYTES_MAX {
            return Err(damaged("a block is larger than 128 KiB"));
        }
        // A block of one repeated byte has only that byte.
        let body = if kind == 1 { 1 } else { size };
        let length = 3 + body + if is_last && has_checksum { 4 } else { 0 };
        let Some(mut block) = self.input.get(..length) else { return Ok(None) };
        let one = BlockDecodingStrategy::UptoBlocks(1);
        self.frames.decode_blocks(&mut block, one).map_err(|error| damaged(&error.to_string()))?;
        self.input.advance(length);
        if is_last {
            self.next = Next::Frame;
            let (told, found) =
                (self.frames.get_checksum_from_data(), self.frames.get_calculated_checksum());
            let output = self.frames.collect().unwrap_or_default();
            // The sum is known once everything was collected.
            let found = self.frames.get_calculated_checksum().or(found);
            if has_checksum && told.is_some() && found.is_some() && told != found {
                return Err(damaged("its checksum is wrong"));
            }
            return Ok(Some(output.into()));
        }
        Ok(Some(self.frames.collect().unwrap_or_default().into()))
    }
}

/// Length of a frame's header with its magic number (RFC 8878, section 3.1.1.1).
fn header_bytes(descriptor: u8) -> usize {
    let is_single = descriptor & 0b10_0000 != 0;
    let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 0b11)).copied().unwrap_or(0);
    let content_size = match (descriptor >> 6, is_single) {
        (0, false) => 0,
        (0, true) => 1,
        (1, _) => 2,
        (2, _) => 4,
        _ => 8,
    };
    5 + usize::from(!is_single) + dictionary + content_size
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("body is not valid zstd: {reason}"))
}
