//! The hub: knows the live watchers and hands them each write.
//!
//! The state machine calls [`Hub::publish`] after a write can be read and before it is acknowledged. One
//! lock orders publishing and registering, so that a watcher misses nothing and sees nothing twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};

use super::registry::{Registry, WatcherId};
use super::ring::Ring;
use super::{Batch, History, PROGRESS_AFTER, WATCH_QUEUE_MAX, WATCHERS_MAX, catch_up};
use crate::lock::Mutex;
use crate::metrics::StoreMetrics;
use crate::mvcc::Span;
use crate::{Error, KeyRange, ProgressRequest, Result, Revision, Watch, WatchMessage, WatchRequest};

/// One subscription.
#[derive(Debug)]
pub(super) struct Watcher {
    range: KeyRange,
    pub(super) span: Span,
    pub(super) prev_kv: bool,
    progress_notify: bool,
    /// The first revision that it has not been sent.
    pub(super) next: Revision,
    /// It knows that it has everything up to here.
    pub(super) told: Revision,
    pub(super) messages: mpsc::Sender<WatchMessage>,
    id: WatcherId,
    /// Its owner asked for progress and has not been sent any since.
    wants_progress: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Inner {
    live: HashMap<WatcherId, Watcher>,
    registry: Registry,
    ring: Ring,
    /// The last published revision.
    revision: Revision,
    next_id: WatcherId,
}

/// The watchers of one store.
#[derive(Debug)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    published: Notify,
    closed: watch::Sender<bool>,
    pub(super) metrics: Arc<StoreMetrics>,
}

/// What a catching-up watcher should do next.
pub(super) enum Step {
    /// It is live again.
    Joined,
    /// Send these, read from memory.
    Recent(Vec<Arc<Batch>>),
    /// Read writes up to this revision from disk.
    Disk(Revision),
    /// It was asked for: say that all up to this revision has been sent.
    Progress(Revision),
}

impl Hub {
    /// A hub of a store at `revision`.
    pub(crate) fn new(revision: Revision, metrics: Arc<StoreMetrics>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                live: HashMap::new(),
                registry: Registry::default(),
                ring: Ring::default(),
                revision,
                next_id: 1,
            }),
            published: Notify::new(),
            closed: watch::Sender::new(false),
            metrics,
        }
    }

    /// Registers a watcher. Needs a runtime for its catching up.
    pub(crate) fn watch(
        self: &Arc<Self>,
        history: &Arc<dyn History>,
        request: WatchRequest,
    ) -> Result<Watch> {
        let (sender, messages) = mpsc::channel(WATCH_QUEUE_MAX);
        let mut inner = self.inner.lock();
        if *self.closed.borrow() {
            return Err(Error::Unavailable("the store is shutting down".into()));
        }
        inner.prune();
        if inner.live.len() >= WATCHERS_MAX {
            return Err(Error::Unavailable(format!(
                "there are {WATCHERS_MAX} watchers already"
            )));
        }
        let compact_revision = history.compact_revision();
        if (1..compact_revision).contains(&request.start_revision) {
            let _ = sender.try_send(WatchMessage::Compacted { compact_revision });
            return Ok(Watch {
                revision: inner.revision,
                messages,
                progress: ProgressRequest::default(),
            });
        }
        // What can be read already counts as seen, though its events may not have been published yet.
        let revision = history.revision().max(inner.revision);
        let next = if request.start_revision <= 0 {
            revision + 1
        } else {
            request.start_revision
        };
        let id = inner.next_id;
        inner.next_id += 1;
        let wants_progress = Arc::<AtomicBool>::default();
        let progress = self.progress_request(history, id, wants_progress.clone());
        let watcher = Watcher {
            id,
            wants_progress,
            span: Span::of(&request.range),
            range: request.range,
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            next,
            told: if request.start_revision <= 0 {
                revision
            } else {
                next - 1
            },
            messages: sender,
        };
        if next > inner.revision {
            inner.join(watcher);
        } else {
            drop(inner);
            catch_up::spawn(self, history, watcher);
        }
        Ok(Watch {
            revision,
            messages,
            progress,
        })
    }

    fn progress_request(
        self: &Arc<Self>,
        history: &Arc<dyn History>,
        id: WatcherId,
        wanted: Arc<AtomicBool>,
    ) -> ProgressRequest {
        let (hub, history) = (Arc::downgrade(self), Arc::downgrade(history));
        ProgressRequest::new(move || {
            let (Some(hub), Some(history)) = (hub.upgrade(), history.upgrade()) else {
                return;
            };
            wanted.store(true, Ordering::Release);
            // One that is catching up sees the wish when it has caught up.
            let demoted = hub.inner.lock().answer_progress(id);
            if let Some(watcher) = demoted {
                catch_up::spawn(&hub, &history, watcher);
            }
        })
    }

    /// Hands a write to all whom it concerns.
    pub(crate) fn publish(self: &Arc<Self>, history: &Arc<dyn History>, batch: Batch) {
        let batch = Arc::new(batch);
        let mut demoted = Vec::new();
        let mut inner = self.inner.lock();
        inner.revision = batch.revision;
        inner.ring.push(batch.clone());
        for id in inner.concerned(&batch) {
            let Some(watcher) = inner.live.get_mut(&id) else {
                continue;
            };
            if batch.revision < watcher.next {
                continue;
            }
            let Some(message) = batch.message(&**history, &watcher.span, watcher.prev_kv) else {
                continue;
            };
            let events = message.event_count();
            match watcher.messages.try_send(message) {
                Ok(()) => {
                    self.metrics.events.inc_by(events);
                    watcher.next = batch.revision + 1;
                    watcher.told = batch.revision;
                }
                Err(TrySendError::Closed(_)) => drop(inner.leave(id)),
                Err(TrySendError::Full(_)) => {
                    // All before this write is in its queue, or does not concern it.
                    watcher.next = batch.revision;
                    demoted.extend(inner.leave(id));
                }
            }
        }
        drop(inner);
        for watcher in demoted {
            catch_up::spawn(self, history, watcher);
        }
        self.published.notify_one();
    }

    /// How many watchers are live, and how many messages wait in their queues.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        let waiting = inner.live.values().map(|watcher| {
            let messages = &watcher.messages;
            messages.max_capacity() - messages.capacity()
        });
        (inner.live.len(), waiting.sum())
    }

    /// Makes a watcher live if it has seen everything, or says what it lacks.
    pub(super) fn step(&self, watcher: &mut Option<Watcher>, batches_max: usize) -> Step {
        let mut inner = self.inner.lock();
        let Some(next) = watcher.as_ref().map(|watcher| watcher.next) else {
            return Step::Joined;
        };
        if next > inner.revision {
            let wants = |watcher: &Watcher| watcher.wants_progress.swap(false, Ordering::AcqRel);
            if watcher.as_ref().is_some_and(wants) {
                return Step::Progress(inner.revision);
            }
            if let Some(watcher) = watcher.take() {
                inner.join(watcher);
            }
            return Step::Joined;
        }
        let upto = inner.revision;
        inner
            .ring
            .from(next, batches_max)
            .map_or(Step::Disk(upto), Step::Recent)
    }

    /// Told to every catching-up watcher when the store stops.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        self.closed.send_replace(true);
        inner.registry = Registry::default();
        for (_, watcher) in inner.live.drain() {
            let reason = "the store is shutting down".to_owned();
            let _ = watcher.messages.try_send(WatchMessage::Cancelled { reason });
        }
        drop(inner);
        self.published.notify_one();
    }

    /// Replaces the present by that of an installed snapshot: watchers start over from it.
    pub(crate) fn reset(&self, revision: Revision) {
        let mut inner = self.inner.lock();
        inner.revision = revision;
        inner.ring = Ring::default();
        inner.registry = Registry::default();
        for (_, watcher) in inner.live.drain() {
            let reason = "the store was replaced by a snapshot".to_owned();
            let _ = watcher.messages.try_send(WatchMessage::Cancelled { reason });
        }
    }

    /// Sends progress to idle watchers; sleeps without a timer while nothing is written.
    pub(crate) async fn run_progress(hub: Weak<Self>) {
        let Some(mut closing) = hub.upgrade().map(|hub| hub.closing()) else {
            return;
        };
        loop {
            let Some(this) = hub.upgrade() else { return };
            tokio::select! {
                () = this.published.notified() => {}
                _ = closing.changed() => return,
            }
            if *closing.borrow() {
                return;
            }
            drop(this);
            tokio::select! {
                () = tokio::time::sleep(PROGRESS_AFTER) => {}
                _ = closing.changed() => return,
            }
            let Some(this) = hub.upgrade() else { return };
            this.inner.lock().send_progress();
        }
    }
}

impl Inner {
    fn join(&mut self, watcher: Watcher) {
        self.registry.insert(&watcher.range, watcher.id);
        self.live.insert(watcher.id, watcher);
    }

    /// Sends a live watcher the progress that was asked for, behind all that waits in its queue. One whose queue
    /// is full is returned: it catches up, and is told then.
    fn answer_progress(&mut self, id: WatcherId) -> Option<Watcher> {
        let revision = self.revision;
        let watcher = self.live.get_mut(&id)?;
        match watcher.messages.try_send(WatchMessage::Progress { revision }) {
            Ok(()) => {
                watcher.told = revision;
                watcher.wants_progress.store(false, Ordering::Release);
                None
            }
            Err(TrySendError::Closed(_)) => {
                drop(self.leave(id));
                None
            }
            Err(TrySendError::Full(_)) => {
                watcher.next = watcher.next.max(revision + 1);
                self.leave(id)
            }
        }
    }

    fn leave(&mut self, id: WatcherId) -> Option<Watcher> {
        let watcher = self.live.remove(&id)?;
        self.registry.remove(&watcher.range, id);
        Some(watcher)
    }

    fn concerned(&self, batch: &Batch) -> Vec<WatcherId> {
        let mut found = Vec::new();
        for change in &batch.changes {
            self.registry.find(&change.record.key, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Forgets watchers whose owner has dropped them.
    fn prune(&mut self) {
        let gone = self
            .live
            .iter()
            .filter(|(_, watcher)| watcher.messages.is_closed());
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.leave(id);
        }
    }

    fn send_progress(&mut self) {
        let revision = self.revision;
        let idle = self.live.values_mut().filter(|watcher| watcher.progress_notify);
        for watcher in idle.filter(|watcher| watcher.told < revision) {
            if watcher
                .messages
                .try_send(WatchMessage::Progress { revision })
                .is_ok()
            {
                watcher.told = revision;
            }
        }
    }
}
