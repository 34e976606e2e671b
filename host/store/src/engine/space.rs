//! Refuses writes before the disk is full, because a sled that once failed to write answers nothing more.
//!
//! Puts stop at the reserve; deletes, compaction and leases, which are how space is won back, only at a
//! quarter of it. Free space is asked of the filesystem at most once in [`ASK_AFTER_BYTES`] written.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// How much may be written between two looks at the filesystem.
const ASK_AFTER_BYTES: u64 = 1024 * 1024;

/// Watches the free space of one folder.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    directory: PathBuf,
    reserve_bytes: u64,
    /// What the last look found, less what was written since.
    free_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl SpaceGuard {
    pub(crate) fn new(directory: PathBuf, reserve_bytes: u64) -> Self {
        let this = Self {
            directory,
            reserve_bytes,
            free_bytes: AtomicU64::new(u64::MAX),
            written_bytes: AtomicU64::new(0),
        };
        this.look();
        this
    }

    /// Asks for room for a write.
    pub(crate) fn admit(&self, bytes: usize, grows: bool) -> Result<()> {
        let reserve = if grows {
            self.reserve_bytes
        } else {
            self.reserve_bytes / 4
        };
        let bytes = bytes as u64;
        let written = self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        let free = self.free_bytes.load(Ordering::Relaxed);
        let needed = reserve.saturating_add(bytes);
        if written >= ASK_AFTER_BYTES || free < needed.saturating_add(ASK_AFTER_BYTES) {
            self.look();
        }
        let free = self.free_bytes.load(Ordering::Relaxed);
        if free >= needed {
            return Ok(());
        }
        let directory = self.directory.display();
        Err(Error::NoSpace(format!(
            "{directory} has {free} bytes free and {reserve} must stay free; free some space, or compact"
        )))
    }

    fn look(&self) {
        self.written_bytes.store(0, Ordering::Relaxed);
        if let Ok(stat) = nix::sys::statvfs::statvfs(&self.directory) {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            self.free_bytes.store(free, Ordering::Relaxed);
        }
    }
}
