//! What if pods were gone from a node, or more were on it: the tables are changed, asked, and changed back.
//!
//! Invariant: after a question the tables, and the counts that policies keep by `on_change`, are as before, also
//! when it ended in a fault. Filters that judge a node by itself are asked about all hypotheses at once.

use super::{
    AssignedPod, Filter, Hypothesis, NodeId, Pod, PodId, Row, Runner, WhatIf, cluster::Rules, verdict::Rows,
};
use crate::{Fault, plugin::Component, wit::scheduler_what_if::exports::capstan::scheduler::what_if};

/// What was changed for a hypothesis.
#[derive(Default)]
struct Supposed {
    removed: Vec<AssignedPod>,
    added: Vec<PodId>,
}

impl<P: Filter> Runner<P> {
    /// Which hypotheses, by their number, leave their node unable to take the pod, a row for each reason.
    pub fn what_if(
        &mut self,
        pod: &Pod,
        others: &[Pod],
        hypotheses: &[Hypothesis],
    ) -> Result<Vec<Row>, Fault> {
        let mut rows = Rows::default();
        if P::NODE_LOCAL && are_distinct(hypotheses) {
            self.judge(pod, others, hypotheses, 0, &mut rows)?;
        } else {
            for (number, one) in (0..).zip(hypotheses) {
                self.judge(pod, others, std::slice::from_ref(one), number, &mut rows)?;
            }
        }
        Ok(rows.into_answer(&self.cluster))
    }

    /// Judges hypotheses that do not touch one another, the first of which has the number `first`.
    fn judge(
        &mut self,
        pod: &Pod,
        others: &[Pod],
        hypotheses: &[Hypothesis],
        first: u32,
        rows: &mut Rows,
    ) -> Result<(), Fault> {
        let mut supposed = Vec::with_capacity(hypotheses.len());
        let mut changed = Ok(());
        for one in hypotheses {
            supposed.push(Supposed::default());
            let done = supposed.last_mut().map(|done| self.suppose(one, others, done));
            changed = done.unwrap_or(Ok(()));
            if changed.is_err() {
                break;
            }
        }
        let judged = changed.and_then(|()| self.ask(pod, hypotheses, first, rows));
        supposed.into_iter().rev().for_each(|done| self.undo(done));
        judged
    }

    fn ask(
        &mut self,
        pod: &Pod,
        hypotheses: &[Hypothesis],
        first: u32,
        rows: &mut Rows,
    ) -> Result<(), Fault> {
        let Some(prepared) = self.policy.prepare_filter(&self.cluster, pod) else {
            return Ok(());
        };
        for (number, one) in (first..).zip(hypotheses) {
            let node = self.cluster.node(one.node).ok_or_else(|| unknown(one.node))?;
            if let Err(rejection) = self.policy.filter(&self.cluster, &prepared, pod, node) {
                rows.add(number, &rejection);
            }
        }
        Ok(())
    }

    fn suppose(&mut self, one: &Hypothesis, others: &[Pod], done: &mut Supposed) -> Result<(), Fault> {
        let Self { policy, cluster, .. } = self;
        let observe = &mut |cluster: &_, change: super::Change<'_>| policy.on_change(cluster, change);
        for &id in &one.removed {
            if cluster.pod(id).is_some_and(|pod| pod.node == one.node) {
                done.removed.extend(cluster.take_pod(id, observe));
            }
        }
        for &position in &one.added {
            let Some(pod) = others.get(position as usize) else {
                return Err(Fault::permanent(format!("there is no other pod {position}")));
            };
            let id = cluster.free_pod_id();
            done.added.push(id);
            let assigned = AssignedPod {
                id,
                node: one.node,
                pod: pod.clone(),
            };
            cluster.upsert_pod(assigned, rules::<P>().trim, observe)?;
        }
        Ok(())
    }

    fn undo(&mut self, done: Supposed) {
        let Self { policy, cluster, .. } = self;
        let observe = &mut |cluster: &_, change: super::Change<'_>| policy.on_change(cluster, change);
        for id in done.added.into_iter().rev() {
            cluster.take_pod(id, observe);
        }
        for pod in done.removed.into_iter().rev() {
            // It was there a moment ago, so its numbers and resources are within bounds.
            let _ = cluster.upsert_pod(pod, rules::<P>().trim, observe);
        }
    }
}

fn rules<P: super::Policy>() -> Rules {
    Rules {
        pods: P::PODS,
        trim: P::trim,
    }
}

fn are_distinct(hypotheses: &[Hypothesis]) -> bool {
    let mut nodes: Vec<NodeId> = hypotheses.iter().map(|one| one.node).collect();
    nodes.sort_unstable();
    nodes.windows(2).all(|pair| pair[0] != pair[1])
}

fn unknown(node: NodeId) -> Fault {
    Fault::retry(format!("the hypothesis' node number {node} is not known"))
}

impl<C, P: WhatIf> what_if::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn filter(pod: Pod, others: Vec<Pod>, hypotheses: Vec<Hypothesis>) -> Result<Vec<Row>, Fault> {
        C::call(|runner| runner.what_if(&pod, &others, &hypotheses))
    }
}
