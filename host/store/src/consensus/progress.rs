//! How far this member has applied, and why it stopped if it did. Written by the state machine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::types::{LogId, StoredMembership};
use crate::lock::Mutex;
use crate::replica::{Command, Outcome};
use crate::{Error, Member};

/// Bytes of commands applied between two checkpoints.
const CHECKPOINT_BYTES: usize = 32 * 1024 * 1024;

/// Is told of every command that was applied, in order, before its proposer is.
pub(crate) trait Applied: Send + Sync + 'static {
    /// `outcome` is the answer to `command`.
    fn applied(&self, command: &Command, outcome: &Outcome);
    /// The whole state was replaced by another member's.
    fn replaced(&self);
}

/// What was applied.
pub(super) struct Progress {
    /// Bytes and entries since the last checkpoint.
    since: Mutex<(usize, usize)>,
    /// Entries between two checkpoints.
    entries_max: usize,
    pub(super) due: Notify,
    /// Why the state machine stopped.
    failure: OnceLock<Error>,
    index: AtomicU64,
    term: AtomicU64,
    /// The index again, as of the last whole run of entries.
    reached: watch::Sender<u64>,
    membership: watch::Sender<StoredMembership>,
    observer: Option<Arc<dyn Applied>>,
}

impl Progress {
    pub(super) fn new(observer: Option<Arc<dyn Applied>>, entries_max: usize) -> Self {
        Self {
            since: Mutex::default(),
            entries_max: entries_max.max(1),
            due: Notify::new(),
            failure: OnceLock::new(),
            index: AtomicU64::new(0),
            term: AtomicU64::new(0),
            reached: watch::Sender::new(0),
            membership: watch::Sender::new(StoredMembership::default()),
            observer,
        }
    }

    /// Entries between two checkpoints.
    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// What a log of an earlier run, of so many bytes on disk, counts for: short runs add up.
    pub(super) fn resume(&self, log_bytes: u64) {
        self.since.lock().0 = usize::try_from(log_bytes).unwrap_or(usize::MAX);
    }

    pub(super) fn applied(&self, log_id: LogId, bytes: usize) {
        self.term.store(log_id.leader_id.term, Ordering::Release);
        self.index.store(log_id.index, Ordering::Release);
        let mut since = self.since.lock();
        since.0 = since.0.saturating_add(bytes);
        since.1 += 1;
        if since.0 >= CHECKPOINT_BYTES || since.1 >= self.entries_max {
            *since = (0, 0);
            self.due.notify_one();
        }
    }

    pub(super) fn carried_out(&self, command: &Command, outcome: &Outcome) {
        if let Some(observer) = &self.observer {
            observer.applied(command, outcome);
        }
    }

    /// The state is now that of this entry, whatever it was before.
    pub(super) fn jumped(&self, log_id: Option<LogId>, membership: StoredMembership) {
        if let Some(log_id) = log_id {
            self.term.store(log_id.leader_id.term, Ordering::Release);
            self.index.store(log_id.index, Ordering::Release);
        }
        self.membership.send_replace(membership);
        if let Some(observer) = &self.observer {
            observer.replaced();
        }
        self.publish();
    }

    /// Wakes those who wait for an index.
    pub(super) fn publish(&self) {
        self.reached.send_replace(self.index());
    }

    pub(super) fn index(&self) -> u64 {
        self.index.load(Ordering::Acquire)
    }

    /// The term of the last applied entry.
    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Waits until an entry is applied; whether it was in time.
    pub(super) async fn wait(&self, index: u64, deadline: Instant) -> bool {
        if self.index() >= index {
            return true;
        }
        let mut reached = self.reached.subscribe();
        let waiting = reached.wait_for(|reached| *reached >= index);
        tokio::time::timeout_at(deadline.into(), waiting).await.is_ok()
    }

    /// Told when a run of entries was applied.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.reached.subscribe()
    }

    /// Told when a change of the members was applied.
    pub(super) fn watch_members(&self) -> watch::Receiver<StoredMembership> {
        self.membership.subscribe()
    }

    pub(super) fn set_membership(&self, membership: StoredMembership) {
        self.membership.send_replace(membership);
    }

    /// The last applied change's index, and the members as of then.
    pub(super) fn roster(&self) -> (u64, Vec<Member>) {
        let membership = self.membership.borrow();
        let index = membership.log_id().as_ref().map_or(0, |log_id| log_id.index);
        let nodes = membership.membership().nodes();
        (index, nodes.map(|(id, node)| node.member(*id)).collect())
    }

    /// The members as of the last applied change.
    pub(super) fn members(&self) -> Vec<Member> {
        self.roster().1
    }

    pub(super) fn failed(&self, error: &std::io::Error) {
        let ours = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        self.ended(
            ours.cloned()
                .unwrap_or_else(|| Error::Unavailable(error.to_string())),
        );
    }

    /// This member goes on no more; the first reason counts.
    pub(super) fn ended(&self, why: Error) {
        self.failure.get_or_init(|| why);
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }
}
