//! One scheduling cycle: synchronous, on pinned revisions, over a view that stands still.
//!
//! Filters are asked in the order of their seats, each about the nodes that are left; scores are summed by
//! weight; among the best a node is drawn at random, as the original does.

use capstan_points::scheduler::{
    Asks, Hypothesis, Narrowing, NodeId, Pod, PodId, Policy, Rejection, Step, Unplaced,
};
use capstan_points::{Bits, FailurePolicy, Fault, Seat};

use crate::dialogue::Dialogue;
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

/// What came of a cycle.
#[derive(Debug)]
pub(crate) enum Outcome {
    Placed(NodeId),
    /// No node is feasible, and why, by plugin.
    Unschedulable {
        nodes: usize,
        refusals: Vec<Refusal>,
        way: Way,
    },
    /// A policy that must answer could not.
    Fault {
        plugin: String,
        fault: Fault,
    },
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
            return Ok(Outcome::Placed(node));
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
        return Ok(Outcome::Placed(only));
    }
    let totals = cycle.score(&left, feasible.len())?;
    Ok(Outcome::Placed(best(&feasible, &totals)))
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

    /// The weighted sum of all columns.
    fn score(&self, left: &Bits, count: usize) -> Result<Vec<i64>, Failed> {
        let mut totals = vec![0i64; count];
        for seat in self.seats.iter().filter(|seat| seat.policy.asks().score) {
            let sits_out = seat.policy.asks().pre_score
                && excuse(seat, seat.policy.pre_score(self.pod, left))? != Some(true);
            if sits_out {
                continue;
            }
            let Some(column) = excuse(seat, seat.policy.score(self.pod, left))? else {
                continue;
            };
            for (total, score) in totals.iter_mut().zip(column) {
                *total += i64::from(score) * seat.policy.weight();
            }
        }
        Ok(totals)
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

/// One of the nodes with the highest total.
fn best(nodes: &[NodeId], totals: &[i64]) -> NodeId {
    let mut chosen = nodes[0];
    let (mut highest, mut equals) = (i64::MIN, 0);
    for (&node, &total) in nodes.iter().zip(totals) {
        if total > highest {
            (highest, equals, chosen) = (total, 1, node);
        } else if total == highest {
            equals += 1;
            if fastrand::usize(..equals) == 0 {
                chosen = node;
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_points::Bits;
    use capstan_points::FaultKind;
    use capstan_points::scheduler::{Delta, Epoch};
    use std::sync::Arc;

    type Filter = fn(&Bits) -> Result<Vec<Rejection>, Fault>;

    #[derive(Default)]
    struct Scripted {
        narrows: Option<fn() -> Narrowing>,
        filter: Option<Filter>,
        /// Takes a node only without this many pods or fewer thought away.
        needs_gone: Option<usize>,
        score: Option<fn(u32) -> i32>,
        silent: bool,
        preempts: bool,
        weight: i64,
    }

    impl Policy for Scripted {
        fn asks(&self) -> Asks {
            Asks {
                pre_filter: self.narrows.is_some(),
                filter: self.filter.is_some(),
                what_if: self.needs_gone.is_some(),
                post_filter: self.preempts,
                pre_score: self.silent,
                score: self.score.is_some(),
                ..Asks::default()
            }
        }
        fn weight(&self) -> i64 {
            self.weight
        }
        fn profiles(&self) -> &[String] {
            &[]
        }
        fn epoch(&self) -> Epoch {
            0
        }
        fn apply(&self, _: Epoch, _: bool, _: &[Delta]) -> Result<(), Fault> {
            Ok(())
        }
        fn pre_filter(&self, _: &Pod) -> Result<Narrowing, Fault> {
            Ok(self.narrows.map_or(Narrowing::All, |narrows| narrows()))
        }
        fn what_if(&self, _: &Pod, _: &[Pod], asked: &[Hypothesis]) -> Result<Vec<Rejection>, Fault> {
            let gone = |one: &Hypothesis| one.removed.len() as i64 - one.added.len() as i64;
            let fits = |one: &Hypothesis| gone(one) >= self.needs_gone.unwrap_or(0) as i64;
            let out = (0..).zip(asked).filter(|(_, one)| !fits(one));
            Ok(vec![Rejection {
                reason: "full".into(),
                resolvable: true,
                nodes: out.map(|(number, _)| number).collect(),
            }])
        }
        fn post_filter(&self, unplaced: &Unplaced<'_>, _: u64) -> Result<Step, Fault> {
            let thought = unplaced.resolvable.iter().map(|node| Hypothesis {
                node,
                removed: (0..node).collect(),
                added: Vec::new(),
            });
            Ok(Step::Ask(thought.collect()))
        }
        fn proceed(&self, feasible: &Bits) -> Result<Step, Fault> {
            Ok(match feasible.iter().next() {
                Some(first) => Step::Nominate {
                    node: first,
                    victims: vec![first],
                },
                None => Step::GiveUp {
                    reason: "nobody to evict".into(),
                    clear: true,
                },
            })
        }
        fn pre_score(&self, _: &Pod, _: &Bits) -> Result<bool, Fault> {
            Ok(!self.silent)
        }
        fn filter(&self, _: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
            self.filter.map_or(Ok(Vec::new()), |filter| filter(candidates))
        }
        fn score(&self, _: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
            Ok(candidates.iter().map(self.score.unwrap_or(|_| 0)).collect())
        }
    }

    fn seat(name: &str, failure_policy: FailurePolicy, policy: Scripted) -> Seat<dyn Policy> {
        Seat {
            plugin: name.into(),
            revision: 1,
            failure_policy,
            policy: Arc::new(policy),
        }
    }

    fn view(nodes: u32) -> View {
        let mut view = View::default();
        for n in 0..nodes {
            let object = serde_json::json!({ "metadata": { "name": format!("n{n}") } });
            view.upsert_node(&serde_json::from_value(object).unwrap());
        }
        view
    }

    fn attempt(view: &View, seats: &[Seat<dyn Policy>]) -> Outcome {
        attempt_with(view, seats, None, &[])
    }

    fn attempt_with(
        view: &View,
        seats: &[Seat<dyn Policy>],
        nominated: Option<NodeId>,
        promises: &[Promise],
    ) -> Outcome {
        let question = Question {
            pod: &Pod::default(),
            nominated,
            promises,
            now_ms: 0,
        };
        run(view, seats, &question)
    }

    fn rejecting_below_two(candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let nodes = candidates.iter().filter(|&n| n < 2).collect();
        Ok(vec![Rejection {
            reason: "too small".into(),
            resolvable: true,
            nodes,
        }])
    }

    fn broken(_: &Bits) -> Result<Vec<Rejection>, Fault> {
        Err(Fault::new(FaultKind::Trap, "unreachable"))
    }

    #[test]
    fn the_highest_weighted_sum_among_the_feasible_wins() {
        let seats = [
            seat(
                "size",
                FailurePolicy::Fail,
                Scripted {
                    filter: Some(rejecting_below_two),
                    score: None,
                    weight: 1,
                    ..Scripted::default()
                },
            ),
            seat(
                "low",
                FailurePolicy::Fail,
                Scripted {
                    filter: None,
                    score: Some(|n| 100 - n as i32),
                    weight: 1,
                    ..Scripted::default()
                },
            ),
            seat(
                "four",
                FailurePolicy::Fail,
                Scripted {
                    filter: None,
                    score: Some(|n| (n == 4) as i32),
                    weight: 5,
                    ..Scripted::default()
                },
            ),
        ];
        let outcome = attempt(&view(6), &seats);
        assert!(matches!(outcome, Outcome::Placed(4)), "{outcome:?}");
    }

    #[test]
    fn every_rejection_is_kept_by_plugin() {
        let seats = [seat(
            "size",
            FailurePolicy::Fail,
            Scripted {
                filter: Some(rejecting_below_two),
                score: None,
                weight: 1,
                ..Scripted::default()
            },
        )];
        let Outcome::Unschedulable { nodes, refusals, .. } = attempt(&view(2), &seats) else {
            panic!("placed")
        };
        assert_eq!(
            (
                nodes,
                refusals[0].plugin.as_str(),
                refusals[0].rejection.nodes.count()
            ),
            (2, "size", 2)
        );
    }

    #[test]
    fn a_fault_is_never_a_verdict() {
        let fails = |policy| {
            let seats = [seat(
                "bad",
                policy,
                Scripted {
                    filter: Some(broken),
                    score: None,
                    weight: 1,
                    ..Scripted::default()
                },
            )];
            attempt(&view(1), &seats)
        };
        assert!(matches!(fails(FailurePolicy::Fail), Outcome::Fault { .. }));
        assert!(matches!(fails(FailurePolicy::Ignore), Outcome::Placed(0)));
    }

    fn rejecting_all(candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        Ok(vec![Rejection {
            reason: "full".into(),
            resolvable: true,
            nodes: candidates.clone(),
        }])
    }

    fn taking_all(_: &Bits) -> Result<Vec<Rejection>, Fault> {
        Ok(Vec::new())
    }

    #[test]
    fn a_policy_may_narrow_sit_out_or_rule_out_everything() {
        let with = |narrows: fn() -> Narrowing| {
            let policy = Scripted {
                narrows: Some(narrows),
                filter: Some(rejecting_all),
                weight: 1,
                ..Scripted::default()
            };
            attempt(&view(3), &[seat("narrows", FailurePolicy::Fail, policy)])
        };
        assert!(
            matches!(with(|| Narrowing::Skip), Outcome::Placed(_)),
            "it is not asked"
        );
        let refusals = |outcome| match outcome {
            Outcome::Unschedulable { refusals, .. } => refusals,
            other => panic!("{other:?}"),
        };
        let only = refusals(with(|| {
            Narrowing::Only([1].into_iter().collect(), "elsewhere".into())
        }));
        let nodes: Vec<Vec<u32>> = only
            .iter()
            .map(|one| one.rejection.nodes.iter().collect())
            .collect();
        assert_eq!(nodes, [vec![0, 2], vec![1]]);
        let none = refusals(with(|| Narrowing::Rejected("no claim".into())));
        assert!(
            none.len() == 1 && none[0].of_pod && !none[0].rejection.resolvable,
            "{none:?}"
        );
    }

    #[test]
    fn a_score_that_sits_out_counts_for_nothing() {
        let policy = Scripted {
            score: Some(|node| (node == 2) as i32),
            silent: true,
            weight: 1,
            ..Scripted::default()
        };
        let other = Scripted {
            score: Some(|node| (node == 1) as i32),
            weight: 1,
            ..Scripted::default()
        };
        let seats = [
            seat("silent", FailurePolicy::Fail, policy),
            seat("other", FailurePolicy::Fail, other),
        ];
        assert!(matches!(attempt(&view(3), &seats), Outcome::Placed(1)));
    }

    #[test]
    fn the_nominated_node_is_tried_first_and_promises_to_others_are_kept() {
        let roomy = |needs_gone| {
            let policy = Scripted {
                filter: Some(taking_all),
                needs_gone: Some(needs_gone),
                weight: 1,
                ..Scripted::default()
            };
            [seat("room", FailurePolicy::Fail, policy)]
        };
        let outcome = attempt_with(&view(3), &roomy(0), Some(2), &[]);
        assert!(matches!(outcome, Outcome::Placed(2)), "{outcome:?}");
        let promises = [0, 2].map(|node| Promise {
            node,
            pod: Pod::default(),
        });
        let outcome = attempt_with(&view(3), &roomy(0), None, &promises);
        assert!(matches!(outcome, Outcome::Placed(1)), "{outcome:?}");
    }

    #[test]
    fn a_post_filter_hears_from_all_filters_what_would_be() {
        let full = |needs_gone| Scripted {
            filter: Some(rejecting_all),
            needs_gone: Some(needs_gone),
            weight: 1,
            ..Scripted::default()
        };
        let preempts = || Scripted {
            preempts: true,
            ..Scripted::default()
        };
        let steady = Scripted {
            filter: Some(rejecting_below_two),
            weight: 1,
            ..Scripted::default()
        };
        // Node n can lose n pods; nodes below two are out whatever happens; two pods must go.
        let seats = [
            seat("full", FailurePolicy::Fail, full(2)),
            seat("steady", FailurePolicy::Fail, steady),
            seat("preempts", FailurePolicy::Fail, preempts()),
        ];
        let Outcome::Unschedulable { way, .. } = attempt(&view(4), &seats) else {
            panic!("placed")
        };
        assert!(matches!(&way, Way::Evict { node: 2, .. }), "{way:?}");
        let seats = [
            seat("full", FailurePolicy::Fail, full(9)),
            seat("preempts", FailurePolicy::Fail, preempts()),
        ];
        let Outcome::Unschedulable { way, .. } = attempt(&view(4), &seats) else {
            panic!("placed")
        };
        assert!(
            matches!(&way, Way::None { reason, clear: true } if reason == "nobody to evict"),
            "{way:?}"
        );
    }
}
