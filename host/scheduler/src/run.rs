//! The scheduler's thread: takes in what informers tell, runs cycles, hands bindings off.
//!
//! The thread owns the queue; the view is shared with policies that are about to take their seat. Nothing
//! here waits for the API server.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capstan_client::{Change, Changes, Informer};
use capstan_points::scheduler::{Cluster, Delta, Epoch, Policy, Readiness};
use capstan_points::{Seat, Seats};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use kube::Client;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

use crate::bind::{Note, Writer};
use crate::cycle::{self, Outcome};
use crate::queue::Queue;
use crate::view::View;
use crate::{Error, report};

/// News taken in but not yet worked on; whoever tells more waits.
const NEWS_MAX: usize = 16_384;

/// How long the first lists may take.
const SYNC_BOUND: Duration = Duration::from_secs(60);

/// The profile that pods are in when they name none.
const DEFAULT_PROFILE: &str = "default-scheduler";

/// What the scheduler works with.
pub struct Options {
    /// All pods.
    pub pods: Informer<Pod>,
    /// All nodes.
    pub nodes: Informer<Node>,
    /// All namespaces.
    pub namespaces: Informer<Namespace>,
    /// The policies.
    pub seats: Seats<dyn Policy>,
}

/// What the thread is told.
enum News {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    /// Someone else sits now.
    Seats,
    BindFailed {
        key: String,
        pod: Arc<Pod>,
        error: kube::Error,
    },
    Stop,
}

/// A running scheduler.
pub struct Scheduler {
    view: Arc<Mutex<View>>,
    news: mpsc::Sender<News>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Scheduler {
    /// Starts scheduling once the first lists are there.
    ///
    /// # Errors
    /// When they do not arrive, or no thread can be had.
    pub async fn start(client: Client, options: Options) -> Result<Self, Error> {
        let (news, inbox) = mpsc::channel(NEWS_MAX);
        forward(options.pods.subscribe(), news.clone(), News::Pod);
        forward(options.nodes.subscribe(), news.clone(), News::Node);
        forward(options.namespaces.subscribe(), news.clone(), News::Namespace);
        options.namespaces.synced(SYNC_BOUND).await?;
        options.nodes.synced(SYNC_BOUND).await?;
        options.pods.synced(SYNC_BOUND).await?;
        watch_seats(options.seats.clone(), news.clone());
        let view = Arc::new(Mutex::new(View::default()));
        let worker = Worker {
            view: Arc::clone(&view),
            queue: Queue::default(),
            options,
            writer: Writer::new(client),
            news: news.clone(),
            runtime: Handle::current(),
        };
        let thread = std::thread::Builder::new()
            .name("scheduler".into())
            .spawn(move || worker.run(inbox))
            .map_err(Error::Thread)?;
        Ok(Self {
            view,
            news,
            thread: Some(thread),
        })
    }

    /// The cluster as it is known here, for policies that are about to take their seat.
    pub fn cluster(&self) -> Arc<dyn Cluster> {
        Arc::new(Shared(Arc::clone(&self.view)))
    }

    /// Ends the thread after the cycle under way.
    pub async fn shutdown(mut self) {
        let _ = self.news.send(News::Stop).await;
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

struct Shared(Arc<Mutex<View>>);

impl Cluster for Shared {
    fn snapshot(&self) -> (Epoch, Vec<Delta>) {
        lock(&self.0).snapshot()
    }
}

/// A panic while it was held is a bug that tests must find; the view itself stays readable.
fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forward<K: Send + Sync + 'static>(
    mut changes: Changes<K>,
    news: mpsc::Sender<News>,
    wrap: fn(Change<K>) -> News,
) {
    tokio::spawn(async move {
        loop {
            let change = match changes.recv().await {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => Change::Relisted,
                Err(RecvError::Closed) => return,
            };
            if news.send(wrap(change)).await.is_err() {
                return;
            }
        }
    });
}

fn watch_seats(mut seats: Seats<dyn Policy>, news: mpsc::Sender<News>) {
    tokio::spawn(async move {
        while seats.changed().await.is_ok() {
            if news.send(News::Seats).await.is_err() {
                return;
            }
        }
    });
}

struct Worker {
    view: Arc<Mutex<View>>,
    queue: Queue,
    options: Options,
    writer: Writer,
    news: mpsc::Sender<News>,
    runtime: Handle,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<News>) {
        self.relist_all();
        loop {
            while let Ok(news) = inbox.try_recv() {
                if !self.take_in(news) {
                    return;
                }
            }
            let now = Instant::now();
            self.queue.promote(now);
            if let Some((key, pod)) = self.queue.pop(now) {
                self.attempt(&key, pod);
                continue;
            }
            let Some(news) = self.wait(&mut inbox) else {
                continue;
            };
            if !self.take_in(news) {
                return;
            }
        }
    }

    /// Waits for news, or until the queue has something due.
    fn wait(&self, inbox: &mut mpsc::Receiver<News>) -> Option<News> {
        match self.queue.next_due() {
            None => Some(inbox.blocking_recv().unwrap_or(News::Stop)),
            Some(due) => self
                .runtime
                .block_on(async { tokio::time::timeout_at(due.into(), inbox.recv()).await })
                .ok()
                .map(|news| news.unwrap_or(News::Stop)),
        }
    }

    /// Returns whether to go on.
    fn take_in(&mut self, news: News) -> bool {
        let now = Instant::now();
        match news {
            News::Stop => return false,
            News::Seats => self.queue.wake(now),
            News::Pod(Change::Upserted(pod)) => self.upsert_pod(pod, now),
            News::Pod(Change::Deleted(pod)) => self.remove_pod(&key_of(&pod), now),
            News::Node(Change::Upserted(node)) => {
                if lock(&self.view).upsert_node(&node) {
                    self.queue.wake(now);
                }
            }
            News::Node(Change::Deleted(node)) => {
                lock(&self.view).remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
            News::Namespace(Change::Upserted(namespace)) => lock(&self.view).upsert_namespace(&namespace),
            News::Namespace(Change::Deleted(namespace)) => {
                lock(&self.view).remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            News::Pod(Change::Relisted)
            | News::Node(Change::Relisted)
            | News::Namespace(Change::Relisted) => {
                self.relist_all();
            }
            News::BindFailed { key, pod, error } => self.bind_failed(&key, &pod, &error, now),
        }
        if lock(&self.view).is_stale() {
            self.relist_all();
        }
        true
    }

    /// Starts over from what the informers hold.
    fn relist_all(&mut self) {
        let now = Instant::now();
        let pods = self.options.pods.list();
        {
            let mut view = lock(&self.view);
            view.clear();
            for namespace in self.options.namespaces.list() {
                view.upsert_namespace(&namespace);
            }
            for node in self.options.nodes.list() {
                view.upsert_node(&node);
            }
        }
        let known: std::collections::HashSet<String> = pods.iter().map(|pod| key_of(pod)).collect();
        let gone: Vec<String> = self
            .queue
            .keys()
            .filter(|key| !known.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.queue.remove(&key);
        }
        for pod in pods {
            self.upsert_pod(pod, now);
        }
        lock(&self.view).told_anew();
        self.queue.wake(now);
    }

    fn upsert_pod(&mut self, pod: Arc<Pod>, now: Instant) {
        let key = key_of(&pod);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.remove_pod(&key, now);
            return;
        }
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .filter(|node| !node.is_empty());
        if let Some(node) = node {
            self.queue.remove(&key);
            lock(&self.view).upsert_pod(&key, node, &pod);
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.queue.remove(&key);
        } else if !self.seats_of(&pod).is_empty() || profile(&pod) == DEFAULT_PROFILE {
            self.queue.upsert(&key, pod, now);
        }
    }

    fn remove_pod(&mut self, key: &str, now: Instant) {
        self.queue.remove(key);
        if lock(&self.view).remove_pod(key) {
            self.queue.wake(now);
        }
    }

    /// The policies of the pod's profile, pinned.
    fn seats_of(&self, pod: &Pod) -> Vec<Seat<dyn Policy>> {
        let profile = profile(pod);
        let seats = self.options.seats.borrow().clone();
        seats
            .iter()
            .filter(|seat| seat.policy.profiles().iter().any(|one| one == profile))
            .cloned()
            .collect()
    }

    fn attempt(&mut self, key: &str, pod: Arc<Pod>) {
        let seats = self.seats_of(&pod);
        let mut view = lock(&self.view);
        let pending = view.pending(&pod);
        if let Some(waits_for) = gate(&view, &seats, &pod, &pending) {
            drop(view);
            self.queue.unschedulable(key, Instant::now());
            self.tell(pod, "SchedulingGated", waits_for, false);
            return;
        }
        let outcome = cycle::run(&view, &seats, &pending);
        drop(view);
        match outcome {
            Outcome::Placed(node) => self.assume_and_bind(key, pod, node),
            Outcome::Unschedulable { nodes, rejections } => {
                self.queue.unschedulable(key, Instant::now());
                self.tell(
                    pod,
                    "Unschedulable",
                    report::unschedulable(nodes, &rejections),
                    true,
                );
            }
            Outcome::Fault { plugin, fault } => {
                self.queue.failed(key, Instant::now());
                self.tell(pod, "SchedulerError", format!("plugin {plugin:?}: {fault}"), true);
            }
        }
    }

    fn assume_and_bind(&mut self, key: &str, pod: Arc<Pod>, node: u32) {
        let mut view = lock(&self.view);
        let Some(node) = view.node_name(node).map(str::to_owned) else {
            drop(view);
            self.queue.failed(key, Instant::now());
            return;
        };
        view.upsert_pod(key, &node, &pod);
        drop(view);
        let (writer, news, key) = (self.writer.clone(), self.news.clone(), key.to_owned());
        self.runtime.spawn(async move {
            match writer.bind(&pod, &node).await {
                Ok(()) => {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    let name = pod.metadata.name.as_deref().unwrap_or_default();
                    let message = format!("Successfully assigned {namespace}/{name} to {node}");
                    writer
                        .event(
                            &pod,
                            Note {
                                warning: false,
                                reason: "Scheduled",
                                message,
                            },
                        )
                        .await;
                }
                Err(error) => {
                    let _ = news.send(News::BindFailed { key, pod, error }).await;
                }
            }
        });
    }

    /// Undoes the assumption, unless the pod turns out to be bound or gone after all.
    fn bind_failed(&mut self, key: &str, pod: &Pod, error: &kube::Error, now: Instant) {
        tracing::debug!(pod = key, %error, "binding failed");
        let seen = self.options.pods.get(
            pod.metadata.namespace.as_deref(),
            pod.metadata.name.as_deref().unwrap_or_default(),
        );
        let bound_to = seen
            .as_ref()
            .and_then(|pod| pod.spec.as_ref()?.node_name.as_deref())
            .is_some();
        if !bound_to {
            lock(&self.view).remove_pod(key);
        }
        if seen.is_some() && !bound_to {
            self.queue.failed(key, now);
        } else {
            self.queue.remove(key);
        }
    }

    /// Tells the user why the pod is not placed.
    fn tell(&self, pod: Arc<Pod>, reason: &'static str, message: String, with_event: bool) {
        let writer = self.writer.clone();
        self.runtime.spawn(async move {
            if let Err(error) = writer.not_scheduled(&pod, reason, &message).await {
                tracing::debug!(%error, "a pod's condition was not written");
            }
            if with_event {
                writer
                    .event(
                        &pod,
                        Note {
                            warning: true,
                            reason: "FailedScheduling",
                            message,
                        },
                    )
                    .await;
            }
        });
    }
}

fn profile(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.scheduler_name.as_deref())
        .unwrap_or(DEFAULT_PROFILE)
}

fn key_of(pod: &Pod) -> String {
    let meta = &pod.metadata;
    format!(
        "{}/{}",
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default()
    )
}

/// What holds the pod back before any node is looked at.
fn gate(
    view: &View,
    seats: &[Seat<dyn Policy>],
    pod: &Pod,
    pending: &capstan_points::scheduler::Pod,
) -> Option<String> {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return Some("Scheduling is blocked due to non-empty scheduling gates".to_owned());
    }
    seats
        .iter()
        .filter(|seat| seat.policy.asks().enqueue)
        .find_map(|seat| {
            let asked = view
                .level(&*seat.policy)
                .and_then(|()| seat.policy.enqueue(pending));
            match asked {
                Ok(Readiness::Ready) => None,
                Ok(Readiness::Gated(waits_for)) => Some(waits_for),
                Err(fault) if seat.failure_policy == capstan_points::FailurePolicy::Ignore => {
                    tracing::warn!(plugin = seat.plugin, %fault, "policy ignored for this cycle");
                    None
                }
                Err(fault) => Some(format!("plugin {:?}: {fault}", seat.plugin)),
            }
        })
}
