//! The scheduler as others see it: started with informers and policies, running on a thread of its own.
//!
//! What informers tell is forwarded to the thread in one bounded line; the view is shared with policies that are
//! about to take their seat. What the thread does is `worker`'s.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use capstan_client::{Change, Changes, Informer};
use capstan_points::Seats;
use capstan_points::scheduler::{Cluster, Delta, Epoch, Policy};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Api, Client};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::decisions::Decisions;
use crate::placement::Placement;
use crate::view::View;
use crate::worker::Worker;

/// News taken in but not yet worked on; whoever tells more waits.
const NEWS_MAX: usize = 16_384;

/// How long the first lists may take.
const SYNC_BOUND: Duration = Duration::from_secs(60);

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
    /// Whether it is elected; without it, it always is.
    pub leads: Option<watch::Receiver<bool>>,
    /// Where decisions are remembered.
    pub decisions: Decisions,
}

/// What the thread is told.
pub(crate) enum News {
    Pod(Change<Pod>),
    Node(Change<Node>),
    Namespace(Change<Namespace>),
    Budget(Change<PodDisruptionBudget>),
    /// It is our turn to schedule, or another's.
    Leads(bool),
    /// Someone else sits now.
    Seats,
    /// The binding was written.
    Bound(Box<Placement>),
    /// The binding was not written, or not seen in time.
    NotBound(Box<Placement>, String),
    /// Some victims of a pod's nomination could not be evicted.
    NotEvicted(String),
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
        let budgets: Informer<PodDisruptionBudget> =
            Informer::start(Api::all(client.clone()), Default::default());
        forward(options.pods.subscribe(), news.clone(), News::Pod);
        forward(options.nodes.subscribe(), news.clone(), News::Node);
        forward(options.namespaces.subscribe(), news.clone(), News::Namespace);
        forward(budgets.subscribe(), news.clone(), News::Budget);
        options.namespaces.synced(SYNC_BOUND).await?;
        options.nodes.synced(SYNC_BOUND).await?;
        budgets.synced(SYNC_BOUND).await?;
        options.pods.synced(SYNC_BOUND).await?;
        watch_seats(options.seats.clone(), news.clone());
        watch_election(options.leads.clone(), news.clone());
        let view = Arc::new(Mutex::new(View::default()));
        options.decisions.of(Arc::clone(&view));
        let worker = Worker::new(Arc::clone(&view), options, budgets, client, news.clone());
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
pub(crate) fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
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

fn watch_election(leads: Option<watch::Receiver<bool>>, news: mpsc::Sender<News>) {
    tokio::spawn(async move {
        let Some(mut leads) = leads else {
            // Nobody listens any more: that is no failure.
            let _ = news.send(News::Leads(true)).await;
            return;
        };
        loop {
            let now = *leads.borrow_and_update();
            if news.send(News::Leads(now)).await.is_err() || leads.changed().await.is_err() {
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
