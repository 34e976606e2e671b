//! Changes on their way to those who follow them one by one.
//!
//! Invariants: whoever sends never waits; a subscriber that lags by more than [`LAG_MAX`] changes is told
//! [`RecvError::Lagged`] and rereads, and is sent nothing that it would have seen out of order. Costs nothing
//! while nobody subscribes, and a queue's first block for one who keeps up. Called by the informer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::Change;

/// Changes that a subscriber may lag behind before it is told to reread everything.
const LAG_MAX: usize = 8192;

/// The sending side; clones send to the same subscribers.
pub(crate) struct Feed<K> {
    subscribers: Arc<Mutex<Vec<Subscriber<K>>>>,
}

impl<K> Clone for Feed<K> {
    fn clone(&self) -> Self {
        Self {
            subscribers: Arc::clone(&self.subscribers),
        }
    }
}

impl<K> Default for Feed<K> {
    fn default() -> Self {
        Self {
            subscribers: Arc::default(),
        }
    }
}

struct Subscriber<K> {
    queue: mpsc::Sender<Change<K>>,
    missed: Arc<AtomicU64>,
}

impl<K> Feed<K> {
    pub(crate) fn send(&self, change: &Change<K>) {
        let mut subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|subscriber| match subscriber.queue.try_send(change.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                subscriber.missed.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        });
    }

    pub(crate) fn subscribe(&self) -> Changes<K> {
        let (queue, changes) = mpsc::channel(LAG_MAX);
        let missed = Arc::<AtomicU64>::default();
        let subscriber = Subscriber {
            queue,
            missed: Arc::clone(&missed),
        };
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(subscriber);
        Changes { changes, missed }
    }
}

/// One subscriber's changes, in order.
#[derive(Debug)]
pub struct Changes<K> {
    changes: mpsc::Receiver<Change<K>>,
    missed: Arc<AtomicU64>,
}

impl<K> Changes<K> {
    /// The next change; cancel safe.
    ///
    /// # Errors
    /// `Lagged` when changes were missed: all that still waits is dropped with them, reread the informer.
    /// `Closed` when the informer is gone.
    pub async fn recv(&mut self) -> Result<Change<K>, RecvError> {
        let change = self.changes.recv().await;
        let missed = self.missed.swap(0, Ordering::AcqRel);
        if missed == 0 {
            return change.ok_or(RecvError::Closed);
        }
        // What is sent from here on is newer than what the reader will reread, or the same.
        let mut dropped = u64::from(change.is_some());
        while self.changes.try_recv().is_ok() {
            dropped += 1;
        }
        Err(RecvError::Lagged(missed + dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_lags_is_told_once_and_then_sees_what_is_new() {
        let feed = Feed::default();
        let mut changes = feed.subscribe();
        let mut idle = feed.subscribe();
        let send = |number: usize| feed.send(&Change::Upserted(Arc::new(number)));
        send(0);
        assert!(matches!(changes.recv().await, Ok(Change::Upserted(seen)) if *seen == 0));
        (0..LAG_MAX + 3).for_each(send);
        let total = u64::try_from(LAG_MAX + 3).unwrap();
        assert!(matches!(changes.recv().await, Err(RecvError::Lagged(missed)) if missed == total));
        send(7);
        assert!(matches!(changes.recv().await, Ok(Change::Upserted(seen)) if *seen == 7));
        assert!(matches!(idle.recv().await, Err(RecvError::Lagged(_))));
        drop(idle);
        send(8);
        assert_eq!(feed.subscribers.lock().unwrap().len(), 1);
        drop(feed);
        assert!(changes.recv().await.is_ok());
        assert!(matches!(changes.recv().await, Err(RecvError::Closed)));
    }
}
