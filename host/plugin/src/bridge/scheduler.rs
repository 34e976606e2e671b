//! `capstan:scheduler` as [`scheduler::Policy`]: one resident instance that is fed by deltas.
//!
//! `epoch()` falls back to 0 whenever the instance is new, so that the scheduler feeds it again. Answers are
//! checked here: a score column of the wrong length or range is a fault, never an answer. Which interfaces the
//! component has is `scheduler_exports`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capstan_kinds::plugin::SchedulerBind;
use capstan_points::scheduler::{
    self, Asks, Binding, Delta, Epoch, Event, EventKinds, Hypothesis, Narrowing, NodeId, Permit, Pod,
    Preparation, Readiness, Rejection, Release, Step, Unplaced, Verdict,
};
use capstan_points::{Bits, Fault};
use wasmtime::Store;

use super::scheduler_exports::{Exports, Indices};
use super::{Ring, scheduler_answers as answers, scheduler_convert as convert};
use crate::bindings::scheduler::exports::capstan::scheduler::{hints, post_filter, view};
use crate::error::LoadError;
use crate::health::Health;
use crate::limits::DELTA_ALLOWANCE;
use crate::live::{Answer, Live};
use crate::lock::lock;
use crate::program::Program;
use crate::resident::Resident;
use crate::state::State;

/// At most one question is recorded in this time: copying a pod is not free.
const RECORD_INTERVAL: Duration = Duration::from_millis(100);
const NO_ALLOWANCE: Duration = Duration::ZERO;
/// What each hypothesis, and each pod of a hint, adds to the deadline.
const HYPOTHESIS_ALLOWANCE: Duration = Duration::from_micros(100);

/// A question that was answered.
pub(crate) type Recorded = Ring<(Arc<Pod>, Bits)>;

pub(crate) struct Policy {
    resident: Resident<Exports>,
    asks: Asks,
    bind: SchedulerBind,
    epoch: AtomicU64,
    /// What the instance says interests its hints.
    interests: Arc<AtomicU16>,
    recorded: Arc<Recorded>,
    last_record: std::sync::Mutex<Option<Instant>>,
}

impl Policy {
    pub(crate) fn new(
        program: &Arc<Program>,
        health: &Arc<Health>,
        bind: SchedulerBind,
        recorded: Arc<Recorded>,
    ) -> Result<Self, LoadError> {
        if bind.weight < 1 {
            let field = "spec.bind.scheduler.weight";
            return Err(LoadError::spec(
                field,
                bind.weight.to_string(),
                "a whole number of at least 1",
            ));
        }
        let link = |error: wasmtime::Error| LoadError::Link(crate::cache::chain(&error));
        let indices = Indices::find(program).map_err(link)?;
        let asks = indices.asks();
        let interests = Arc::new(AtomicU16::new(EventKinds::ALL.0));
        let told = Arc::clone(&interests);
        let bind_exports = move |live: &mut Live| {
            let instance = live.instance;
            let exports = live.initialize(|store| indices.load(store, &instance))?;
            told.store(exports.interests.0, Ordering::SeqCst);
            Ok(exports)
        };
        Ok(Self {
            resident: Resident::new(Arc::clone(program), Arc::clone(health), Box::new(bind_exports)),
            asks,
            bind,
            epoch: AtomicU64::new(0),
            interests,
            recorded,
            last_record: std::sync::Mutex::new(None),
        })
    }

    /// Starts the instance and feeds it the cluster as it is now.
    pub(crate) fn warm(&self, cluster: Option<&dyn scheduler::Cluster>) -> Result<(), Fault> {
        self.resident.warm()?;
        if let Some(cluster) = cluster.filter(|_| self.asks.view) {
            let (epoch, deltas) = cluster.snapshot();
            scheduler::Policy::apply(self, epoch, true, &deltas)?;
        }
        Ok(())
    }

    /// Asks the warmed instance what was asked of the revision before it. Without a view of the cluster
    /// the symbols of recorded pods mean nothing, so there is nothing to rehearse.
    pub(crate) fn rehearse(&self) -> Result<(), (String, Fault)> {
        if self.asks.view && self.epoch.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        for (pod, candidates) in self.recorded.recorded() {
            if self.asks.filter {
                self.ask_filter(&pod, &candidates)
                    .map_err(|fault| ("filter".into(), fault))?;
            }
            if self.asks.score {
                self.ask_score(&pod, &candidates)
                    .map_err(|fault| ("score".into(), fault))?;
            }
        }
        Ok(())
    }

    fn lost(&self) {
        self.epoch.store(0, Ordering::SeqCst);
    }

    fn record(&self, pod: &Pod, candidates: &Bits) {
        let mut last = lock(&self.last_record);
        if last.is_none_or(|at| at.elapsed() >= RECORD_INTERVAL) {
            *last = Some(Instant::now());
            drop(last);
            self.recorded.record((Arc::new(pod.clone()), candidates.clone()));
        }
    }

    /// Asks the instance; `call` answers by itself where the component lacks the interface.
    fn ask<R>(
        &self,
        allowance: Duration,
        call: impl FnOnce(&Exports, &mut Store<State>) -> Answer<R>,
    ) -> Result<R, Fault> {
        self.resident.call(allowance, || self.lost(), call)
    }

    /// An answer that was read, or the fault of one that makes no sense.
    fn checked<R>(&self, answer: Result<R, String>) -> Result<R, Fault> {
        answer.map_err(|message| self.resident.health.garbage(message))
    }

    fn ask_filter(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let (pod, words) = (convert::pod(pod), candidates.words().to_vec());
        let rows = self.ask(NO_ALLOWANCE, |exports, store| match &exports.filter {
            Some(filter) => filter.call_filter(store, &pod, &words),
            None => Ok(Ok(Vec::new())),
        })?;
        self.checked(answers::rejections(rows, candidates))
    }

    fn ask_score(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        let (pod, words) = (convert::pod(pod), candidates.words().to_vec());
        let column = self.ask(NO_ALLOWANCE, |exports, store| match &exports.score {
            Some(score) => score.call_score(store, &pod, &words),
            None => Ok(Ok(vec![0; candidates.count()])),
        })?;
        self.checked(answers::column(column, candidates.count()))
    }

    fn step(&self, step: post_filter::Step) -> Result<Step, Fault> {
        self.checked(answers::step(step))
    }
}

impl scheduler::Policy for Policy {
    fn asks(&self) -> Asks {
        self.asks
    }

    fn weight(&self) -> i64 {
        self.bind.weight
    }

    fn profiles(&self) -> &[String] {
        &self.bind.profiles
    }

    fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::SeqCst)
    }

    fn order(&self) -> i32 {
        self.bind.order
    }

    fn apply(&self, epoch: Epoch, reset: bool, deltas: &[Delta]) -> Result<(), Fault> {
        let allowance = DELTA_ALLOWANCE * u32::try_from(deltas.len()).unwrap_or(u32::MAX);
        let told = self.ask(allowance, |exports, store| -> Answer<()> {
            let Some(view) = &exports.view else {
                return Ok(Ok(()));
            };
            let wanted = deltas.iter().filter(|delta| exports.topics.include(delta));
            let deltas: Vec<view::Delta> = wanted.map(convert::delta).collect();
            if deltas.is_empty() && !reset {
                return Ok(Ok(()));
            }
            view.call_apply(store, reset, &deltas)
        });
        match told {
            Ok(()) => self.epoch.store(epoch, Ordering::SeqCst),
            // Its state is no longer known: it starts over.
            Err(_) => {
                self.resident.retire();
                self.lost();
            }
        }
        told
    }

    fn enqueue(&self, pod: &Pod) -> Result<Readiness, Fault> {
        let pod = convert::pod(pod);
        let readiness = self.ask(NO_ALLOWANCE, |exports, store| match &exports.enqueue {
            Some(enqueue) => enqueue
                .call_check(store, &pod)
                .map(|answer| answer.map(answers::readiness)),
            None => Ok(Ok(Readiness::Ready)),
        })?;
        Ok(readiness)
    }

    fn rank(&self, pod: &Pod, queued_ms: u64) -> Result<Vec<i64>, Fault> {
        let pod = convert::pod(pod);
        let rank = self.ask(NO_ALLOWANCE, |exports, store| match &exports.queue_sort {
            Some(sort) => sort.call_rank(store, &pod, queued_ms),
            None => Ok(Ok(Vec::new())),
        })?;
        self.checked(answers::rank(rank))
    }

    fn pre_filter(&self, pod: &Pod) -> Result<Narrowing, Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.pre_filter {
            Some(filter) => filter
                .call_pre_filter(store, &pod)
                .map(|answer| answer.map(answers::narrowing)),
            None => Ok(Ok(Narrowing::All)),
        })
    }

    fn filter(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let rows = self.ask_filter(pod, candidates)?;
        self.record(pod, candidates);
        Ok(rows)
    }

    fn what_if(&self, pod: &Pod, others: &[Pod], hypotheses: &[Hypothesis]) -> Result<Vec<Rejection>, Fault> {
        let (pod, others) = (
            convert::pod(pod),
            others.iter().map(convert::pod).collect::<Vec<_>>(),
        );
        let asked: Vec<_> = hypotheses.iter().map(convert::hypothesis).collect();
        let allowance = HYPOTHESIS_ALLOWANCE * u32::try_from(asked.len()).unwrap_or(u32::MAX);
        let rows = self.ask(allowance, |exports, store| match &exports.what_if {
            Some(what_if) => what_if.call_filter(store, &pod, &others, &asked),
            None => Ok(Ok(Vec::new())),
        })?;
        self.checked(answers::rejections(rows, &Bits::all_below(hypotheses.len())))
    }

    fn post_filter(&self, unplaced: &Unplaced<'_>, now_ms: u64) -> Result<Step, Fault> {
        let question = post_filter::Question {
            pod: convert::pod(unplaced.pod),
            resolvable: unplaced.resolvable.words().to_vec(),
            nominated: unplaced.nominated,
        };
        let step = self.ask(NO_ALLOWANCE, |exports, store| match &exports.post_filter {
            Some(post) => post.call_begin(store, &question, now_ms),
            None => Ok(Ok(post_filter::Step::GiveUp((String::new(), false)))),
        })?;
        self.step(step)
    }

    fn proceed(&self, feasible: &Bits) -> Result<Step, Fault> {
        let words = feasible.words().to_vec();
        let step = self.ask(NO_ALLOWANCE, |exports, store| match &exports.post_filter {
            Some(post) => post.call_proceed(store, &words),
            None => Ok(Ok(post_filter::Step::GiveUp((String::new(), false)))),
        })?;
        self.step(step)
    }

    fn pre_score(&self, pod: &Pod, candidates: &Bits) -> Result<bool, Fault> {
        let (pod, words) = (convert::pod(pod), candidates.words().to_vec());
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.pre_score {
            Some(score) => score.call_pre_score(store, &pod, &words),
            None => Ok(Ok(true)),
        })
    }

    fn score(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        let column = self.ask_score(pod, candidates)?;
        self.record(pod, candidates);
        Ok(column)
    }

    fn reserve(&self, pod: &Pod, node: NodeId) -> Result<Verdict, Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.reserve {
            Some(reserve) => reserve
                .call_reserve(store, &pod, node)
                .map(|answer| answer.map(answers::verdict)),
            None => Ok(Ok(Verdict::Accepted)),
        })
    }

    fn unreserve(&self, pod: &Pod, node: NodeId) -> Result<(), Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.reserve {
            Some(reserve) => reserve.call_unreserve(store, &pod, node),
            None => Ok(Ok(())),
        })
    }

    fn permit(&self, pod: &Pod, node: NodeId) -> Result<(Permit, Vec<Release>), Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.permit {
            Some(permit) => permit
                .call_permit(store, &pod, node)
                .map(|answer| answer.map(answers::permission)),
            None => Ok(Ok((Permit::Allow, Vec::new()))),
        })
    }

    fn withdrawn(&self, pod: &Pod, node: NodeId) -> Result<Vec<Release>, Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.permit {
            Some(permit) => permit
                .call_withdrawn(store, &pod, node)
                .map(|answer| answer.map(answers::releases)),
            None => Ok(Ok(Vec::new())),
        })
    }

    fn pre_bind(&self, pod: &Pod, node: NodeId) -> Result<Preparation, Fault> {
        let pod = convert::pod(pod);
        let preparation = self.ask(NO_ALLOWANCE, |exports, store| match &exports.pre_bind {
            Some(prepare) => prepare
                .call_pre_bind(store, &pod, node)
                .map(|answer| answer.map(answers::preparation)),
            None => Ok(Ok(Preparation::Proceed(Vec::new()))),
        })?;
        Ok(preparation)
    }

    fn bind(&self, pod: &Pod, node: NodeId) -> Result<Binding, Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.bind {
            Some(bind) => bind
                .call_bind(store, &pod, node)
                .map(|answer| answer.map(answers::binding)),
            None => Ok(Ok(Binding::Pass)),
        })
    }

    fn post_bind(&self, pod: &Pod, node: NodeId) -> Result<(), Fault> {
        let pod = convert::pod(pod);
        self.ask(NO_ALLOWANCE, |exports, store| match &exports.post_bind {
            Some(bind) => bind.call_bound(store, &pod, node),
            None => Ok(Ok(())),
        })
    }

    fn interests(&self) -> EventKinds {
        EventKinds(self.interests.load(Ordering::SeqCst))
    }

    fn hint(&self, events: &[Event], pods: &[&Pod]) -> Result<Bits, Fault> {
        let events: Vec<hints::Event> = events.iter().map(convert::event).collect();
        let count = pods.len();
        let pods: Vec<_> = pods.iter().map(|pod| convert::pod(pod)).collect();
        let allowance = HYPOTHESIS_ALLOWANCE * u32::try_from(pods.len() * events.len()).unwrap_or(u32::MAX);
        let words = self.ask(allowance, |exports, store| match &exports.hints {
            Some(hints) => hints.call_hint(store, &events, &pods),
            None => Ok(Ok(Bits::all_below(count).words().to_vec())),
        })?;
        let mut worth = Bits::from_words(words);
        worth.intersect(&Bits::all_below(count));
        Ok(worth)
    }
}
