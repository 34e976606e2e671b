//! A kind's objects, listed once and watched from there, shared by all readers in the process.
//!
//! Invariants: readers see a consistent set after [`Informer::synced`], and one that holds at least what was
//! told to them; every change wakes every subscriber, several changes may wake it once. Level-triggered readers
//! use [`Informer::changes`]; those that feed deltas on use [`Informer::subscribe`]. Objects are held without their
//! `managedFields`: who writes one back leaves those to the server, which keeps them.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::feed::{Changes, Feed};
use crate::objects::{Index, Objects};
use crate::slim::{Cut, Managers, Running, Slim, slim};

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
    objects: Arc<RwLock<Objects<K>>>,
    /// How many changes there were; none before the first list.
    changes: watch::Receiver<u64>,
    feed: Feed<K>,
    _task: Arc<AbortOnDrop>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            objects: Arc::clone(&self.objects),
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
        Self::begin::<Managers>(api, config, None)
    }

    /// As [`Informer::start`], with an index for [`Informer::indexed`].
    pub fn start_indexed(api: Api<K>, config: watcher::Config, index: fn(&K) -> Option<String>) -> Self {
        Self::begin::<Managers>(api, config, Some(index))
    }

    fn begin<C: Cut>(api: Api<K>, config: watcher::Config, index: Option<Index<K>>) -> Self {
        let (tick, changes) = watch::channel(0);
        let follower = Follower {
            objects: Arc::new(RwLock::new(Objects::new(index))),
            index,
            listed: None,
            tick,
            feed: Feed::default(),
        };
        let (objects, feed) = (Arc::clone(&follower.objects), follower.feed.clone());
        let task = tokio::spawn(follower.follow(slim::<K, C>(api), config));
        Self {
            objects,
            changes,
            feed,
            _task: Arc::new(AbortOnDrop(task.abort_handle())),
        }
    }

    /// Waits for the first complete list.
    ///
    /// # Errors
    /// When it is not there within `bound`.
    pub async fn synced(&self, bound: Duration) -> Result<(), NotSynced> {
        let failed = || NotSynced {
            kind: K::kind(&()).into_owned(),
            waited: bound,
        };
        let mut changes = self.changes.clone();
        let first = changes.wait_for(|count| *count > 0);
        match tokio::time::timeout(bound, first).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(failed()),
        }
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().all().cloned().collect()
    }

    /// All objects of a namespace, in no order; costs as much as there are.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().of_namespace(namespace).cloned().collect()
    }

    /// All objects whose controller has this uid, in no order; costs as much as there are.
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        self.read().of_controller(uid).cloned().collect()
    }

    /// All objects of a namespace that nobody controls, in no order; costs as much as there are.
    pub fn uncontrolled_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().uncontrolled(namespace).cloned().collect()
    }

    /// All objects under this key of the index that the informer was started with, in no order.
    pub fn indexed(&self, under: &str) -> Vec<Arc<K>> {
        self.read().indexed(under).cloned().collect()
    }

    /// The objects that `wanted` agrees to, in no order; looks at all of them.
    pub fn filter(&self, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.read()
            .all()
            .filter(|object| wanted(object))
            .cloned()
            .collect()
    }

    /// One object; `namespace` is `None` for cluster-scoped kinds.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.read().get(namespace.unwrap_or_default(), name)
    }

    /// Changes its value with every change of the set.
    pub fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_changed();
        changes
    }

    /// Every change from now on, in order. A subscriber that lags too far gets `Lagged` and must reread.
    pub fn subscribe(&self) -> Changes<K> {
        self.feed.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Informer<Pod> {
    /// As [`Informer::start_indexed`], of pods without what only their kubelet needs: how containers are run
    /// (environment, arguments, probes, mounts) and volumes from the node's own sources.
    pub fn start_placed(api: Api<Pod>, config: watcher::Config, index: fn(&Pod) -> Option<String>) -> Self {
        Self::begin::<Running>(api, config, Some(index))
    }
}

/// The one who writes.
struct Follower<K> {
    objects: Arc<RwLock<Objects<K>>>,
    index: Option<Index<K>>,
    /// A list under way.
    listed: Option<Objects<K>>,
    tick: watch::Sender<u64>,
    feed: Feed<K>,
}

impl<K> Follower<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    async fn follow<C: Cut>(mut self, api: Api<Slim<K, C>>, config: watcher::Config) {
        let mut events = watcher::watcher(api, config).boxed();
        let mut pause = RETRY_MIN;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    pause = RETRY_MIN;
                    self.take(event);
                }
                Err(error) => {
                    tracing::debug!(kind = %K::kind(&()), %error, "watch failed, trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    fn take<C>(&mut self, event: Event<Slim<K, C>>) {
        let change = match event {
            Event::Init => {
                self.listed = Some(Objects::new(self.index));
                return;
            }
            Event::InitApply(object) => {
                let index = self.index;
                let listed = self.listed.get_or_insert_with(|| Objects::new(index));
                listed.insert(Arc::new(object.0));
                return;
            }
            Event::InitDone => {
                *self.write() = self.listed.take().unwrap_or_else(|| Objects::new(self.index));
                Change::Relisted
            }
            Event::Apply(object) => {
                let object = Arc::new(object.0);
                self.write().insert(Arc::clone(&object));
                Change::Upserted(object)
            }
            Event::Delete(object) => {
                self.write().remove(&object.0);
                Change::Deleted(Arc::new(object.0))
            }
        };
        self.feed.send(&change);
        self.tick.send_modify(|count| *count += 1);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}
