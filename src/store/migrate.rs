//! Upgrades of the store's format: numbered, append-only, compiled in from `migrations/`.
//!
//! Each migration is applied in one atomic batch together with its entry in the history, so a
//! crash in the middle leaves the store as it was and the next start runs it again.
//! A store whose writer demands a newer reader is refused, never guessed at.

use super::{StoreError, keys};

#[path = "../../migrations/0001_initial.rs"]
mod m0001_initial;

/// One upgrade of the format.
pub(super) struct Migration {
    /// Number of the format it leads to, counted from 1 without gaps.
    pub(super) id: u32,
    /// What it does, for the history.
    pub(super) description: &'static str,
    /// Oldest format that a binary must know to read the result.
    pub(super) min_reader: u32,
    /// Adds the changes to the batch that is applied with the history entry.
    pub(super) up: fn(&sled::Db, &mut sled::Batch) -> Result<(), StoreError>,
}

/// All migrations in order. Append only.
const MIGRATIONS: &[Migration] = &[m0001_initial::MIGRATION];

/// Newest format this binary knows.
#[must_use]
pub const fn format_known() -> u32 {
    MIGRATIONS.len() as u32
}

const FORMAT_KEY: &[u8] = &[keys::META, b'f'];
const HISTORY_PREFIX: &[u8] = &[keys::META, b'h'];

/// Brings the store to the newest format.
pub(super) fn run(db: &sled::Db) -> Result<(), StoreError> {
    let (found, min_reader) = current(db)?;
    if min_reader > format_known() {
        return Err(StoreError::TooNew { found, min_reader, known: format_known() });
    }
    for migration in MIGRATIONS.iter().filter(|migration| migration.id > found) {
        let mut batch = sled::Batch::default();
        (migration.up)(db, &mut batch)?;
        let history = [HISTORY_PREFIX, &migration.id.to_be_bytes()].concat();
        let entry = format!("{} (hydrant {})", migration.description, env!("CARGO_PKG_VERSION"));
        batch.insert(history, entry.as_bytes());
        batch.insert(FORMAT_KEY, encode(migration.id, migration.min_reader).as_slice());
        db.apply_batch(batch)?;
        db.flush()?;
        tracing::info!(format = migration.id, migration = migration.description, "store migrated");
    }
    Ok(())
}

/// Format of the store and the oldest format that may read it; zeros for an empty store.
fn current(db: &sled::Db) -> Result<(u32, u32), StoreError> {
    let Some(value) = db.get(FORMAT_KEY)? else {
        return if db.is_empty() { Ok((0, 0)) } else { Err(StoreError::Damaged("no format")) };
    };
    let parsed = value.split_first_chunk::<4>().and_then(|(format, rest)| {
        let reader: [u8; 4] = rest.try_into().ok()?;
        Some((u32::from_be_bytes(*format), u32::from_be_bytes(reader)))
    });
    parsed.ok_or(StoreError::Damaged("format entry"))
}

fn encode(format: u32, min_reader: u32) -> Vec<u8> {
    [format.to_be_bytes(), min_reader.to_be_bytes()].concat()
}

#[cfg(test)]
pub(super) fn pretend_format(db: &sled::Db, format: u32, min: u32) -> Result<(), StoreError> {
    db.insert(FORMAT_KEY, encode(format, min))?;
    db.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps() {
        for (number, migration) in (1_u32..).zip(MIGRATIONS) {
            assert_eq!(migration.id, number);
            assert!(migration.min_reader <= migration.id);
            assert!(!migration.description.is_empty());
        }
    }

    #[test]
    fn running_twice_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        run(&db).unwrap();
        let before = db.checksum().unwrap();
        run(&db).unwrap();
        assert_eq!(db.checksum().unwrap(), before);
        assert_eq!(current(&db).unwrap(), (1, 1));
    }
}
