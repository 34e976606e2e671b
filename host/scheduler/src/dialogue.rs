//! The dialogue with a post-filter: it asks what would be if pods were gone, all filters of the profile answer.
//!
//! Filters without `what-if` judge alike whatever pods there are, so each is asked once for each node. Pods that
//! are nominated to a node are thought onto it, as in the original; a node must do with them and without.

use capstan_points::scheduler::{Hypothesis, Pod, Policy, Step};
use capstan_points::{Bits, Fault, FaultKind, Seat};

use crate::cycle::{Failed, Promise, excuse};

/// Questions of one dialogue.
const ROUNDS_MAX: usize = 1_024;

/// A filter whose answer for a node does not change within a dialogue.
#[derive(Default)]
struct Steady {
    known: Bits,
    rejected: Bits,
}

pub(crate) struct Dialogue<'a> {
    filters: Vec<(&'a Seat<dyn Policy>, Steady)>,
    pod: &'a Pod,
    promises: &'a [Promise],
    nodes: &'a Bits,
}

impl<'a> Dialogue<'a> {
    /// A dialogue about the pod with these filters, those that sat the cycle out left aside.
    pub(crate) fn new(
        filters: impl Iterator<Item = &'a Seat<dyn Policy>>,
        pod: &'a Pod,
        promises: &'a [Promise],
        nodes: &'a Bits,
    ) -> Self {
        Self {
            filters: filters.map(|seat| (seat, Steady::default())).collect(),
            pod,
            promises,
            nodes,
        }
    }

    /// Answers the policy until it has made up its mind.
    pub(crate) fn hold(&mut self, seat: &Seat<dyn Policy>, first: Step) -> Result<Option<Step>, Failed> {
        let mut step = first;
        for _ in 0..ROUNDS_MAX {
            let Step::Ask(hypotheses) = step else {
                return Ok(Some(step));
            };
            let feasible = self.feasible(&hypotheses)?;
            match excuse(seat, seat.policy.proceed(&feasible))? {
                Some(next) => step = next,
                None => return Ok(None),
            }
        }
        let message = format!("post-filter asked more than {ROUNDS_MAX} times");
        excuse(seat, Err(Fault::new(FaultKind::Garbage, message)))
    }

    /// Which hypotheses leave a node that can take the pod.
    fn feasible(&mut self, hypotheses: &[Hypothesis]) -> Result<Bits, Failed> {
        let mut left: Vec<usize> = (0..hypotheses.len())
            .filter(|&number| self.nodes.contains(hypotheses[number].node))
            .collect();
        for (seat, steady) in self
            .filters
            .iter_mut()
            .filter(|(seat, _)| !seat.policy.asks().what_if)
        {
            let nodes = left.iter().map(|&number| hypotheses[number].node);
            let unknown: Bits = nodes.filter(|node| !steady.known.contains(*node)).collect();
            if !unknown.is_empty() {
                let rows = excuse(seat, seat.policy.filter(self.pod, &unknown))?.unwrap_or_default();
                rows.iter().for_each(|row| steady.rejected.unite(&row.nodes));
                steady.known.unite(&unknown);
            }
            left.retain(|&number| !steady.rejected.contains(hypotheses[number].node));
        }
        for (seat, _) in self.filters.iter().filter(|(seat, _)| seat.policy.asks().what_if) {
            let plain: Vec<Hypothesis> = left.iter().map(|&number| hypotheses[number].clone()).collect();
            ask(seat, self.pod, &[], &plain, &mut left)?;
            let (promised, others) = with_promises(self.promises, &left, hypotheses);
            if !others.is_empty() {
                ask(seat, self.pod, &others, &promised, &mut left)?;
            }
        }
        Ok(left.into_iter().map(|number| number as u32).collect())
    }
}

/// Takes the numbers out of `left` whose hypothesis, at the same position, the filter does not take.
fn ask(
    seat: &Seat<dyn Policy>,
    pod: &Pod,
    others: &[Pod],
    hypotheses: &[Hypothesis],
    left: &mut Vec<usize>,
) -> Result<(), Failed> {
    if hypotheses.is_empty() {
        return Ok(());
    }
    let rows = excuse(seat, seat.policy.what_if(pod, others, hypotheses))?.unwrap_or_default();
    let mut position = 0;
    left.retain(|_| {
        position += 1;
        !rows.iter().any(|row| row.nodes.contains(position - 1))
    });
    Ok(())
}

/// The hypotheses with the nominated pods of their nodes thought onto them, and those pods.
fn with_promises(
    promises: &[Promise],
    left: &[usize],
    hypotheses: &[Hypothesis],
) -> (Vec<Hypothesis>, Vec<Pod>) {
    let mut others = Vec::new();
    let promised = left.iter().map(|&number| {
        let mut one = hypotheses[number].clone();
        for promise in promises.iter().filter(|promise| promise.node == one.node) {
            one.added.push(others.len() as u32);
            others.push(promise.pod.clone());
        }
        one
    });
    (promised.collect(), others)
}
