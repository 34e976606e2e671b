//! Refuses writes before the disk is full, because a sled that once failed to write answers nothing more.
//!
//! Puts stop at the reserve; deletes, compaction and leases, which are how space is won back, only at a
//! quarter of it. The filesystem is asked again and again, because others fill the disk too: after so much
//! time, or after so many bytes let in that the answer may have become wrong.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::lock::Mutex;
use crate::{Error, Result};

/// How long an answer of the filesystem holds.
const ASK_AFTER: Duration = Duration::from_millis(10);
/// How much of the reserve may be let in on one answer: this part.
const ASK_AFTER_PART: u64 = 16;

/// Watches the free space of one folder.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    directory: PathBuf,
    reserve_bytes: u64,
    asked: Mutex<Option<Instant>>,
    free_bytes: AtomicU64,
    /// Let in since the filesystem was asked.
    admitted_bytes: AtomicU64,
}

impl SpaceGuard {
    pub(crate) fn new(directory: PathBuf, reserve_bytes: u64) -> Self {
        Self {
            directory,
            reserve_bytes,
            asked: Mutex::default(),
            free_bytes: AtomicU64::new(0),
            admitted_bytes: AtomicU64::new(0),
        }
    }

    /// Asks for room for a write.
    pub(crate) fn admit(&self, bytes: usize, grows: bool) -> Result<()> {
        let reserve = if grows {
            self.reserve_bytes
        } else {
            self.reserve_bytes / 4
        };
        let bytes = bytes as u64;
        let free = self.free(bytes);
        if free >= reserve.saturating_add(bytes) {
            return Ok(());
        }
        let directory = self.directory.display();
        Err(Error::NoSpace(format!(
            "{directory} has {free} bytes free and {reserve} must stay free; free some space, or compact"
        )))
    }

    fn free(&self, bytes: u64) -> u64 {
        let admitted = self.admitted_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = Instant::now();
        let mut asked = self.asked.lock();
        let is_old = asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AFTER);
        if is_old || admitted >= self.reserve_bytes / ASK_AFTER_PART {
            *asked = Some(now);
            self.admitted_bytes.store(0, Ordering::Relaxed);
            // A filesystem that does not tell is tried.
            let free = nix::sys::statvfs::statvfs(&self.directory).map_or(u64::MAX, |stat| {
                stat.blocks_available().saturating_mul(stat.fragment_size())
            });
            self.free_bytes.store(free, Ordering::Relaxed);
        }
        drop(asked);
        let admitted = self.admitted_bytes.load(Ordering::Relaxed);
        self.free_bytes.load(Ordering::Relaxed).saturating_sub(admitted)
    }
}
