//! One frame of a stream: what is handed to the connection at once.

use std::ops::Range;

use bytes::Bytes;

use super::chunk::{CHUNK_BYTES, Chunk};
use super::params::Framing;
use super::wire::Wire;
use crate::base::limits::CURSOR_BYTES_MAX;

/// Largest frame.
pub(super) const FRAME_BYTES_MAX: usize = 256 * 1024;

/// A shared piece of this size is sent as it is; smaller ones are gathered.
const PIECE_BYTES_MIN: usize = 8 * 1024;

/// Which ids a stream writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdMode {
    /// Those that the chunks have, if they have any: the stream is of one partition and its cursor
    /// says no more, or records have no cursor.
    Shared,
    /// Its own on every record.
    Each,
    /// Its own on the last record of a frame.
    Flush,
}

/// A frame while it is filled.
pub(super) struct Frame {
    mode: IdMode,
    wire: Wire,
    text: Vec<u8>,
    /// The only content so far, not copied.
    piece: Bytes,
    /// What follows the text without being copied: the data of a record larger than a frame.
    tail: Bytes,
    /// Where the `id` line of the last record belongs in the text.
    last_id: usize,
    records: u64,
    records_max: u64,
    scratch: Vec<u8>,
}

impl Frame {
    /// Begins an empty frame, which takes no memory.
    pub(super) const fn new(mode: IdMode, wire: Wire, records_max: u64) -> Self {
        Self {
            mode,
            wire,
            text: Vec::new(),
            piece: Bytes::new(),
            tail: Bytes::new(),
            last_id: 0,
            records: 0,
            records_max,
            scratch: Vec::new(),
        }
    }

    /// Records so far.
    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    /// Records that may still be added.
    pub(super) const fn records_left(&self) -> u64 {
        self.records_max.saturating_sub(self.records)
    }

    /// Tells whether it takes ranges of chunks as they are, and not one record after the other.
    pub(super) fn takes_ranges(&self) -> bool {
        match self.wire.framing() {
            Framing::List => true,
            Framing::Lines => self.mode != IdMode::Each,
            Framing::Events => self.mode == IdMode::Shared,
        }
    }

    /// Tells whether there is nothing yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Tells whether another turn of a partition fits.
    pub(super) fn has_room(&self) -> bool {
        let is_open = self.tail.is_empty() && self.piece.len() < self.piece_bytes_max();
        let bytes = self.text.len() + self.piece.len();
        is_open && bytes + CHUNK_BYTES <= FRAME_BYTES_MAX && self.records_left() > 0
    }

    /// A batch is copied anyway, so it is made as large as it may be.
    fn piece_bytes_max(&self) -> usize {
        if self.wire.framing() == Framing::List { FRAME_BYTES_MAX } else { PIECE_BYTES_MIN }
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
        let (name, data) = (chunk.event_line(at), chunk.data_slice(at));
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
            self.text.reserve_exact(name.len() + data.len() + 64);
        }
        self.records += 1;
        if self.wire.framing() == Framing::Lines {
            self.text.extend_from_slice(data);
            if self.mode == IdMode::Each {
                self.push_cursor(id_into);
            }
            return true;
        }
        self.text.extend_from_slice(name);
        self.last_id = self.text.len();
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
        true
    }

    /// Adds a line with a cursor.
    fn push_cursor(&mut self, id_into: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        let mut id = Vec::new();
        id_into(&mut self.scratch, &mut id);
        self.wire.cursor_into(&id, &mut self.text);
    }

    /// Ends the frame; `id_into` writes the cursor after its last record.
    pub(super) fn finish(mut self, id_into: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> [Bytes; 2] {
        match self.wire.framing() {
            Framing::List => return self.finish_batch(id_into),
            Framing::Lines if self.mode == IdMode::Flush && !self.is_empty() => {
                self.push_cursor(id_into);
                // What was gathered lies in the text, before the cursor.
                return [self.piece, Bytes::from(self.text)];
            }
            Framing::Lines | Framing::Events => {}
        }
        if !self.piece.is_empty() {
            return [self.piece, self.tail];
        }
        let has_id = self.mode != IdMode::Flush || !self.tail.is_empty() || self.is_empty();
        if !has_id {
            let last = self.text.split_off(self.last_id.min(self.text.len()));
            self.text.extend_from_slice(b"id: ");
            id_into(&mut self.scratch, &mut self.text);
            self.text.push(b'\n');
            self.text.extend_from_slice(&last);
        }
        [Bytes::from(self.text), self.tail]
    }

    fn finish_batch(mut self, id_into: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> [Bytes; 2] {
        if self.is_empty() {
            return [Bytes::new(), Bytes::new()];
        }
        let (mut id, mut out) = (Vec::new(), Vec::new());
        id_into(&mut self.scratch, &mut id);
        let elements: &[u8] = if self.piece.is_empty() { &self.text } else { &self.piece };
        self.wire.batch_into(elements, &id, &mut out);
        if self.mode != IdMode::Shared {
            self.wire.cursor_into(&id, &mut out);
        }
        [Bytes::from(out), Bytes::new()]
    }
}
