//! One sled database, opened with the guard rails that make it durable.
//!
//! No background flusher; small rows and segments that hold them (see `frame`); syncs that reach the disk (see
//! `sled_sync`); a small page cache. An interrupted snapshot of sled's is removed, and a blob file is refused,
//! because sled never syncs those. Where a damaged file makes sled panic, the caller is told `Corrupt`.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{frame, io_error, sled_sync};
use crate::{Error, Result};

/// A page must stay below a quarter of it: room for 31 rows of the largest chunk. Not larger, because sled
/// makes a buffer of this size, of zeros, for each flush.
const SEGMENT_BYTES: usize = 512 * 1024;
/// sled's page cache; what it really takes is about ten times as much.
const CACHE_BYTES: u64 = 512 * 1024;
/// Bytes that a scan reads before it hands on what it has passed.
const SCAN_RELEASE_BYTES: usize = 64 * 1024;
/// Bytes that a scan reads for each time that it touches a page again. sled spreads its pages over 256 shards,
/// and a shard looks at what it may evict only at each 64th access to it. A scan accesses each page once, so
/// 16,384 pages of up to 64 kB each would stay, whatever the cache's size. Touched in step with its bytes, what
/// stays of them is 256 x 64 x this, 16 MiB.
const SCAN_TOUCH_BYTES: usize = 1024;

/// How long a database may take to be closed by whoever had it before.
const CLOSING_WAIT: Duration = Duration::from_secs(5);
const CLOSING_POLL: Duration = Duration::from_millis(5);

/// An open database.
pub(super) struct SledDatabase {
    name: &'static str,
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
        let path = directory.join("db");
        if path.exists() {
            // What a kill left in the page cache: sled is about to note, durably, that all of it is there.
            let synced = File::open(&path).and_then(|file| file.sync_data());
            synced.map_err(|error| io_error(&doing, &error))?;
        }
        let config = sled::Config::new()
            .path(directory)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(CACHE_BYTES)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let database = open_unlocked(&config, &doing)?;
        let data = File::open(path).map_err(|error| io_error(&doing, &error))?;
        let tree = (*database).clone();
        let this = Self {
            name,
            tree,
            database,
            data,
            failed: OnceLock::new(),
        };
        this.sync()?;
        this.data.sync_data().map_err(|error| io_error(&doing, &error))?;
        sync_directory(directory).map_err(|error| io_error(&doing, &error))?;
        #[cfg(test)]
        super::power_loss::opened(directory);
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
                self.guarded("writing", || self.tree.insert(key, value))?;
            }
        }
        for key in deletes {
            for row in self.rows_of(&key)? {
                self.guarded("writing", || self.tree.remove(row))?;
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
        self.guarded("writing", || self.tree.apply_batch(batch))
    }

    /// Removes all rows with `start <= key < end` without reading them as values.
    pub(super) fn remove_range(&self, start: &[u8], end: &[u8]) -> Result<()> {
        self.alive()?;
        let mut rows = self.tree.range(start..end).keys();
        while let Some(key) = self.guarded("reading", || rows.next().transpose())? {
            self.guarded("writing", || self.tree.remove(key))?;
        }
        Ok(())
    }

    fn rows_of(&self, key: &[u8]) -> Result<Vec<Vec<u8>>> {
        let first = frame::row_key(key, 0);
        let Some(row) = self.guarded("reading", || self.tree.get(&first))? else {
            return Ok(Vec::new());
        };
        let chunks = frame::chunk_count(frame::value_length(&row).unwrap_or(0)).max(1);
        Ok((0..u16::try_from(chunks).unwrap_or(u16::MAX))
            .map(|chunk| frame::row_key(key, chunk))
            .collect())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let first = self.guarded("reading", || self.tree.get(frame::row_key(key, 0)))?;
        let Some(row) = first else {
            return Ok(None);
        };
        self.decode(key, &row).map(Some)
    }

    fn decode(&self, key: &[u8], first_row: &[u8]) -> Result<Bytes> {
        frame::decode(self.name, key, first_row, |chunk| {
            self.guarded("reading", || self.tree.get(frame::row_key(key, chunk)))
        })
    }

    /// Visits values with `start <= key < end` in order.
    pub(super) fn scan(&self, start: &[u8], end: &[u8], visit: &mut super::Visit<'_>) -> Result<()> {
        let (mut unreleased, mut untouched) = (0, 0);
        let mut rows = self.tree.range(start..end);
        while let Some((key, value)) = self.guarded("reading", || rows.next().transpose())? {
            untouched += value.len();
            while untouched >= SCAN_TOUCH_BYTES {
                self.guarded("reading", || self.tree.get(&key))?;
                untouched -= SCAN_TOUCH_BYTES;
            }
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
        let mut rows = self.tree.range(start..end).rev();
        while let Some((key, _)) = self.guarded("reading", || rows.next().transpose())? {
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
        self.guarded("syncing", || self.tree.flush())?;
        if !sled_sync::is_in_force() {
            self.data.sync_data().map_err(|error| {
                let error = io_error(&format!("syncing the {}", self.name), &error);
                self.failed.get_or_init(|| error).clone()
            })?;
        }
        // A flush leaves its write buffer, of a segment's size, in this thread's list of garbage, which is
        // handed on when 64 things are in it: too late for a thread that does little but flush.
        crossbeam_epoch::pin().flush();
        Ok(())
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.database.size_on_disk().unwrap_or(0)
    }

    /// A sync that failed once may have lost what it was to keep: nothing more is acknowledged after it.
    fn alive(&self) -> Result<()> {
        self.failed.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Has sled do something, which panics where what it finds cannot be.
    fn guarded<T>(&self, doing: &str, work: impl FnOnce() -> sled::Result<T>) -> Result<T> {
        let error = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => sled_error(&format!("{doing} the {}", self.name), &error),
            Err(_) => Error::Corrupt(format!("{doing} the {}: its data file is damaged", self.name)),
        };
        Err(self.failed.get_or_init(|| error).clone())
    }
}

/// Opens the database; one that this process or its predecessor is just closing becomes free in a moment.
/// That nobody else has it open is the folder's lock to see to.
fn open_unlocked(config: &sled::Config, doing: &str) -> Result<sled::Db> {
    let deadline = Instant::now() + CLOSING_WAIT;
    loop {
        // A damaged file makes sled panic in places; that must not take the process down.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
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
        // It looked for something where the file has ended.
        sled::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::Corrupt(format!("{doing}: {error}"))
        }
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
