//! One frame of a stream: what is handed to the connection at once.

use std::ops::Range;

use bytes::Bytes;

use super::chunk::{CHUNK_BYTES, Chunk};
use crate::base::limits::CURSOR_BYTES_MAX;

/// Largest frame.
pub(super) const FRAME_BYTES_MAX: usize = 256 * 1024;

/// A shared piece of this size is sent as it is; smaller ones are gathered.
const PIECE_BYTES_MIN: usize = 8 * 1024;

/// Which ids a stream writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdMode {
    /// Those that the chunks have: the stream is of one partition and its cursor says no more.
    Shared,
    /// Its own on every record.
    Each,
    /// Its own on the last record of a frame.
    Flush,
}

/// A frame while it is filled.
pub(super) struct Frame {
    mode: IdMode,
    text: Vec<u8>,
    /// The only content so far, not copied.
    piece: Bytes,
    /// What follows the text without being copied: the data of a record larger than a frame.
    tail: Bytes,
    /// Where the last record begins in the text.
    last_event: usize,
    records: u64,
    scratch: Vec<u8>,
}

impl Frame {
    /// Begins an empty frame, which takes no memory.
    pub(super) const fn new(mode: IdMode) -> Self {
        Self {
            mode,
            text: Vec::new(),
            piece: Bytes::new(),
            tail: Bytes::new(),
            last_event: 0,
            records: 0,
            scratch: Vec::new(),
        }
    }

    /// Records so far.
    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    /// Tells whether there is nothing yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Tells whether another turn of a partition fits.
    pub(super) fn has_room(&self) -> bool {
        let is_open = self.tail.is_empty() && self.piece.len() < PIECE_BYTES_MIN;
        is_open && self.text.len() + CHUNK_BYTES <= FRAME_BYTES_MAX
    }

    /// Adds a range of a chunk as it is; tells whether it fitted.
    pub(super) fn push_shared(&mut self, chunk: &Chunk, range: Range<usize>) -> bool {
        let count = range.len() as u64;
        let piece = chunk.whole(range);
        if self.is_empty() {
            self.piece = piece;
        } else {
            let gathered = self.text.len() + self.piece.len();
            if gathered + piece.len() > FRAME_BYTES_MAX {
                return false;
            }
            if !self.piece.is_empty() {
                self.text.reserve(gathered + piece.len());
                self.text.extend_from_slice(&std::mem::take(&mut self.piece));
            }
            self.text.extend_from_slice(&piece);
        }
        self.records += count;
        true
    }

    /// Adds one record of a chunk, with an id where the mode wants one; tells whether it fitted.
    ///
    /// `id_into` writes the cursor after this record.
    pub(super) fn push_record(
        &mut self,
        chunk: &Chunk,
        at: usize,
        id_into: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>),
    ) -> bool {
        let data = chunk.data_slice(at);
        // With an id in front and, for another mode, one more at the end.
        let room = FRAME_BYTES_MAX - 2 * CURSOR_BYTES_MAX;
        let is_huge = data.len() > room;
        let is_full = self.text.len() + data.len() > room;
        let is_closed = !self.tail.is_empty();
        if !self.is_empty() && (is_huge || is_full || is_closed) {
            return false;
        }
        if self.text.capacity() == 0 && !is_huge {
            // Room for one record and its id; a second one makes it grow.
            self.text.reserve_exact(data.len() + 64);
        }
        self.last_event = self.text.len();
        if self.mode == IdMode::Each || is_huge {
            self.text.extend_from_slice(b"id: ");
            id_into(&mut self.scratch, &mut self.text);
            self.text.push(b'\n');
        }
        if is_huge {
            self.tail = chunk.data(at);
        } else {
            self.text.extend_from_slice(data);
        }
        self.records += 1;
        true
    }

    /// Ends the frame; `id_into` writes the cursor after its last record.
    pub(super) fn finish(mut self, id_into: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> [Bytes; 2] {
        if !self.piece.is_empty() {
            return [self.piece, self.tail];
        }
        let has_id = self.mode != IdMode::Flush || !self.tail.is_empty() || self.is_empty();
        if !has_id {
            let last = self.text.split_off(self.last_event.min(self.text.len()));
            self.text.extend_from_slice(b"id: ");
            id_into(&mut self.scratch, &mut self.text);
            self.text.push(b'\n');
            self.text.extend_from_slice(&last);
        }
        [Bytes::from(self.text), self.tail]
    }
}
