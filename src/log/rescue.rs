//! Batches of the journal whose partition is not served: kept beside its segments until it is.
//!
//! The journal is written anew at every start, so what it has of a damaged partition would be gone
//! by the time somebody has mended it. The file holds batches as they are stored, back to back.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;

use super::layout::sync_dir;
use crate::base::ids::Offset;
use crate::protocol::record_batch::BatchHeader;

const FILE: &str = "journal.rescue";

/// Adds batches to what is kept in the folder of a partition; they are on disk on return.
///
/// # Errors
/// What the file system reports.
pub fn keep(dir: &Path, batches: &[(Offset, Bytes)]) -> io::Result<()> {
    if batches.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let mut file = OpenOptions::new().create(true).append(true).open(dir.join(FILE))?;
    for (_, batch) in batches {
        file.write_all(batch)?;
    }
    file.sync_data()?;
    sync_dir(dir)
}

/// Reads what is kept, in the order of offsets. A torn end is left out: it was never promised.
///
/// # Errors
/// What the file system reports.
pub fn read(dir: &Path) -> io::Result<Vec<(Offset, Bytes)>> {
    let mut rest = match std::fs::read(dir.join(FILE)) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut batches = Vec::new();
    while let Ok(header) = BatchHeader::parse(&rest) {
        if header.total_bytes() > rest.len() {
            break;
        }
        batches.push((header.base_offset, rest.split_to(header.total_bytes())));
    }
    batches.sort_by_key(|(base_offset, _)| *base_offset);
    Ok(batches)
}

/// Forgets what is kept, once it is in the segments and on disk.
///
/// # Errors
/// What the file system reports.
pub fn forget(dir: &Path) -> io::Result<()> {
    match std::fs::remove_file(dir.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
