//! The files: `<number>.segment`, written from the front, and spare ones that were written before.
//!
//! A spare has all its blocks written, so that a sync of what is put there changes no metadata of the file
//! system; a purged segment becomes one, the first ones are filled with zeros.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

/// A segment's usual size; small in tests, so that they have many.
pub(super) const SEGMENT_BYTES: u64 = if cfg!(test) { 1024 * 1024 } else { 16 * 1024 * 1024 };
const EXTENSION: &str = "segment";
const SPARE: &str = "spare";
/// Written while a spare is filled.
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.{EXTENSION}"))
}

pub(super) fn spare_path(directory: &Path) -> PathBuf {
    directory.join(SPARE)
}

/// The numbers of the segments in a folder, ascending.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_segment = path.extension().is_some_and(|extension| extension == EXTENSION);
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse::<u64>().ok());
        numbers.extend(number.filter(|_| is_segment));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens the spare, which has at least so many bytes when this returns, all of its blocks on disk.
pub(super) fn open_spare(directory: &Path, bytes: u64) -> io::Result<File> {
    fill(&spare_path(directory), bytes)
}

fn fill(path: &Path, bytes: u64) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    let mut at = file.metadata()?.len();
    if at >= bytes {
        return Ok(file);
    }
    while at < bytes {
        let length = ZEROS.len().min(usize::try_from(bytes - at).unwrap_or(usize::MAX));
        file.write_all_at(&ZEROS[..length], at)?;
        at += length as u64;
    }
    file.sync_all()?;
    Ok(file)
}

/// Makes the next spare beside the log's thread; one at a time.
#[derive(Debug, Default)]
pub(super) struct Filler(Option<JoinHandle<()>>);

impl Filler {
    /// Makes a spare unless there is one.
    pub(super) fn fill(&mut self, directory: &Path) {
        let spare = spare_path(directory);
        if spare.exists() || self.0.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let making = directory.join("spare.new");
        let make = move || {
            // Without a spare the log's thread makes one when it needs it, and says why it cannot.
            if let Err(error) = fill(&making, SEGMENT_BYTES).and_then(|_| fs::rename(&making, &spare)) {
                tracing::warn!(%error, "making a spare segment of the log");
                let _ = fs::remove_file(&making);
            }
        };
        self.0 = thread::Builder::new()
            .name("store-log-spare".into())
            .spawn(make)
            .ok();
    }
}

impl Filler {
    /// Returns when no spare is being made.
    pub(super) fn wait(&mut self) {
        if let Some(running) = self.0.take() {
            let _ = running.join();
        }
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.wait();
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
