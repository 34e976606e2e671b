//! Refuses writes before the disk is full, because a sled that once failed to write answers nothing more.
//!
//! Puts stop at the reserve; deletes, compaction and leases, which are how space is won back, only at a
//! quarter of it. The filesystem is asked each time, which takes microseconds: others fill the disk too.

use std::path::PathBuf;

use crate::{Error, Result};

/// Watches the free space of one folder.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    directory: PathBuf,
    reserve_bytes: u64,
}

impl SpaceGuard {
    pub(crate) fn new(directory: PathBuf, reserve_bytes: u64) -> Self {
        Self {
            directory,
            reserve_bytes,
        }
    }

    /// Asks for room for a write.
    pub(crate) fn admit(&self, bytes: usize, grows: bool) -> Result<()> {
        let reserve = if grows {
            self.reserve_bytes
        } else {
            self.reserve_bytes / 4
        };
        // A filesystem that does not tell is tried.
        let Ok(stat) = nix::sys::statvfs::statvfs(&self.directory) else {
            return Ok(());
        };
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        if free >= reserve.saturating_add(bytes as u64) {
            return Ok(());
        }
        let directory = self.directory.display();
        Err(Error::NoSpace(format!(
            "{directory} has {free} bytes free and {reserve} must stay free; free some space, or compact"
        )))
    }
}
