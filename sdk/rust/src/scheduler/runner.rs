//! The loops around a policy: what a component's exports call, and native tests and benches too.

use super::{
    Change, Cluster, Delta, Filter, NodeSet, Pod, Policy, Row, Score,
    cluster::Rules,
    memo::{self, Changes, Memo, Scores},
    normalize::SCORE_MAX,
    verdict::Rows,
};
use crate::{
    Fault,
    plugin::{Component, Seated},
    wit::{
        scheduler_filter::exports::capstan::scheduler::filter,
        scheduler_score::exports::capstan::scheduler::score,
    },
};

/// A policy with its tables. Runs natively just as in a component.
pub struct Runner<P> {
    pub(super) policy: P,
    pub(super) cluster: Cluster,
    changes: Changes,
    verdicts: Memo<Rows>,
    scores: Memo<Scores>,
}

impl<P: Policy> Seated for Runner<P> {
    type Plugin = P;

    fn seat(policy: P) -> Self {
        Self::new(policy)
    }

    fn plugin(&mut self) -> &mut P {
        &mut self.policy
    }
}

impl<P: Policy> Runner<P> {
    /// A policy that knows nothing of the cluster yet.
    pub fn new(policy: P) -> Self {
        Self {
            policy,
            cluster: Cluster::default(),
            changes: Changes::default(),
            verdicts: Memo::default(),
            scores: Memo::default(),
        }
    }

    /// The tables.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Takes news in order; with `reset`, from nothing.
    pub fn apply(&mut self, reset: bool, deltas: Vec<Delta>) -> Result<(), Fault> {
        let Self {
            policy,
            cluster,
            changes,
            ..
        } = self;
        if reset {
            *cluster = Cluster::default();
            changes.all();
            policy.on_change(cluster, Change::Reset);
        }
        let rules = Rules {
            pods: P::PODS,
            trim: P::trim,
        };
        for delta in deltas {
            let resources = cluster.resources_len();
            if matches!(delta, Delta::Symbols(_)) {
                changes.all();
            }
            cluster.apply(delta, rules, &mut |cluster, change| {
                match change {
                    Change::NodeUpserted(id) | Change::NodeRemoved(id) => changes.node(id),
                    Change::PodAdded(pod) | Change::PodRemoved(pod) => changes.node(pod.node),
                    Change::Reset | Change::Namespace(_) => changes.all(),
                }
                policy.on_change(cluster, change)
            })?;
            if cluster.resources_len() != resources {
                changes.all();
            }
        }
        Ok(())
    }
}

impl<P: Filter> Runner<P> {
    /// Which candidates cannot take the pod, a row for each reason.
    pub fn filter(&mut self, pod: &Pod, candidates: &NodeSet) -> Result<Vec<Row>, Fault> {
        if P::NODE_LOCAL {
            return self.filter_changed(pod, candidates);
        }
        let Some(prepared) = self.policy.prepare_filter(&self.cluster, pod) else {
            return Ok(Vec::new());
        };
        let mut rows = Rows::default();
        for id in candidates.iter() {
            let node = self.cluster.node(id).ok_or_else(|| unknown(id))?;
            if let Err(rejection) = self.policy.filter(&self.cluster, &prepared, pod, node) {
                rows.add(id, &rejection);
            }
        }
        Ok(rows.into_answer(&self.cluster))
    }

    /// The same, with nodes judged anew that changed since a pod of the kind was asked about.
    fn filter_changed(&mut self, pod: &Pod, candidates: &NodeSet) -> Result<Vec<Row>, Fault> {
        let kind = self.verdicts.about(pod, &self.changes);
        let unjudged = candidates.difference(&kind.known);
        if !unjudged.is_empty() {
            kind.answers.drop_empty();
            let prepared = self.policy.prepare_filter(&self.cluster, pod);
            for id in unjudged.iter() {
                let node = self.cluster.node(id).ok_or_else(|| unknown(id))?;
                let verdict = prepared
                    .as_ref()
                    .map(|prepared| self.policy.filter(&self.cluster, prepared, pod, node));
                memo::note(kind, id, verdict.unwrap_or(Ok(())));
            }
        }
        Ok(kind.answers.within(candidates, &self.cluster))
    }
}

impl<P: Score> Runner<P> {
    /// One score for each candidate, 0 to 100, ascending by node number.
    pub fn score(&mut self, pod: &Pod, candidates: &NodeSet) -> Result<Vec<i32>, Fault> {
        let Some(prepared) = self.policy.prepare_score(&self.cluster, pod, candidates) else {
            return Ok(vec![0; candidates.len()]);
        };
        let mut scores = Vec::new();
        if P::NODE_LOCAL {
            let kind = self.scores.about(pod, &self.changes);
            for id in candidates.difference(&kind.known).iter() {
                let node = self.cluster.node(id).ok_or_else(|| unknown(id))?;
                let score = self.policy.score(&self.cluster, &prepared, pod, node);
                kind.answers.set(id, score);
                kind.known.insert(id);
            }
            scores = kind.answers.of(candidates);
        } else {
            scores.reserve(candidates.len());
            for id in candidates.iter() {
                let node = self.cluster.node(id).ok_or_else(|| unknown(id))?;
                scores.push(self.policy.score(&self.cluster, &prepared, pod, node));
            }
        }
        self.policy.normalize(&prepared, &mut scores);
        let within = |score: i64| match score {
            0..=SCORE_MAX => Ok(score as i32),
            _ => Err(Fault::permanent(format!(
                "a node scored {score}, which is not from 0 to {SCORE_MAX}"
            ))),
        };
        scores.into_iter().map(within).collect()
    }
}

fn unknown(node: u32) -> Fault {
    Fault::retry(format!("candidate node number {node} is not known"))
}

impl<C, P: Filter> filter::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn filter(pod: Pod, candidates: Vec<u64>) -> Result<Vec<Row>, Fault> {
        C::call(|runner| runner.filter(&pod, &NodeSet::from_words(candidates)))
    }
}

impl<C, P: Score> score::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn score(pod: Pod, candidates: Vec<u64>) -> Result<Vec<i32>, Fault> {
        C::call(|runner| runner.score(&pod, &NodeSet::from_words(candidates)))
    }
}
