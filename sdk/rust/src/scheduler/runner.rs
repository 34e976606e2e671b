//! The loops around a policy: what a component's exports call, and native tests and benches too.

use super::{
    Change, Cluster, Delta, Filter, NodeSet, Pod, Policy, Row, Score, cluster::Rules, normalize::SCORE_MAX,
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
        }
    }

    /// The tables.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Takes news in order; with `reset`, from nothing.
    pub fn apply(&mut self, reset: bool, deltas: Vec<Delta>) -> Result<(), Fault> {
        let Self { policy, cluster } = self;
        if reset {
            *cluster = Cluster::default();
            policy.on_change(cluster, Change::Reset);
        }
        let rules = Rules {
            pods: P::PODS,
            trim: P::trim,
        };
        for delta in deltas {
            cluster.apply(delta, rules, &mut |cluster, change| {
                policy.on_change(cluster, change)
            })?;
        }
        Ok(())
    }
}

impl<P: Filter> Runner<P> {
    /// Which candidates cannot take the pod, a row for each reason.
    pub fn filter(&mut self, pod: &Pod, candidates: &NodeSet) -> Result<Vec<Row>, Fault> {
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
}

impl<P: Score> Runner<P> {
    /// One score for each candidate, 0 to 100, ascending by node number.
    pub fn score(&mut self, pod: &Pod, candidates: &NodeSet) -> Result<Vec<i32>, Fault> {
        let Some(prepared) = self.policy.prepare_score(&self.cluster, pod, candidates) else {
            return Ok(vec![0; candidates.len()]);
        };
        let mut scores = Vec::with_capacity(candidates.len());
        for id in candidates.iter() {
            let node = self.cluster.node(id).ok_or_else(|| unknown(id))?;
            scores.push(self.policy.score(&self.cluster, &prepared, pod, node));
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
