//! A kind's objects, listed once and watched from there, shared by all readers in the process.
//!
//! Invariants: readers see a consistent set after [`Informer::synced`]; every change wakes every subscriber,
//! several changes may wake it once. Level-triggered readers use [`Informer::changes`]; the scheduler, which
//! feeds deltas on, uses [`Informer::subscribe`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, watch};

/// Changes that a slow subscriber may lag behind before it is told to reread everything.
const SUBSCRIBER_LAG_MAX: usize = 2048;

/// Wait before a failed list or watch is tried again, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What happened to one object.
#[derive(Debug)]
pub enum Change<K> {
    /// It is new or different.
    Upserted(Arc<K>),
    /// It is gone; its last state.
    Deleted(Arc<K>),
    /// The whole set was listed anew; reread it from the store.
    Relisted,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Upserted(object) => Self::Upserted(Arc::clone(object)),
            Self::Deleted(object) => Self::Deleted(Arc::clone(object)),
            Self::Relisted => Self::Relisted,
        }
    }
}

/// The informer did not get its first list in time.
#[derive(Debug, thiserror::Error)]
#[error("no list of {kind} from the API server within {waited:?}")]
pub struct NotSynced {
    kind: String,
    waited: Duration,
}

/// A shared, cheap to clone view of all objects of a kind.
pub struct Informer<K: Resource<DynamicType = ()> + Clone + 'static> {
    store: Store<K>,
    changes: watch::Receiver<u64>,
    feed: broadcast::Sender<Change<K>>,
    _task: Arc<AbortOnDrop>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            changes: self.changes.clone(),
            feed: self.feed.clone(),
            _task: Arc::clone(&self._task),
        }
    }
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<K> Informer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Starts listing and watching. The task ends with the last clone.
    pub fn start(api: Api<K>, config: watcher::Config) -> Self {
        let (store, writer) = reflector::store();
        let (tick, changes) = watch::channel(0);
        let (feed, _) = broadcast::channel(SUBSCRIBER_LAG_MAX);
        let task = tokio::spawn(follow(api, config, writer, tick, feed.clone()));
        Self {
            store,
            changes,
            feed,
            _task: Arc::new(AbortOnDrop(task.abort_handle())),
        }
    }

    /// Waits for the first complete list.
    pub async fn synced(&self, bound: Duration) -> Result<(), NotSynced> {
        let failed = || NotSynced {
            kind: K::kind(&()).into_owned(),
            waited: bound,
        };
        tokio::time::timeout(bound, self.store.wait_until_ready())
            .await
            .map_err(|_| failed())?
            .map_err(|_| failed())
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// One object; `namespace` is `None` for cluster-scoped kinds.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::<K>::new(name);
        self.store.get(&match namespace {
            Some(namespace) => key.within(namespace),
            None => key,
        })
    }

    /// The store below, for more.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// Changes its value with every change of the set.
    pub fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_changed();
        changes
    }

    /// Every change from now on, in order. A subscriber that lags too far gets `Lagged` and must reread.
    pub fn subscribe(&self) -> broadcast::Receiver<Change<K>> {
        self.feed.subscribe()
    }
}

async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: reflector::store::Writer<K>,
    tick: watch::Sender<u64>,
    feed: broadcast::Sender<Change<K>>,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut events = watcher::watcher(api, config).boxed();
    let mut pause = RETRY_MIN;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(kind = %K::kind(&()), %error, "watch failed, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
                continue;
            }
        };
        pause = RETRY_MIN;
        writer.apply_watcher_event(&event);
        let change = match event {
            Event::Apply(object) => Change::Upserted(Arc::new(object)),
            Event::Delete(object) => Change::Deleted(Arc::new(object)),
            Event::InitDone => Change::Relisted,
            Event::Init | Event::InitApply(_) => continue,
        };
        // Nobody subscribing is no fault.
        let _ = feed.send(change);
        tick.send_modify(|count| *count += 1);
    }
}
