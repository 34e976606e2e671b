//! One pod's attempt: its gates, what was concluded about its like, a cycle, and what that comes to.
//!
//! Nothing here waits for the API server. What becomes of a placed pod is `binding`'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use capstan_points::scheduler::{Pod as Seen, Policy, Readiness};
use capstan_points::{FailurePolicy, Fault, Seat};
use k8s_openapi::api::core::v1::Pod;

use crate::bind::Note;
use crate::cycle::{self, Outcome, Promise, Question, Way};
use crate::decisions::End;
use crate::nominations::{Nominations, priority};
use crate::parked::{self, Conclusion};
use crate::ranking::Ranking;
use crate::report;
use crate::run::lock;
use crate::view::View;
use crate::worker::{Worker, now_ms};

/// What holds a pod back before any node is looked at.
enum Gate {
    Open,
    Closed(String),
    Fault(String, Fault),
}

impl Worker {
    pub(crate) fn attempt(&mut self, key: &str, pod: Arc<Pod>) {
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
                record(
                    End::Unschedulable(message.clone()),
                    (refusals, Ranking::default()),
                );
                self.unschedulable(key, pod, &pending, (conclusion, message), way)
            }
            Outcome::Fault { plugin, fault } => {
                drop(view);
                record(
                    End::Fault(format!("plugin {plugin:?}: {fault}")),
                    Default::default(),
                );
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
