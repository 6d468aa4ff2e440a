//! The data folder: who owns it and where a partition's segments lie.
//!
//! ```text
//! data/lock                     held with flock while a process uses the folder
//! data/log/<topic id>/<partition>/<base offset>.log
//! data/journal/                 small durable batches until their segments are on disk
//! data/store/                   sled, derived from the log
//! ```
//!
//! Folders are named by topic id, so a topic that is deleted and created again never meets its
//! old files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::base::ids::{PartitionId, TopicId};

/// Ending of a topic folder whose topic is deleted but whose files are not yet.
const DELETED_SUFFIX: &str = ".deleted";

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds the lock.
    #[error("data directory {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("data directory {} cannot be used: {source}", path.display())]
    Io {
        /// The folder or file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The data folder, locked as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Closing the file releases the lock.
    _lock: File,
}

impl DataDir {
    /// Creates the folder if needed and locks it.
    ///
    /// # Errors
    /// [`DataDirError`], with the path concerned.
    pub fn open(root: &Path) -> Result<Self, DataDirError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DataDirError::Io { path, source }
        };
        let log = root.join("log");
        fs::create_dir_all(&log).map_err(failed(&log))?;
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { root: root.to_path_buf(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(DataDirError::InUse(root.to_path_buf())),
            Err(errno) => Err(failed(&lock_path)(errno.into())),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the store lies.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        self.root.join("store")
    }

    /// Where the journal lies.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.root.join("journal")
    }

    fn topic_dir(&self, id: TopicId) -> PathBuf {
        self.root.join("log").join(id.to_string())
    }

    /// Where the segments of one partition lie.
    #[must_use]
    pub fn partition_dir(&self, id: TopicId, partition: PartitionId) -> PathBuf {
        self.topic_dir(id).join(partition.to_string())
    }

    /// Marks a topic's folder as deleted, so that a crash cannot bring it back, and returns it.
    ///
    /// # Errors
    /// What the file system reports; a folder that is not there is none.
    pub fn condemn_topic(&self, id: TopicId) -> io::Result<PathBuf> {
        let dir = self.topic_dir(id);
        let condemned = dir.with_extension(DELETED_SUFFIX.trim_start_matches('.'));
        match fs::rename(&dir, &condemned) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(condemned),
        }
    }

    /// Lists topic folders: the ids of live ones and the paths of condemned ones.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn list_topics(&self) -> io::Result<(Vec<TopicId>, Vec<PathBuf>)> {
        let mut live = Vec::new();
        let mut condemned = Vec::new();
        for entry in fs::read_dir(self.root.join("log"))? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(DELETED_SUFFIX) {
                condemned.push(entry.path());
            } else if let Some(id) = TopicId::parse_hex(&name) {
                live.push(id);
            }
        }
        Ok((live, condemned))
    }

    /// Deletes a folder that [`DataDir::condemn_topic`] returned.
    ///
    /// # Errors
    /// What the file system reports; a folder that is gone is none.
    pub fn remove_condemned(path: &Path) -> io::Result<()> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Makes a folder's entries durable: new, renamed and removed files in it.
///
/// # Errors
/// What the file system reports.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opener_is_refused_and_the_lock_ends_with_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse(_))));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_condemned_topic_is_listed_apart_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path()).unwrap();
        let id = TopicId::from_u128(9);
        fs::create_dir_all(dir.partition_dir(id, 0)).unwrap();
        assert_eq!(dir.list_topics().unwrap(), (vec![id], vec![]));
        let path = dir.condemn_topic(id).unwrap();
        assert_eq!(dir.list_topics().unwrap(), (vec![], vec![path.clone()]));
        DataDir::remove_condemned(&path).unwrap();
        DataDir::remove_condemned(&path).unwrap();
        assert_eq!(dir.list_topics().unwrap(), (vec![], vec![]));
    }
}
