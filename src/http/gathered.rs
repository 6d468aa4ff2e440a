//! Small answers leave the process in one piece.
//!
//! hyper hands over the size of a chunk, its bytes and the line after it in pieces of their own. For
//! a few hundred bytes the copy is cheaper than what the kernel does to take several: with 1,000
//! streams of 100 events a second a server that broadcasts them spends 0.3 to 0.4 µs less of 7 µs
//! an event with `send` than with `writev` (`hydrant bench compare-streams`).

use std::io::IoSlice;

use smallvec::SmallVec;

/// Most bytes that are gathered.
pub(super) const GATHERED_BYTES_MAX: usize = 1024;

/// Copies all of `slices` one after the other, if they fit.
pub(super) fn gather(slices: &[IoSlice<'_>]) -> Option<SmallVec<[u8; GATHERED_BYTES_MAX]>> {
    let mut gathered = SmallVec::new();
    for slice in slices {
        if slice.len() > GATHERED_BYTES_MAX - gathered.len() {
            return None;
        }
        gathered.extend_from_slice(slice);
    }
    Some(gathered)
}
