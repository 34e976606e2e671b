//! Why each of the last pods is where it is, or nowhere: what every policy said in its last cycle.
//!
//! Always on: a cycle leaves its rejections as sets of nodes and the scores of the best few; names are looked up when
//! somebody asks. At most [`DECISIONS_MAX`] pods are remembered, the ones tried last. Written by the scheduler's
//! thread, read by the composition root for the API server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use capstan_points::Bits;
use serde_json::{Value, json};

use crate::cycle::Refusal;
use crate::ranking::Ranking;
use crate::run::lock;
use crate::view::View;

/// Pods whose last decision is kept.
const DECISIONS_MAX: usize = 1_024;
/// Names of nodes that one reason lists; it counts all.
const NAMES_MAX: usize = 20;

/// What came of a cycle.
#[derive(Debug)]
pub(crate) enum End {
    Placed(String),
    Unschedulable(String),
    Fault(String),
}

#[derive(Debug)]
struct Decision {
    at_ms: u64,
    end: End,
    nodes: usize,
    refusals: Vec<Refusal>,
    ranking: Ranking,
    /// Numbers of nodes mean what they meant while this stays the same.
    numbering: u64,
}

#[derive(Default)]
struct Kept {
    by_pod: HashMap<String, Decision>,
    /// In the order of their last decisions; a pod may stand here more than once.
    order: VecDeque<(String, u64)>,
    sequence: u64,
    last: HashMap<String, u64>,
}

/// The last decisions of a scheduler; cheap to clone.
#[derive(Clone, Default)]
pub struct Decisions {
    kept: Arc<Mutex<Kept>>,
    view: Arc<Mutex<Option<Arc<Mutex<View>>>>>,
}

impl std::fmt::Debug for Decisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decisions").finish_non_exhaustive()
    }
}

impl Decisions {
    /// Where numbers of nodes are looked up.
    pub(crate) fn of(&self, view: Arc<Mutex<View>>) {
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = Some(view);
    }

    pub(crate) fn record(
        &self,
        pod: &str,
        at_ms: u64,
        (nodes, numbering): (usize, u64),
        end: End,
        (refusals, ranking): (Vec<Refusal>, Ranking),
    ) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sequence += 1;
        let sequence = kept.sequence;
        let decision = Decision {
            at_ms,
            end,
            nodes,
            refusals,
            ranking,
            numbering,
        };
        kept.by_pod.insert(pod.to_owned(), decision);
        kept.last.insert(pod.to_owned(), sequence);
        kept.order.push_back((pod.to_owned(), sequence));
        while kept.order.len() > DECISIONS_MAX {
            let Some((oldest, sequence)) = kept.order.pop_front() else {
                break;
            };
            if kept.last.get(&oldest) == Some(&sequence) {
                kept.last.remove(&oldest);
                kept.by_pod.remove(&oldest);
            }
        }
    }

    /// The pod's last decision, as `SchedulingDecision` of `scheduler.capstan.dev/v1`; none where it is not, or not
    /// any more, remembered.
    pub fn explain(&self, namespace: &str, name: &str) -> Option<Value> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let view = lock(&view);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let decision = kept.by_pod.get(&format!("{namespace}/{name}"))?;
        Some(decision.json(namespace, name, &view))
    }
}

impl Decision {
    fn json(&self, namespace: &str, name: &str, view: &View) -> Value {
        let (outcome, node, message) = match &self.end {
            End::Placed(node) => ("Placed", Some(node), None),
            End::Unschedulable(message) => ("Unschedulable", None, Some(message)),
            End::Fault(message) => ("Fault", None, Some(message)),
        };
        let rejections: Vec<Value> = self
            .refusals
            .iter()
            .map(|one| self.rejection(one, view))
            .collect();
        let scores: Vec<Value> = self.scores(view);
        json!({
            "apiVersion": "scheduler.capstan.dev/v1", "kind": "SchedulingDecision",
            "metadata": { "namespace": namespace, "name": name },
            "time": jiff::Timestamp::from_millisecond(self.at_ms as i64).ok().map(|at| at.to_string()),
            "outcome": outcome, "node": node, "message": message,
            "nodes": self.nodes, "feasibleNodes": self.ranking.feasible,
            "rejections": rejections, "scores": scores,
        })
    }

    fn names(&self, nodes: &Bits, view: &View) -> Vec<String> {
        if view.numbering() != self.numbering {
            return Vec::new();
        }
        let names = nodes.iter().filter_map(|node| view.node_name(node));
        names.take(NAMES_MAX).map(str::to_owned).collect()
    }

    fn rejection(&self, refusal: &Refusal, view: &View) -> Value {
        let rejection = &refusal.rejection;
        json!({
            "plugin": refusal.plugin, "reason": rejection.reason, "resolvable": rejection.resolvable,
            "count": rejection.nodes.count(), "nodes": self.names(&rejection.nodes, view),
        })
    }

    fn scores(&self, view: &View) -> Vec<Value> {
        if view.numbering() != self.numbering {
            return Vec::new();
        }
        let scored = |one: &crate::ranking::Scored| {
            let policies = self.ranking.policies.iter().zip(&one.scores);
            let plugins: Vec<Value> = policies
                .map(
                    |((plugin, weight), score)| json!({ "plugin": plugin, "score": score, "weight": weight }),
                )
                .collect();
            Some(json!({ "node": view.node_name(one.node)?, "total": one.total, "plugins": plugins }))
        };
        self.ranking.best.iter().filter_map(scored).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_decision_of_a_pod_is_kept_and_the_oldest_pods_go() {
        let decisions = Decisions::default();
        decisions.of(Arc::default());
        let record = |pod: &str, end| decisions.record(pod, 0, (1, 0), end, Default::default());
        record("d/a", End::Unschedulable("full".into()));
        record("d/a", End::Placed("n".into()));
        assert_eq!(decisions.explain("d", "a").unwrap()["outcome"], "Placed");
        for n in 0..DECISIONS_MAX {
            record(&format!("d/{n}"), End::Fault(String::new()));
        }
        assert!(decisions.explain("d", "a").is_none());
        assert!(decisions.explain("d", "0").is_some());
        let kept = decisions.kept.lock().unwrap();
        assert_eq!(kept.by_pod.len(), DECISIONS_MAX);
        assert_eq!(kept.last.len(), DECISIONS_MAX);
    }
}
