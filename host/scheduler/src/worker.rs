//! The scheduler's thread: takes in what informers tell, runs cycles, hands bindings off.
//!
//! Invariants: the thread owns the queue and all that waits; nothing here waits for the API server; every event of
//! the cluster is either looked at before the next attempt that it could decide, or still in `events`. What becomes
//! of a placed pod is `binding`'s, of an evicted one `evicting`'s.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capstan_client::{Change, Informer};
use capstan_points::scheduler::{Event, EventKinds, Pod as Seen, Policy, Readiness};
use capstan_points::{FailurePolicy, Fault, Seat};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::bind::{Note, Writer};
use crate::cycle::{self, Outcome, Promise, Question, Way};
use crate::decisions::End;
use crate::nominations::{Nominations, priority};
use crate::parked::{self, Conclusion};
use crate::profiles::Profiles;
use crate::queue::{Queue, Told};
use crate::ranking::Ranking;
use crate::report;
use crate::run::{News, Options, lock};
use crate::view::{Key, View};
use crate::waiting::Waiting;

/// News taken in between two attempts.
const NEWS_AT_ONCE: usize = 1_024;

/// While pods are ready, events are looked at this often: many at once cost hardly more than one.
const WAKE_INTERVAL: Duration = Duration::from_millis(10);

/// Places of events that are told apart; beyond, they are one event of no place.
const EVENTS_MAX: usize = 256;

/// Kinds of pods in one question to a hint.
const HINTED_MAX: usize = 512;

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
    events: Vec<Event>,
    looked: Instant,
}

/// What holds a pod back before any node is looked at.
enum Gate {
    Open,
    Closed(String),
    Fault(String, Fault),
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
            let pressed = self.queue.has_active() && now.duration_since(self.looked) < WAKE_INTERVAL;
            if !self.events.is_empty() && !pressed {
                self.look(now);
            }
            if let Some((key, pod)) = self.queue.pop(now) {
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

    /// Finds out which of the unschedulable are worth another try after what happened.
    fn look(&mut self, now: Instant) {
        let events = merged(std::mem::take(&mut self.events));
        self.looked = now;
        if self.queue.parked().is_empty() {
            return;
        }
        let seats = self.profiles.all();
        let seated: HashSet<&str> = seats.iter().map(|seat| seat.plugin.as_str()).collect();
        let view = lock(&self.view);
        let mut worth: HashSet<Arc<Seen>> = HashSet::new();
        for (kind, plugins) in self.queue.parked().kinds() {
            if plugins.iter().any(|plugin| !seated.contains(plugin.as_str())) {
                worth.insert(Arc::clone(kind));
            }
        }
        for seat in seats.iter() {
            let rejected = self
                .queue
                .parked()
                .kinds()
                .filter(|(kind, plugins)| plugins.contains(&seat.plugin) && !worth.contains(*kind));
            let kinds: Vec<Arc<Seen>> = rejected.map(|(kind, _)| Arc::clone(kind)).collect();
            if !kinds.is_empty() {
                worth.extend(hinted(&view, seat, &events, kinds));
            }
        }
        drop(view);
        for kind in worth {
            self.queue.wake_alike(&kind, now);
        }
    }

    fn attempt(&mut self, key: &str, pod: Arc<Pod>) {
        let seats = self.profiles.of(&pod);
        let shared = Arc::clone(&self.view);
        let mut view = lock(&shared);
        let pending = view.pending(&pod);
        match gate(&view, &seats, &pod, &pending) {
            Gate::Open => {}
            Gate::Closed(waits_for) => {
                drop(view);
                self.queue.gate(key);
                return self.tell(pod, "SchedulingGated", waits_for, false);
            }
            Gate::Fault(plugin, fault) => {
                drop(view);
                return self.faulted(key, pod, &plugin, &fault);
            }
        }
        let nominated = self.nominations.of(key).and_then(|node| view.node_id(node));
        if nominated.is_none() && !self.queue.parked().is_empty() {
            let kind = parked::kind(&pending);
            if self.queue.parked().conclusion(&kind).is_some() && !self.events.is_empty() {
                drop(view);
                self.look(Instant::now());
                view = lock(&shared);
            }
            if let Some(conclusion) = self.queue.parked().conclusion(&kind).cloned() {
                drop(view);
                let message = conclusion.message.to_string();
                self.queue.park(key, kind, conclusion, Instant::now());
                return self.tell(pod, "Unschedulable", message, true);
            }
        }
        let promises = promises(&mut view, &self.nominations, key, priority(&pod));
        let question = Question {
            pod: &pending,
            nominated,
            promises: &promises,
            now_ms: now_ms(),
        };
        let outcome = cycle::run(&view, &seats, &question);
        let about = (view.nodes().count(), view.numbering());
        let record = |end, said| {
            let decisions = &self.options.decisions;
            decisions.record(key, question.now_ms, about, end, said);
        };
        match outcome {
            Outcome::Placed {
                node,
                refusals,
                ranking,
            } => {
                let name = view.node_name(node).unwrap_or_default().to_owned();
                drop(view);
                record(End::Placed(name), (refusals, ranking));
                self.place(key, pod, pending, node, seats)
            }
            Outcome::Unschedulable { nodes, refusals, way } => {
                drop(view);
                let message = report::unschedulable(nodes, &refusals, way.reason());
                let conclusion = refusals.iter().map(|refusal| refusal.plugin.clone()).collect();
                record(End::Unschedulable(message.clone()), (refusals, Ranking::default()));
                self.unschedulable(key, pod, &pending, (conclusion, message), way)
            }
            Outcome::Fault { plugin, fault } => {
                drop(view);
                record(End::Fault(format!("plugin {plugin:?}: {fault}")), Default::default());
                self.faulted(key, pod, &plugin, &fault)
            }
        }
    }

    pub(crate) fn faulted(&mut self, key: &str, pod: Arc<Pod>, plugin: &str, fault: &Fault) {
        self.queue.failed(key, Instant::now());
        self.tell(pod, "SchedulerError", format!("plugin {plugin:?}: {fault}"), true);
    }

    fn unschedulable(
        &mut self,
        key: &str,
        pod: Arc<Pod>,
        pending: &Seen,
        (plugins, message): (BTreeSet<String>, String),
        way: Way,
    ) {
        let message: Arc<str> = message.into();
        let conclusion = Conclusion {
            plugins,
            message: Arc::clone(&message),
            is_final: matches!(way, Way::None { .. }) && self.nominations.of(key).is_none(),
        };
        // Without nodes nobody was asked: the first node wakes it.
        let nobody = conclusion.plugins.is_empty();
        let conclusion = if nobody {
            nobody_asked(conclusion)
        } else {
            conclusion
        };
        self.queue
            .park(key, parked::kind(pending), conclusion, Instant::now());
        match way {
            Way::None { clear, .. } => {
                if clear {
                    self.clear_nomination(key, &pod);
                }
            }
            Way::Evict {
                plugin,
                node,
                victims,
            } => self.evict(key, &pod, &plugin, node, &victims),
        }
        self.tell(pod, "Unschedulable", message.to_string(), true);
    }

    /// Tells the user why the pod is not placed.
    pub(crate) fn tell(&self, pod: Arc<Pod>, reason: &'static str, message: String, with_event: bool) {
        let writer = self.writer.clone();
        self.runtime.spawn(async move {
            if let Err(error) = writer.not_scheduled(&pod, reason, &message).await {
                tracing::debug!(%error, "a pod's condition was not written");
            }
            if with_event {
                let note = Note {
                    warning: true,
                    reason: "FailedScheduling",
                    message,
                };
                writer.event(&pod, note).await;
            }
        });
    }
}

/// A plugin that sits nowhere: whatever happens is a reason to try again.
const NOBODY: &str = "";

fn nobody_asked(conclusion: Conclusion) -> Conclusion {
    Conclusion {
        plugins: [NOBODY.to_owned()].into(),
        ..conclusion
    }
}

/// Events by place, many of one place as one.
fn merged(events: Vec<Event>) -> Vec<Event> {
    let mut merged: Vec<Event> = Vec::new();
    let mut places: HashMap<Option<u32>, usize> = HashMap::new();
    for event in &events {
        match places.get(&event.node) {
            Some(&at) => merged[at].kinds = merged[at].kinds.and(event.kinds),
            None => {
                places.insert(event.node, merged.len());
                merged.push(*event);
            }
        }
    }
    if merged.len() <= EVENTS_MAX {
        return merged;
    }
    let kinds = merged
        .iter()
        .fold(EventKinds::default(), |all, event| all.and(event.kinds));
    vec![Event { kinds, node: None }]
}

/// Which kinds of pods that the policy rejected are worth another try.
fn hinted(view: &View, seat: &Seat<dyn Policy>, events: &[Event], kinds: Vec<Arc<Seen>>) -> Vec<Arc<Seen>> {
    if !seat.policy.asks().hints {
        return kinds;
    }
    // A fresh instance tells its interests when it starts, which levelling does.
    if view.level(&*seat.policy).is_err() {
        return kinds;
    }
    let interests = seat.policy.interests();
    let events: Vec<Event> = events
        .iter()
        .filter(|event| event.kinds.meets(interests))
        .copied()
        .collect();
    if events.is_empty() {
        return Vec::new();
    }
    let mut worth = Vec::new();
    for some in kinds.chunks(HINTED_MAX) {
        let pods: Vec<&Seen> = some.iter().map(|kind| &**kind).collect();
        match seat.policy.hint(&events, &pods) {
            Ok(bits) => worth.extend(bits.iter().filter_map(|at| some.get(at as usize).cloned())),
            Err(fault) => {
                tracing::warn!(plugin = seat.plugin, %fault, "a hint failed: all are tried again");
                worth.extend(some.iter().cloned());
            }
        }
    }
    worth
}

fn promises(view: &mut View, nominations: &Nominations, key: &str, least: i32) -> Vec<Promise> {
    let ahead: Vec<(u32, Arc<Pod>)> = nominations
        .ahead_of(key, least)
        .filter_map(|(node, pod)| Some((view.node_id(node)?, Arc::clone(pod))))
        .collect();
    let promise = |(node, pod): (u32, Arc<Pod>)| Promise {
        node,
        pod: view.pending(&pod),
    };
    ahead.into_iter().map(promise).collect()
}

fn gate(view: &View, seats: &[Seat<dyn Policy>], pod: &Pod, pending: &Seen) -> Gate {
    let gates = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref());
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return Gate::Closed("Scheduling is blocked due to non-empty scheduling gates".to_owned());
    }
    for seat in seats.iter().filter(|seat| seat.policy.asks().enqueue) {
        let asked = view
            .level(&*seat.policy)
            .and_then(|()| seat.policy.enqueue(pending));
        match asked {
            Ok(Readiness::Ready) => {}
            Ok(Readiness::Gated(waits_for)) => return Gate::Closed(waits_for),
            Err(fault) if seat.failure_policy == FailurePolicy::Ignore => {
                tracing::warn!(plugin = seat.plugin, %fault, "policy ignored for this cycle");
            }
            Err(fault) => return Gate::Fault(seat.plugin.clone(), fault),
        }
    }
    Gate::Open
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_events_of_one_place_are_one_and_too_many_places_are_none() {
        let event = |node: u32, kinds| Event {
            kinds,
            node: Some(node),
        };
        let events = vec![
            event(1, EventKinds::POD_ADDED),
            event(2, EventKinds::POD_ADDED),
            event(1, EventKinds::POD_REMOVED),
        ];
        let merged_events = merged(events);
        assert_eq!(merged_events.len(), 2);
        assert!(merged_events[0].kinds.meets(EventKinds::POD_REMOVED));
        let many = (0..EVENTS_MAX as u32 + 1).map(|node| event(node, EventKinds::POD_ADDED));
        assert_eq!(
            merged(many.collect()),
            [Event {
                kinds: EventKinds::POD_ADDED,
                node: None
            }]
        );
    }
}
