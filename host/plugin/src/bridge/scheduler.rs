//! `capstan:scheduler` as [`scheduler::Policy`]: one resident instance that is fed by deltas.
//!
//! `epoch()` falls back to 0 whenever the instance is new, so that the scheduler feeds it again. Columns
//! are checked here: a score column of the wrong length or range is a fault, never an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use capstan_kinds::plugin::SchedulerBind;
use capstan_points::scheduler::{self, Asks, Delta, Epoch, Pod, Readiness, Rejection};
use capstan_points::{Bits, Fault};

use super::{Ring, scheduler_convert as convert};
use crate::bindings::scheduler::exports::capstan::scheduler::{enqueue, filter, score, view};
use crate::error::LoadError;
use crate::health::Health;
use crate::limits::DELTA_ALLOWANCE;
use crate::live::{Answer, Live};
use crate::lock::lock;
use crate::program::Program;
use crate::resident::Resident;

/// Scores lie between 0 and this.
const SCORE_MAX: i32 = 100;
/// Rows of one answer of `filter`, and bytes of one reason.
const REJECTIONS_MAX: usize = 1_000;
const REASON_BYTES_MAX: usize = 1_024;
/// At most one question is recorded in this time: copying a pod is not free.
const RECORD_INTERVAL: Duration = Duration::from_millis(100);
const NO_ALLOWANCE: Duration = Duration::ZERO;

/// A question that was answered.
pub(crate) type Recorded = Ring<(Arc<Pod>, Bits)>;

struct Exports {
    view: Option<view::Guest>,
    enqueue: Option<enqueue::Guest>,
    filter: Option<filter::Guest>,
    score: Option<score::Guest>,
}

pub(crate) struct Policy {
    resident: Resident<Exports>,
    asks: Asks,
    bind: SchedulerBind,
    epoch: AtomicU64,
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
        let has = |interface: &str| program.surface.exports(&format!("scheduler/{interface}"));
        let pre = &program.pre;
        let view = has("view")
            .then(|| view::GuestIndices::new(pre))
            .transpose()
            .map_err(link)?;
        let enqueue = has("enqueue")
            .then(|| enqueue::GuestIndices::new(pre))
            .transpose()
            .map_err(link)?;
        let filter = has("filter")
            .then(|| filter::GuestIndices::new(pre))
            .transpose()
            .map_err(link)?;
        let score = has("score")
            .then(|| score::GuestIndices::new(pre))
            .transpose()
            .map_err(link)?;
        let asks = Asks {
            view: view.is_some(),
            enqueue: enqueue.is_some(),
            filter: filter.is_some(),
            score: score.is_some(),
        };
        let bind_exports = move |live: &mut Live| {
            let instance = live.instance;
            live.initialize(|store| {
                Ok(Exports {
                    view: view
                        .as_ref()
                        .map(|i| i.load(&mut *store, &instance))
                        .transpose()?,
                    enqueue: enqueue
                        .as_ref()
                        .map(|i| i.load(&mut *store, &instance))
                        .transpose()?,
                    filter: filter
                        .as_ref()
                        .map(|i| i.load(&mut *store, &instance))
                        .transpose()?,
                    score: score
                        .as_ref()
                        .map(|i| i.load(&mut *store, &instance))
                        .transpose()?,
                })
            })
        };
        Ok(Self {
            resident: Resident::new(Arc::clone(program), Arc::clone(health), Box::new(bind_exports)),
            asks,
            bind,
            epoch: AtomicU64::new(0),
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

    fn ask_filter(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let (pod, words) = (convert::pod(pod), candidates.words().to_vec());
        let rows = self.resident.call(
            NO_ALLOWANCE,
            || self.lost(),
            |exports, store| {
                let Some(filter) = &exports.filter else {
                    return Ok(Ok(Vec::new()));
                };
                filter.call_filter(store, &pod, &words)
            },
        )?;
        if rows.len() > REJECTIONS_MAX {
            let message = format!(
                "filter gave {} rows; at most {REJECTIONS_MAX} make sense",
                rows.len()
            );
            return Err(self.resident.health.garbage(message));
        }
        Ok(rows.into_iter().map(|row| rejection(row, candidates)).collect())
    }

    fn ask_score(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        let (pod, words) = (convert::pod(pod), candidates.words().to_vec());
        let column = self.resident.call(
            NO_ALLOWANCE,
            || self.lost(),
            |exports, store| {
                let Some(score) = &exports.score else {
                    return Ok(Ok(vec![0; candidates.count()]));
                };
                score.call_score(store, &pod, &words)
            },
        )?;
        check_column(&column, candidates.count()).map_err(|message| self.resident.health.garbage(message))?;
        Ok(column)
    }
}

fn check_column(column: &[i32], candidates: usize) -> Result<(), String> {
    if column.len() != candidates {
        return Err(format!(
            "score gave {} scores for {candidates} candidates",
            column.len()
        ));
    }
    match column.iter().find(|score| !(0..=SCORE_MAX).contains(*score)) {
        Some(score) => Err(format!(
            "score gave {score}; scores lie between 0 and {SCORE_MAX}"
        )),
        None => Ok(()),
    }
}

/// A row with only the nodes that were asked about, and a reason of bounded length.
fn rejection(row: filter::Rejection, candidates: &Bits) -> Rejection {
    let mut nodes = Bits::from_words(row.nodes);
    nodes.intersect(candidates);
    let mut reason = row.reason;
    if reason.len() > REASON_BYTES_MAX {
        let mut end = REASON_BYTES_MAX;
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
    }
    Rejection {
        reason,
        resolvable: row.resolvable,
        nodes,
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

    fn apply(&self, epoch: Epoch, reset: bool, deltas: &[Delta]) -> Result<(), Fault> {
        let deltas: Vec<view::Delta> = deltas.iter().map(convert::delta).collect();
        let allowance = DELTA_ALLOWANCE * u32::try_from(deltas.len()).unwrap_or(u32::MAX);
        let told = self.resident.call(
            allowance,
            || self.lost(),
            |exports, store| -> Answer<()> {
                let Some(view) = &exports.view else {
                    return Ok(Ok(()));
                };
                view.call_apply(store, reset, &deltas)
            },
        );
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
        let readiness = self.resident.call(
            NO_ALLOWANCE,
            || self.lost(),
            |exports, store| {
                let Some(enqueue) = &exports.enqueue else {
                    return Ok(Ok(enqueue::Readiness::Ready));
                };
                enqueue.call_check(store, &pod)
            },
        )?;
        Ok(match readiness {
            enqueue::Readiness::Ready => Readiness::Ready,
            enqueue::Readiness::Gated(reason) => Readiness::Gated(reason),
        })
    }

    fn filter(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let rows = self.ask_filter(pod, candidates)?;
        self.record(pod, candidates);
        Ok(rows)
    }

    fn score(&self, pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        let column = self.ask_score(pod, candidates)?;
        self.record(pod, candidates);
        Ok(column)
    }
}
