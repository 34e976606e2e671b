//! The scheduler's thread: takes in what informers tell, runs cycles, hands bindings off.
//!
//! Invariants: the thread owns the queue and all that waits; nothing here waits for the API server; every event of
//! the cluster is either looked at before the next attempt that it could decide, or still in `events`. What comes of
//! a pod's turn is `attempt`'s, of events `waking`'s, of a placed pod `binding`'s, of an evicted one `evicting`'s.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capstan_client::{Change, Informer};
use capstan_points::scheduler::{Event, EventKinds};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::bind::Writer;
use crate::nominations::Nominations;
use crate::profiles::Profiles;
use crate::queue::{Queue, Told};
use crate::run::{News, Options, lock};
use crate::view::{Key, View};
use crate::waiting::Waiting;

/// News taken in between two attempts.
const NEWS_AT_ONCE: usize = 1_024;

/// While pods are ready, events are looked at this often: many at once cost hardly more than one.
const WAKE_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct Worker {
    pub(crate) view: Arc<Mutex<View>>,
    pub(crate) queue: Queue,
    pub(crate) waiting: Waiting,
    pub(crate) nominations: Nominations,
    /// Pods assumed on nodes, by the names of those, until the API server says so too.
    pub(crate) assumed: HashMap<Key, (String, Arc<Pod>)>,
    pub(crate) profiles: Profiles,
    pub(crate) options: Options,
    budgets: Informer<PodDisruptionBudget>,
    pub(crate) writer: Writer,
    pub(crate) news: mpsc::Sender<News>,
    pub(crate) runtime: Handle,
    pub(crate) events: Vec<Event>,
    pub(crate) looked: Instant,
    /// Whether it schedules, or follows what another does.
    leads: bool,
}

impl Worker {
    pub(crate) fn new(
        view: Arc<Mutex<View>>,
        options: Options,
        budgets: Informer<PodDisruptionBudget>,
        client: Client,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self {
            view,
            queue: Queue::default(),
            waiting: Waiting::default(),
            nominations: Nominations::default(),
            assumed: HashMap::new(),
            profiles: Profiles::new(options.seats.clone()),
            options,
            budgets,
            writer: Writer::new(client),
            news,
            runtime: Handle::current(),
            events: Vec::new(),
            looked: Instant::now(),
            leads: false,
        }
    }

    pub(crate) fn run(mut self, mut inbox: mpsc::Receiver<News>) {
        self.relist_all();
        loop {
            for _ in 0..NEWS_AT_ONCE {
                let Ok(news) = inbox.try_recv() else { break };
                if !self.take_in(news) {
                    return;
                }
            }
            let now = Instant::now();
            while let Some(word) = self.waiting.expire(now) {
                self.follow(word);
            }
            self.queue.promote(now);
            let pressed =
                self.leads && self.queue.has_active() && now.duration_since(self.looked) < WAKE_INTERVAL;
            if !self.events.is_empty() && !pressed {
                self.look(now);
            }
            if self.leads
                && let Some((key, pod)) = self.queue.pop(now)
            {
                self.attempt(&key, pod);
                continue;
            }
            if !self.events.is_empty() {
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

    /// Waits for news, or until something is due.
    fn wait(&self, inbox: &mut mpsc::Receiver<News>) -> Option<News> {
        let due = [self.queue.next_due(), self.waiting.next_due()];
        match due.into_iter().flatten().min() {
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
            News::Leads(leads) => self.lead(leads),
            News::Seats => self.queue.wake_all(now),
            News::Pod(Change::Upserted(pod)) => self.upsert_pod(pod, now),
            News::Pod(Change::Deleted(pod)) => self.remove_pod(&pod),
            News::Node(Change::Upserted(node)) => {
                let event = lock(&self.view).upsert_node(&node);
                self.happened(event);
            }
            News::Node(Change::Deleted(node)) => self.remove_node(&node),
            News::Namespace(Change::Upserted(namespace)) => {
                let event = lock(&self.view).upsert_namespace(&namespace);
                self.happened(event);
            }
            News::Namespace(Change::Deleted(namespace)) => {
                lock(&self.view).remove_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
            }
            News::Budget(Change::Upserted(budget)) => lock(&self.view).upsert_budget(&budget),
            News::Budget(Change::Deleted(budget)) => {
                let meta = &budget.metadata;
                lock(&self.view).remove_budget(&key(meta.namespace.as_deref(), meta.name.as_deref()));
            }
            News::Pod(Change::Relisted)
            | News::Node(Change::Relisted)
            | News::Namespace(Change::Relisted)
            | News::Budget(Change::Relisted) => self.relist_all(),
            News::Bound(placement) => self.bound(*placement),
            News::NotBound(placement, why) => self.not_bound(*placement, &why),
            News::NotEvicted(key) => self.queue.wake(&key, now),
        }
        if lock(&self.view).is_stale() {
            self.relist_all();
        }
        true
    }

    /// Takes the scheduling up, knowing the cluster as it followed it, or leaves it to another: pods that waited to
    /// be bound are let go, and bindings under way are for the API server to decide.
    fn lead(&mut self, leads: bool) {
        self.leads = leads;
        if leads {
            return self.queue.wake_all(Instant::now());
        }
        for placement in self.waiting.take_all() {
            let key = placement.key.clone();
            self.withdraw(placement);
            self.queue.failed(&key, Instant::now());
        }
    }

    pub(crate) fn happened(&mut self, event: Option<Event>) {
        self.events.extend(event.filter(|event| !event.kinds.is_empty()));
    }

    /// Starts over from what the informers hold, and what is under way.
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
        // Numbers and symbols of before mean nothing now.
        self.events.clear();
        let known: HashSet<String> = pods.iter().map(|pod| key_of(pod)).collect();
        let gone: Vec<String> = self
            .queue
            .keys()
            .filter(|key| !known.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.nominations.remove(&key);
            self.queue.remove(&key);
        }
        self.queue.wake_all(now);
        self.assumed.retain(|key, _| known.contains(key));
        {
            let mut view = lock(&self.view);
            for (key, (node, pod)) in &self.assumed {
                view.assume(key, node, pod);
            }
        }
        for pod in pods {
            self.upsert_pod(pod, now);
        }
        for budget in self.budgets.list() {
            lock(&self.view).upsert_budget(&budget);
        }
        lock(&self.view).told_anew();
    }

    fn upsert_pod(&mut self, pod: Arc<Pod>, now: Instant) {
        let key = key_of(&pod);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.remove_pod(&pod);
            return;
        }
        if let Some(node) = node_of(&pod) {
            self.queue.remove(&key);
            self.assumed.remove(&key);
            self.nominations.remove(&key);
            let event = lock(&self.view).upsert_pod(&key, node, &pod);
            self.happened(event);
        } else if pod.metadata.deletion_timestamp.is_some() {
            self.remove_pod(&pod);
        } else if self.profiles.serves(&pod) {
            self.renominate(&key, &pod);
            if self.queue.upsert(&key, Arc::clone(&pod), now) != Told::Same {
                self.rank(&key, &pod);
            }
        }
    }

    /// Takes up what the pod's status says of a node that it waits for.
    pub(crate) fn renominate(&mut self, key: &str, pod: &Arc<Pod>) {
        let nominated = pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref());
        let known = self.nominations.of(key).map(str::to_owned);
        // The status lags behind what we decided; only without a decision of our own does it count.
        if let Some(node) = known.as_deref().or(nominated).filter(|node| !node.is_empty())
            && !self.assumed.contains_key(key)
        {
            self.nominations.set(key, node, Arc::clone(pod));
        }
    }

    /// Lets a policy say where the pod stands in the queue.
    fn rank(&mut self, key: &str, pod: &Pod) {
        let seats = self.profiles.of(pod);
        let Some(seat) = seats.iter().find(|seat| seat.policy.asks().queue_sort) else {
            return;
        };
        let mut view = lock(&self.view);
        let pending = view.pending(pod);
        let ranked = view
            .level(&*seat.policy)
            .and_then(|()| seat.policy.rank(&pending, now_ms()));
        drop(view);
        match ranked {
            Ok(rank) => self.queue.rank(key, rank),
            Err(fault) => tracing::warn!(plugin = seat.plugin, %fault, "a pod stands by its priority"),
        }
    }

    /// A pod is gone, or has nothing more to run.
    fn remove_pod(&mut self, pod: &Pod) {
        let key = key_of(pod);
        self.queue.remove(&key);
        if self.nominations.remove(&key).is_some() {
            // Room that was kept for it is free.
            self.happened(Some(Event {
                kinds: EventKinds::POD_REMOVED,
                node: None,
            }));
        }
        if let Some(placement) = self.waiting.take(pod.metadata.uid.as_deref().unwrap_or_default()) {
            self.withdraw(placement);
        }
        self.assumed.remove(&key);
        let event = lock(&self.view).remove_pod(&key);
        self.happened(event);
    }

    fn remove_node(&mut self, node: &Node) {
        let event = lock(&self.view).remove_node(node.metadata.name.as_deref().unwrap_or_default());
        self.happened(event);
    }
}

pub(crate) fn now_ms() -> u64 {
    Timestamp::now().as_millisecond().max(0) as u64
}

pub(crate) fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.filter(|node| !node.is_empty())
}

fn key(namespace: Option<&str>, name: Option<&str>) -> Key {
    format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default())
}

pub(crate) fn key_of(pod: &Pod) -> Key {
    key(pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref())
}
