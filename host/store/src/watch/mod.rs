//! Watches: every watcher gets every event of its range once, in revision order, or is told why not.
//!
//! A watcher is *live* (fed by the state machine through its bounded queue) or *catching up* (a task of its
//! own reads the ring of recent writes, or history on disk, at the watcher's pace, and then makes it live).
//! A live watcher whose queue is full is demoted to catching up, so a slow one costs neither memory nor the
//! others' time, and loses nothing unless history under it is compacted: then it is told so.

mod batch;
mod catch_up;
mod hub;
mod registry;
mod ring;

use std::time::Duration;

pub(crate) use batch::Batch;
pub(crate) use hub::Hub;

use crate::mvcc::{Records, Rev};
use crate::{Result, Revision};

/// Messages that wait in one watcher's queue before it is demoted to catching up.
pub const WATCH_QUEUE_MAX: usize = 256;
/// Watchers at once.
const WATCHERS_MAX: usize = 100_000;
/// Bytes of recent writes kept in memory for those who lag a little.
const RING_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes that a catching-up watcher reads from disk at a time (and one revision at least).
const CATCH_UP_BYTES: usize = 512 * 1024;
/// How soon after a write of others an idle watcher that asked for it is sent its progress.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// The past, as catching-up watchers need it.
pub(crate) trait History: Records + Send + Sync + 'static {
    /// Below it there is no history.
    fn compact_revision(&self) -> Revision;
    /// The store's revision.
    fn revision(&self) -> Revision;
    /// Where the value was that `key` had just before `revision`.
    fn before(&self, key: &[u8], revision: Revision) -> Option<Rev>;
    /// Whole writes from `first` to `last`, oldest first, as many as fit `bytes_max` and one at least; an
    /// empty answer means that there are none.
    fn writes(&self, first: Revision, last: Revision, bytes_max: usize) -> Result<Vec<Batch>>;
}
