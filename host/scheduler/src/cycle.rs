//! One scheduling cycle: synchronous, on pinned revisions, over a view that stands still.
//!
//! Filters are asked in the order of their seats, each about the nodes that are left; `ranking` then chooses among
//! those.

use capstan_points::scheduler::{
    Asks, Hypothesis, Narrowing, NodeId, Pod, PodId, Policy, Rejection, Step, Unplaced,
};
use capstan_points::{Bits, FailurePolicy, Fault, Seat};

use crate::dialogue::Dialogue;
use crate::ranking::{self, Ranking};
use crate::view::View;

/// What a cycle is about, beside the view and the policies.
pub(crate) struct Question<'a> {
    pub(crate) pod: &'a Pod,
    /// The node that the pod waits for.
    pub(crate) nominated: Option<NodeId>,
    /// Pods that it must leave room for.
    pub(crate) promises: &'a [Promise],
    /// Milliseconds since the Unix epoch.
    pub(crate) now_ms: u64,
}

/// A pod of at least the same priority that waits for a node.
pub(crate) struct Promise {
    pub(crate) node: NodeId,
    pub(crate) pod: Pod,
}

/// A rejection and who gave it.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) plugin: String,
    pub(crate) rejection: Rejection,
    /// It speaks of the pod, not of nodes one by one.
    pub(crate) of_pod: bool,
}

/// What a post-filter decided.
#[derive(Debug)]
pub(crate) enum Way {
    /// No policy knows a way. The text is for users, empty where none has anything to say.
    None { reason: String, clear: bool },
    Evict {
        plugin: String,
        node: NodeId,
        victims: Vec<PodId>,
    },
}

impl Way {
    /// What a post-filter has to say to users.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::None { reason, .. } => reason,
            Self::Evict { .. } => "",
        }
    }
}

/// What came of a cycle.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// On the node; and what was said of the others.
    Placed {
        node: NodeId,
        refusals: Vec<Refusal>,
        ranking: Ranking,
    },
    /// No node is feasible, and why, by plugin.
    Unschedulable {
        nodes: usize,
        refusals: Vec<Refusal>,
        way: Way,
    },
    /// A policy that must answer could not.
    Fault { plugin: String, fault: Fault },
}

/// A policy that must answer, and its fault.
pub(crate) struct Failed(pub(crate) String, pub(crate) Fault);

/// Finds the pod a node.
pub(crate) fn run(view: &View, seats: &[Seat<dyn Policy>], question: &Question<'_>) -> Outcome {
    match decide(view, seats, question) {
        Ok(outcome) => outcome,
        Err(Failed(plugin, fault)) => Outcome::Fault { plugin, fault },
    }
}

fn decide(view: &View, seats: &[Seat<dyn Policy>], question: &Question<'_>) -> Result<Outcome, Failed> {
    for seat in seats.iter().filter(|seat| !is_last_resort(seat)) {
        excuse(seat, view.level(&*seat.policy))?;
    }
    let mut cycle = Cycle {
        seats,
        pod: question.pod,
        promises: question.promises,
        sitting_out: Vec::new(),
        refusals: Vec::new(),
    };
    let narrowed = cycle.narrow(view.nodes().clone())?;
    if let Some(node) = question.nominated.filter(|node| narrowed.contains(*node)) {
        let only: Bits = [node].into_iter().collect();
        if !cycle.filter(only)?.is_empty() {
            return Ok(cycle.only(node));
        }
        // What was said of it is said again, with the other nodes.
        cycle.refusals.retain(|refusal| refusal.of_pod);
    }
    let left = cycle.filter(narrowed)?;
    if left.is_empty() {
        let way = cycle.find_way(view, question)?;
        return Ok(Outcome::Unschedulable {
            nodes: view.nodes().count(),
            refusals: cycle.refusals,
            way,
        });
    }
    let feasible: Vec<NodeId> = left.iter().collect();
    if let [only] = feasible[..] {
        return Ok(cycle.only(only));
    }
    let (node, ranking) = ranking::rank(seats, question.pod, &left, &feasible)?;
    Ok(Outcome::Placed {
        node,
        refusals: cycle.refusals,
        ranking,
    })
}

/// Whether the policy is asked only where no node is left: it is told the news then, many at once.
fn is_last_resort(seat: &Seat<dyn Policy>) -> bool {
    let last = Asks {
        view: true,
        post_filter: true,
        ..Asks::default()
    };
    seat.policy.asks() == last
}

struct Cycle<'a> {
    seats: &'a [Seat<dyn Policy>],
    pod: &'a Pod,
    promises: &'a [Promise],
    /// Positions of the seats whose filter has nothing to say this time.
    sitting_out: Vec<usize>,
    refusals: Vec<Refusal>,
}

impl<'a> Cycle<'a> {
    /// The one node that is asked about no score.
    fn only(self, node: NodeId) -> Outcome {
        Outcome::Placed {
            node,
            refusals: self.refusals,
            ranking: Ranking {
                feasible: 1,
                ..Ranking::default()
            },
        }
    }

    fn refuse(&mut self, seat: &Seat<dyn Policy>, rejection: Rejection, of_pod: bool) {
        self.refusals.push(Refusal {
            plugin: seat.plugin.clone(),
            rejection,
            of_pod,
        });
    }

    /// The nodes that are worth asking about.
    fn narrow(&mut self, mut left: Bits) -> Result<Bits, Failed> {
        for (position, seat) in self.seats.iter().enumerate() {
            if !seat.policy.asks().pre_filter {
                continue;
            }
            let narrowing = excuse(seat, seat.policy.pre_filter(self.pod))?;
            let out = |reason, nodes| Rejection {
                reason,
                resolvable: false,
                nodes,
            };
            match narrowing.unwrap_or(Narrowing::All) {
                Narrowing::All => {}
                Narrowing::Skip => self.sitting_out.push(position),
                Narrowing::Only(nodes, reason) => {
                    let mut others = left.clone();
                    others.subtract(&nodes);
                    left.intersect(&nodes);
                    if !others.is_empty() {
                        self.refuse(seat, out(reason, others), false);
                    }
                }
                Narrowing::Rejected(reason) => {
                    self.refuse(seat, out(reason, std::mem::take(&mut left)), true);
                    return Ok(left);
                }
            }
        }
        Ok(left)
    }

    fn filters(&self) -> impl Iterator<Item = &'a Seat<dyn Policy>> + use<'a> {
        let out = self.sitting_out.clone();
        let seats = self.seats.iter().enumerate();
        seats
            .filter(move |(position, seat)| seat.policy.asks().filter && !out.contains(position))
            .map(|(_, seat)| seat)
    }

    /// The nodes that all filters take, also with those pods that are promised a place there.
    fn filter(&mut self, mut left: Bits) -> Result<Bits, Failed> {
        for seat in self.filters() {
            if left.is_empty() {
                return Ok(left);
            }
            let rows = excuse(seat, seat.policy.filter(self.pod, &left))?.unwrap_or_default();
            for row in rows {
                left.subtract(&row.nodes);
                self.refuse(seat, row, false);
            }
        }
        if !self.promises.is_empty() {
            self.keep_promises(&mut left)?;
        }
        Ok(left)
    }

    fn keep_promises(&mut self, left: &mut Bits) -> Result<(), Failed> {
        let mut hypotheses: Vec<Hypothesis> = Vec::new();
        let mut others = Vec::new();
        for promise in self.promises.iter().filter(|promise| left.contains(promise.node)) {
            let at = others.len() as u32;
            others.push(promise.pod.clone());
            match hypotheses.iter_mut().find(|one| one.node == promise.node) {
                Some(one) => one.added.push(at),
                None => hypotheses.push(Hypothesis {
                    node: promise.node,
                    removed: Vec::new(),
                    added: vec![at],
                }),
            }
        }
        for seat in self.filters().filter(|seat| seat.policy.asks().what_if) {
            hypotheses.retain(|one| left.contains(one.node));
            if hypotheses.is_empty() {
                return Ok(());
            }
            let rows = excuse(seat, seat.policy.what_if(self.pod, &others, &hypotheses))?;
            for mut row in rows.unwrap_or_default() {
                row.nodes = row
                    .nodes
                    .iter()
                    .map(|number| hypotheses[number as usize].node)
                    .collect();
                left.subtract(&row.nodes);
                self.refuse(seat, row, false);
            }
        }
        Ok(())
    }

    /// Asks the post-filters, in order, until one knows a way.
    fn find_way(&self, view: &View, question: &Question<'_>) -> Result<Way, Failed> {
        let mut resolvable = view.nodes().clone();
        let permanent = self
            .refusals
            .iter()
            .filter(|refusal| !refusal.rejection.resolvable);
        permanent.for_each(|refusal| resolvable.subtract(&refusal.rejection.nodes));
        let unplaced = Unplaced {
            pod: self.pod,
            resolvable,
            nominated: question.nominated,
        };
        let (mut reasons, mut cleared) = (Vec::new(), false);
        for seat in self.seats.iter().filter(|seat| seat.policy.asks().post_filter) {
            if excuse(seat, view.level(&*seat.policy))?.is_none() {
                continue;
            }
            let mut dialogue = Dialogue::new(self.filters(), self.pod, self.promises, view.nodes());
            let Some(first) = excuse(seat, seat.policy.post_filter(&unplaced, question.now_ms))? else {
                continue;
            };
            match dialogue.hold(seat, first)? {
                Some(Step::Nominate { node, victims }) => {
                    return Ok(Way::Evict {
                        plugin: seat.plugin.clone(),
                        node,
                        victims,
                    });
                }
                Some(Step::GiveUp { reason, clear }) => {
                    cleared |= clear;
                    reasons.extend((!reason.is_empty()).then_some(reason));
                }
                Some(Step::Ask(_)) | None => {}
            }
        }
        Ok(Way::None {
            reason: reasons.join(" "),
            clear: cleared,
        })
    }
}

/// A fault of a seat whose failure policy is `Ignore` counts as no answer.
pub(crate) fn excuse<T>(seat: &Seat<dyn Policy>, answer: Result<T, Fault>) -> Result<Option<T>, Failed> {
    match (answer, seat.failure_policy) {
        (Ok(answer), _) => Ok(Some(answer)),
        (Err(fault), FailurePolicy::Ignore) => {
            tracing::warn!(plugin = seat.plugin, %fault, "policy ignored for this cycle");
            Ok(None)
        }
        (Err(fault), FailurePolicy::Fail) => Err(Failed(seat.plugin.clone(), fault)),
    }
}

#[cfg(test)]
mod tests;
