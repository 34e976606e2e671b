//! The loop under every controller: keys come from informers, go through the [`Queue`], and are reconciled by
//! a few at a time.
//!
//! Invariants: a reconciler never sees an event, only a key, and rereads state itself; at most
//! [`WORKERS_MAX`] keys of a controller are under way; a failure is retried with back-off and logged.
//! Not here: what reconciling means.

use std::collections::VecDeque;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_client::{Change, Changes, Informer};
use futures::stream::{self, BoxStream, FuturesUnordered, SelectAll, StreamExt};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast::error::RecvError;

use crate::Error;
use crate::queue::{Outcome, Queue};

/// Keys of one controller that are worked on at a time.
const WORKERS_MAX: usize = 16;

/// Longest that the work on one key may take before it counts as failed.
const RECONCILE_MAX: Duration = Duration::from_secs(60);

/// The name of a namespaced object, or of a cluster-scoped one with an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// What a controller does with a key: brings the world nearer to what the object says.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// What it is keyed by.
    type Key: Clone + Eq + Hash + Debug + Send + 'static;

    /// For the log.
    const NAME: &'static str;

    /// Reads, plans, acts. `Some(after)` asks to be called again then.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Option<Duration>, Error>> + Send;
}

/// Runs a controller until it is dropped.
pub(crate) async fn run<R: Reconcile>(controller: Arc<R>, wakes: Vec<BoxStream<'static, R::Key>>) {
    let mut wakes: SelectAll<_> = stream::select_all(wakes);
    let mut queue: Queue<R::Key> = Queue::default();
    let mut running = FuturesUnordered::new();
    loop {
        let due = queue.next_due();
        tokio::select! {
            Some(key) = wakes.next() => {
                if !queue.add(key) {
                    tracing::warn!(controller = R::NAME, "work queue is full, an object waits for its next change");
                }
            }
            Some((key, outcome)) = running.next(), if !running.is_empty() => {
                queue.done(key, outcome, Instant::now());
            }
            () = sleep_until(due) => {}
            else => return,
        }
        queue.promote(Instant::now());
        while running.len() < WORKERS_MAX {
            let Some(key) = queue.pop() else { break };
            running.push(work(Arc::clone(&controller), key));
        }
    }
}

async fn work<R: Reconcile>(controller: Arc<R>, key: R::Key) -> (R::Key, Outcome) {
    let outcome = match tokio::time::timeout(RECONCILE_MAX, controller.reconcile(&key)).await {
        Ok(Ok(None)) => Outcome::Done,
        Ok(Ok(Some(after))) => Outcome::Again(after),
        Ok(Err(error)) if error.is_routine() => {
            tracing::debug!(controller = R::NAME, ?key, %error, "raced with another writer, trying again");
            Outcome::Failed
        }
        Ok(Err(error)) => {
            tracing::warn!(controller = R::NAME, ?key, %error, "could not reconcile, trying again");
            Outcome::Failed
        }
        Err(_) => {
            tracing::warn!(
                controller = R::NAME,
                ?key,
                "reconciling took too long, trying again"
            );
            Outcome::Failed
        }
    };
    (key, outcome)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// Keys to work on because of `informer`: those of each changed object, and all after a relist or a lag.
pub(crate) fn wakes<K, Q>(
    informer: &Informer<K>,
    of_change: impl Fn(&K) -> Vec<Q> + Send + 'static,
    all: impl Fn() -> Vec<Q> + Send + 'static,
) -> BoxStream<'static, Q>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    Q: Send + 'static,
{
    struct State<K, F, A, Q> {
        changes: Changes<K>,
        of_change: F,
        all: A,
        pending: VecDeque<Q>,
    }
    let pending = all().into();
    let state = State {
        changes: informer.subscribe(),
        of_change,
        all,
        pending,
    };
    stream::unfold(state, |mut state| async move {
        loop {
            if let Some(key) = state.pending.pop_front() {
                return Some((key, state));
            }
            let keys = match state.changes.recv().await {
                Ok(Change::Upserted(object) | Change::Deleted(object)) => (state.of_change)(&object),
                Ok(Change::Relisted) | Err(RecvError::Lagged(_)) => (state.all)(),
                Err(RecvError::Closed) => return None,
            };
            state.pending.extend(keys);
        }
    })
    .boxed()
}

/// The keys of all objects of a kind, for the `all` of [`wakes`].
pub(crate) fn keys_of<K>(informer: &Informer<K>) -> impl Fn() -> Vec<Key> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let informer = informer.clone();
    move || {
        informer
            .list()
            .iter()
            .map(|object| Key::of(object.as_ref()))
            .collect()
    }
}
