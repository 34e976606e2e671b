//! How far this member's log is on disk, told by the log's thread and waited for by the state machine.
//!
//! Others can commit an entry that this member has sent them and not yet written. Applied here, it would be in the
//! state and not in the log, which a start takes for damage: so the state holds only what the log had synced. A log
//! that has failed never gets there, and who waits is told why.

use std::io;

use tokio::sync::watch;

use super::types::io_error;
use crate::{Error, Result};

/// The log's side: one more than the last entry on disk.
pub(super) struct Durable(watch::Sender<Result<u64>>);

/// The state machine's side.
#[derive(Clone)]
pub(super) struct Reached(watch::Receiver<Result<u64>>);

impl Durable {
    /// A log whose entries before `end` are on disk.
    pub(super) fn new(end: u64) -> (Self, Reached) {
        let (sender, reached) = watch::channel(Ok(end));
        (Self(sender), Reached(reached))
    }

    /// Where the log on disk ends; or why nothing is added to it any more.
    pub(super) fn end(&self) -> Result<u64> {
        self.0.borrow().clone()
    }

    /// The log on disk ends here now; after a cut that is before where it ended.
    pub(super) fn set(&self, end: Result<u64>) {
        drop(self.0.send_replace(end));
    }
}

impl Reached {
    /// Returns when the entry at `index` is on disk.
    pub(super) async fn wait(&mut self, index: u64) -> io::Result<()> {
        let is_there = |end: &Result<u64>| end.as_ref().map_or(true, |end| index < *end);
        let end = self.0.wait_for(is_there).await;
        let stopped = |_| Error::Unavailable("the log's thread has stopped".into());
        let end = end.map_err(stopped).map_err(io_error)?;
        end.as_ref().map(|_| ()).map_err(|error| io_error(error.clone()))
    }
}
