//! The journal: small durable batches of all partitions, behind one another in one file.
//!
//! A segment of its own per partition means a sync of its own; with many partitions most of the
//! time goes into syncs that cover one batch each. So a small batch that must be on disk is also
//! written here, and one `fdatasync` covers everything that came meanwhile, whatever partition it
//! is for (ADR 0003 has the measurement). Its segment reaches the disk later, with the next
//! checkpoint; after loss of power what is missing at a segment's end comes back from here.
//!
//! Two files take turns. One is written again only when every batch in it is on disk in its
//! segment. A file is blocks of one generation: a stale block behind the newest has an older one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use super::layout::sync_dir;
use super::partition::Partition;
use crate::base::ids::{Offset, PartitionId, TopicId};

/// Largest batch that goes through the journal. Larger ones are worth a sync of their segment,
/// and writing them twice would cost more than it saves.
pub const JOURNAL_BATCH_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a file. Both are written with zeros once: a sync of bytes that overwrite others takes
/// two thirds of the time of one that makes the file longer.
const FILE_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that may wait to be written; beyond them a batch takes the way of large ones.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// First bytes of a block: "hydj".
const MAGIC: u32 = 0x6879_646a;

/// Magic, generation, bytes of the entries and their CRC-32C.
const BLOCK_HEADER_BYTES: usize = 20;

/// Topic id, partition and bytes of the batch, in front of each batch.
const ENTRY_HEADER_BYTES: usize = 24;

/// Which partition an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JournalKey {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionId,
}

/// What the journal held when it was opened: batches by partition, in the order of offsets.
#[derive(Debug, Default)]
pub struct JournalContents {
    batches: HashMap<JournalKey, Vec<(Offset, Bytes)>>,
    generation: u64,
}

impl JournalContents {
    /// Reads both files in `dir`; what is torn or stale ends a file without an error.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut contents = Self::default();
        for name in FILES {
            match std::fs::read(dir.join(name)) {
                Ok(bytes) => contents.take_file(Bytes::from(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for batches in contents.batches.values_mut() {
            batches.sort_by_key(|(base_offset, _)| *base_offset);
        }
        Ok(contents)
    }

    /// Takes the batches of one partition.
    pub fn take(&mut self, key: JournalKey) -> Vec<(Offset, Bytes)> {
        self.batches.remove(&key).unwrap_or_default()
    }

    fn take_file(&mut self, mut file: Bytes) {
        let mut generation = None;
        while file.len() >= BLOCK_HEADER_BYTES {
            let (magic, block) = (file.get_u32(), file.get_u64());
            let length = usize::try_from(file.get_u32()).unwrap_or(usize::MAX);
            let crc = file.get_u32();
            let is_next = magic == MAGIC && *generation.get_or_insert(block) == block;
            if !is_next || length > file.len() {
                return;
            }
            let entries = file.split_to(length);
            if crc32c::crc32c(&entries) != crc {
                return;
            }
            self.generation = self.generation.max(block);
            self.take_entries(entries);
        }
    }

    fn take_entries(&mut self, mut entries: Bytes) {
        while entries.len() >= ENTRY_HEADER_BYTES {
            let topic = TopicId::from_u128(entries.get_u128());
            let partition = entries.get_i32();
            let length = usize::try_from(entries.get_u32()).unwrap_or(usize::MAX);
            if length > entries.len() {
                return;
            }
            let batch = entries.split_to(length);
            let Some(base_offset) = batch.first_chunk::<8>() else { return };
            let base_offset = i64::from_be_bytes(*base_offset);
            let key = JournalKey { topic, partition };
            self.batches.entry(key).or_default().push((base_offset, batch));
        }
    }
}

const FILES: [&str; 2] = ["0.journal", "1.journal"];

/// The open journal and its thread.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Position before which everything is on disk; `u64::MAX` after a failure, with
    /// `Inner::failed` set, so that waiters wake and look.
    durable: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    buffer: Vec<u8>,
    /// Partitions with entries in the buffer and the offset after each.
    touched: Vec<(Arc<Partition>, Offset)>,
    /// Position after the buffer, counted from the start of this process.
    end: u64,
    failed: bool,
    stopping: bool,
}

impl Journal {
    /// Opens the journal in `dir` for writing, after its contents were taken out and synced into
    /// their segments, and starts its thread.
    ///
    /// # Errors
    /// What the system reports.
    pub fn start(dir: &Path, contents: &JournalContents) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let open = |name: &str| -> io::Result<File> {
            let path = dir.join(name);
            OpenOptions::new().write(true).create(true).truncate(false).open(path)
        };
        let files = [open(FILES[0])?, open(FILES[1])?];
        for file in &files {
            if file.metadata()?.len() < FILE_BYTES as u64 {
                file.write_all_at(&vec![0; FILE_BYTES], 0)?;
                file.sync_data()?;
            }
        }
        sync_dir(dir)?;
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            wake: Condvar::new(),
            durable: watch::Sender::new(0),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            files,
            current: 0,
            position: 0,
            generation: contents.generation + 1,
            touched: [HashMap::new(), HashMap::new()],
        };
        let builder = std::thread::Builder::new().name("journal".to_owned());
        let thread = builder.spawn(move || writer.serve())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Writes a batch behind the others; returns the position to wait for. None when the journal
    /// cannot take it: the caller syncs the segment instead.
    ///
    /// `prefix` replaces the first bytes of the batch: they hold the offset it got.
    pub fn append(
        &self,
        key: JournalKey,
        partition: &Arc<Partition>,
        end_offset: Offset,
        prefix: [u8; 16],
        batch: &[u8],
    ) -> Option<u64> {
        let rest = batch.get(prefix.len()..)?;
        let length = u32::try_from(batch.len()).ok()?;
        let mut inner = self.shared.inner.lock();
        if inner.failed || inner.stopping || inner.buffer.len() > BUFFER_BYTES_MAX {
            return None;
        }
        let was_empty = inner.buffer.is_empty();
        if was_empty {
            inner.buffer.resize(BLOCK_HEADER_BYTES, 0);
        }
        inner.buffer.put_u128(key.topic.as_u128());
        inner.buffer.put_i32(key.partition);
        inner.buffer.put_u32(length);
        inner.buffer.extend_from_slice(&prefix);
        inner.buffer.extend_from_slice(rest);
        inner.end += (ENTRY_HEADER_BYTES + batch.len()) as u64;
        inner.touched.push((Arc::clone(partition), end_offset));
        let end = inner.end;
        drop(inner);
        if was_empty {
            self.shared.wake.notify_one();
        }
        Some(end)
    }

    /// Waits until everything before `position` is on disk; false when the journal failed.
    ///
    /// # Cancel safety
    /// Safe: the write happens all the same.
    pub async fn wait(&self, position: u64) -> bool {
        let mut durable = self.shared.durable.subscribe();
        // The guard must go at once: see `Partition::wait_durable`.
        let reached = durable.wait_for(|now| *now >= position).await.map(|now| *now);
        reached.is_ok_and(|now| now != u64::MAX)
    }

    /// Writes what is waiting and ends the thread.
    pub fn stop(&self) {
        self.shared.inner.lock().stopping = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ended = thread.join();
        }
    }
}

/// The thread's side.
struct Writer {
    shared: Arc<Shared>,
    files: [File; 2],
    current: usize,
    position: u64,
    generation: u64,
    /// By file: partitions with batches in it and the offset after the last. Bounded by the
    /// number of partitions.
    touched: [HashMap<usize, (Arc<Partition>, Offset)>; 2],
}

impl Writer {
    fn serve(mut self) {
        let mut buffer = Vec::new();
        loop {
            let (touched, end) = {
                let mut inner = self.shared.inner.lock();
                while inner.buffer.is_empty() {
                    if inner.stopping {
                        return;
                    }
                    self.shared.wake.wait(&mut inner);
                }
                buffer.clear();
                std::mem::swap(&mut buffer, &mut inner.buffer);
                (std::mem::take(&mut inner.touched), inner.end)
            };
            match self.write(&mut buffer, touched) {
                Ok(()) => {
                    self.shared.durable.send_replace(end);
                }
                Err(error) => {
                    tracing::error!(%error, "journal cannot be written, segments are synced instead");
                    self.shared.inner.lock().failed = true;
                    self.shared.durable.send_replace(u64::MAX);
                    return;
                }
            }
        }
    }

    /// Writes a block, whose header is still empty, and syncs it.
    fn write(
        &mut self,
        block: &mut [u8],
        touched: Vec<(Arc<Partition>, Offset)>,
    ) -> io::Result<()> {
        let total = block.len() as u64;
        if self.position + total > FILE_BYTES as u64 && self.position > 0 {
            self.rotate()?;
        }
        let (mut header, entries) = block.split_at_mut(BLOCK_HEADER_BYTES);
        header.put_u32(MAGIC);
        header.put_u64(self.generation);
        header.put_u32(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        header.put_u32(crc32c::crc32c(entries));
        let [first, second] = &self.files;
        let file = if self.current == 0 { first } else { second };
        file.write_all_at(block, self.position)?;
        file.sync_data()?;
        self.position += total;
        if let Some(known) = self.touched.get_mut(self.current) {
            for (partition, end) in touched {
                let key = Arc::as_ptr(&partition).addr();
                let entry = known.entry(key).or_insert((partition, end));
                entry.1 = entry.1.max(end);
            }
        }
        Ok(())
    }

    /// Takes the other file, after everything in it is on disk in its segments.
    fn rotate(&mut self) -> io::Result<()> {
        let next = 1 - self.current;
        if let Some(known) = self.touched.get_mut(next) {
            for (partition, end) in std::mem::take(known).into_values() {
                if partition.durable_end() < end && !partition.is_offline() {
                    partition.sync_now()?;
                }
            }
        }
        self.current = next;
        self.position = 0;
        self.generation += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(generation: u64, entries: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_u32(MAGIC);
        block.put_u64(generation);
        block.put_u32(u32::try_from(entries.len()).unwrap());
        block.put_u32(crc32c::crc32c(entries));
        block.extend_from_slice(entries);
        block
    }

    fn entry(partition: i32, base_offset: Offset) -> Vec<u8> {
        let mut entry = Vec::new();
        entry.put_u128(7);
        entry.put_i32(partition);
        entry.put_u32(10);
        entry.put_i64(base_offset);
        entry.extend_from_slice(b"ab");
        entry
    }

    fn offsets(dir: &Path, partition: i32) -> Vec<Offset> {
        let mut contents = JournalContents::read(dir).unwrap();
        let key = JournalKey { topic: TopicId::from_u128(7), partition };
        contents.take(key).into_iter().map(|(offset, _)| offset).collect()
    }

    #[test]
    fn blocks_of_one_generation_are_read_and_stale_ones_behind_them_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let newer = [block(3, &entry(0, 5)), block(3, &[entry(1, 9), entry(0, 4)].concat())];
        let file = [newer.concat(), block(1, &entry(0, 1))].concat();
        std::fs::write(dir.path().join(FILES[0]), file).unwrap();
        std::fs::write(dir.path().join(FILES[1]), block(2, &entry(0, 3))).unwrap();
        assert_eq!(offsets(dir.path(), 0), [3, 4, 5]);
        assert_eq!(offsets(dir.path(), 1), [9]);
        assert_eq!(JournalContents::read(dir.path()).unwrap().generation, 3);
    }

    #[test]
    fn a_torn_or_damaged_block_ends_the_file_at_any_byte() {
        let dir = tempfile::tempdir().unwrap();
        let first = block(1, &entry(0, 1));
        let whole = [first.clone(), block(1, &entry(0, 2))].concat();
        for at in first.len()..whole.len() {
            std::fs::write(dir.path().join(FILES[0]), &whole[..at]).unwrap();
            assert_eq!(offsets(dir.path(), 0), [1], "cut at {at}");
            let mut broken = whole.clone();
            broken[at] ^= 0x40;
            std::fs::write(dir.path().join(FILES[0]), &broken).unwrap();
            assert_eq!(offsets(dir.path(), 0), [1], "flipped at {at}");
        }
    }
}
