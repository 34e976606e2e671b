//! One sled database, opened with the guard rails that make it durable.
//!
//! No background flusher; small rows and segments that hold them (see `frame`); after each flush our own
//! fdatasync of the data file; a small page cache. An interrupted snapshot of sled's is removed, and a blob
//! file is refused, because sled never syncs those.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{frame, io_error};
use crate::{Error, Result};

/// A page must stay below a quarter of it: room for 31 rows of the largest chunk. Not larger, because sled
/// makes a buffer of this size, of zeros, for each flush.
const SEGMENT_BYTES: usize = 512 * 1024;
/// sled's page cache; what it really takes is about ten times as much.
const CACHE_BYTES: u64 = 512 * 1024;
/// Bytes that a scan reads before it hands on what it has passed.
const SCAN_RELEASE_BYTES: usize = 64 * 1024;

/// How long a database may take to be closed by whoever had it before.
const CLOSING_WAIT: Duration = Duration::from_secs(5);
const CLOSING_POLL: Duration = Duration::from_millis(5);

/// An open database.
pub(super) struct SledDatabase {
    name: &'static str,
    directory: PathBuf,
    tree: sled::Tree,
    database: sled::Db,
    data: File,
    /// The first failure; after it sled answers nothing more.
    failed: OnceLock<Error>,
}

impl SledDatabase {
    pub(super) fn open(directory: &Path, name: &'static str) -> Result<Self> {
        let doing = format!("opening the {name} in {}", directory.display());
        fs::create_dir_all(directory).map_err(|error| io_error(&doing, &error))?;
        tidy(directory).map_err(|error| io_error(&doing, &error))?;
        refuse_blobs(directory, name)?;
        let config = sled::Config::new()
            .path(directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let database = open_unlocked(&config, &doing)?;
        let data = File::open(directory.join("db")).map_err(|error| io_error(&doing, &error))?;
        let tree = (*database).clone();
        let directory = directory.to_owned();
        let this = Self {
            name,
            directory,
            tree,
            database,
            data,
            failed: OnceLock::new(),
        };
        this.sync()?;
        sync_directory(&this.directory).map_err(|error| io_error(&doing, &error))?;
        Ok(this)
    }

    /// Writes values and then removes others, each on its own and in this order: a crash leaves a beginning
    /// of it. A value in several rows has its first row written last, so it is there as a whole or not.
    pub(super) fn apply_in_order<'a>(
        &self,
        puts: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        deletes: impl Iterator<Item = Vec<u8>>,
    ) -> Result<()> {
        self.alive()?;
        let mut rows = Vec::new();
        for (key, value) in puts {
            frame::encode(key, value, |key, value| rows.push((key, value)))?;
            for (key, value) in rows.drain(..).rev() {
                self.tree
                    .insert(key, value)
                    .map_err(|error| self.fail("writing", &error))?;
            }
        }
        for key in deletes {
            for row in self.rows_of(&key)? {
                self.tree
                    .remove(row)
                    .map_err(|error| self.fail("writing", &error))?;
            }
        }
        Ok(())
    }

    /// Writes and removes values as a whole. Dear: sled stops every other writer of the process meanwhile.
    pub(super) fn apply_as_a_whole<'a>(
        &self,
        puts: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        deletes: impl Iterator<Item = Vec<u8>>,
    ) -> Result<()> {
        self.alive()?;
        let mut batch = sled::Batch::default();
        for (key, value) in puts {
            frame::encode(key, value, |key, value| batch.insert(key, value))?;
        }
        for key in deletes {
            for row in self.rows_of(&key)? {
                batch.remove(row);
            }
        }
        self.tree
            .apply_batch(batch)
            .map_err(|error| self.fail("writing", &error))
    }

    /// Removes all rows with `start <= key < end` without reading them as values.
    pub(super) fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.alive()?;
        for row in self.tree.range(start..end).keys() {
            let key = row.map_err(|error| self.fail("reading", &error))?;
            self.tree
                .remove(key)
                .map_err(|error| self.fail("writing", &error))?;
        }
        Ok(())
    }

    fn rows_of(&self, key: &[u8]) -> Result<Vec<Vec<u8>>> {
        let first = frame::row_key(key, 0);
        let Some(row) = self
            .tree
            .get(&first)
            .map_err(|error| self.fail("reading", &error))?
        else {
            return Ok(Vec::new());
        };
        let chunks = frame::chunk_count(frame::value_length(&row).unwrap_or(0)).max(1);
        Ok((0..u16::try_from(chunks).unwrap_or(u16::MAX))
            .map(|chunk| frame::row_key(key, chunk))
            .collect())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let first = self.tree.get(frame::row_key(key, 0));
        let Some(row) = first.map_err(|error| self.fail("reading", &error))? else {
            return Ok(None);
        };
        self.decode(key, &row).map(Some)
    }

    fn decode(&self, key: &[u8], first_row: &[u8]) -> Result<Bytes> {
        frame::decode(self.name, key, first_row, |chunk| {
            let row = self.tree.get(frame::row_key(key, chunk));
            row.map_err(|error| self.fail("reading", &error))
        })
    }

    /// Visits values with `start <= key < end` in order.
    pub(super) fn scan(&self, start: &[u8], end: &[u8], visit: &mut super::Visit<'_>) -> Result<()> {
        let mut unreleased = 0;
        for row in self.tree.range(start..end) {
            let (key, value) = row.map_err(|error| self.fail("reading", &error))?;
            unreleased += value.len();
            if unreleased >= SCAN_RELEASE_BYTES {
                // The pages that were passed are in this thread's list of garbage; see `sync`.
                crossbeam_epoch::pin().flush();
                unreleased = 0;
            }
            let Some((key, chunk)) = key.split_last_chunk::<{ frame::SUFFIX_BYTES }>() else {
                return Err(Error::Corrupt(format!("{}: a row without a key", self.name)));
            };
            if *chunk == [0; frame::SUFFIX_BYTES] && !visit(key, self.decode(key, &value)?)? {
                break;
            }
        }
        Ok(())
    }

    /// The last value with `start <= key < end`, and its key.
    pub(super) fn last(&self, start: &[u8], end: &[u8]) -> Result<Option<(Vec<u8>, Bytes)>> {
        for row in self.tree.range(start..end).rev() {
            let (key, _) = row.map_err(|error| self.fail("reading", &error))?;
            let Some((key, chunk)) = key.split_last_chunk::<{ frame::SUFFIX_BYTES }>() else {
                return Err(Error::Corrupt(format!("{}: a row without a key", self.name)));
            };
            if *chunk == [0; frame::SUFFIX_BYTES] {
                return Ok(self.get(key)?.map(|value| (key.to_vec(), value)));
            }
        }
        Ok(None)
    }

    /// Returns when everything written before is on disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.alive()?;
        self.tree.flush().map_err(|error| self.fail("syncing", &error))?;
        self.data.sync_data().map_err(|error| {
            let error = io_error(&format!("syncing the {}", self.name), &error);
            self.failed.get_or_init(|| error).clone()
        })?;
        // A flush leaves its write buffer, of a segment's size, in this thread's list of garbage, which is
        // handed on when 64 things are in it: too late for a thread that does little but flush.
        crossbeam_epoch::pin().flush();
        #[cfg(test)]
        super::power_loss::synced(&self.directory);
        Ok(())
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.database.size_on_disk().unwrap_or(0)
    }

    /// A sync that failed once may have lost what it was to keep: nothing more is acknowledged after it.
    fn alive(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn fail(&self, doing: &str, error: &sled::Error) -> Error {
        let error = sled_error(&format!("{doing} the {}", self.name), error);
        self.failed.get_or_init(|| error).clone()
    }
}

/// Opens the database; one that this process or its predecessor is just closing becomes free in a moment.
/// That nobody else has it open is the folder's lock to see to.
fn open_unlocked(config: &sled::Config, doing: &str) -> Result<sled::Db> {
    let deadline = Instant::now() + CLOSING_WAIT;
    loop {
        // A damaged file makes sled panic in places; that must not take the process down.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(database)) => return Ok(database),
            // sled says it by the text alone.
            Ok(Err(sled::Error::Io(error)))
                if error.to_string().contains("could not acquire lock") && Instant::now() < deadline =>
            {
                std::thread::sleep(CLOSING_POLL);
            }
            Ok(Err(error)) => return Err(sled_error(doing, &error)),
            Err(_) => return Err(Error::Corrupt(format!("{doing}: the data file is damaged"))),
        }
    }
}

fn sled_error(doing: &str, error: &sled::Error) -> Error {
    match error {
        sled::Error::Io(error) => io_error(doing, error),
        error => Error::Corrupt(format!("{doing}: {error}")),
    }
}

/// Removes what an interrupted snapshot of sled's left; it would be read as a whole one.
fn tidy(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn refuse_blobs(directory: &Path, name: &str) -> Result<()> {
    let blobs = directory.join("blobs");
    let is_empty = fs::read_dir(&blobs).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        return Ok(());
    }
    let blobs = blobs.display();
    Err(Error::Corrupt(format!(
        "the {name} has files in {blobs}, which this store never writes"
    )))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()?;
    directory
        .parent()
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
