//! One scheduling cycle: synchronous, on pinned revisions, over a view that stands still.
//!
//! Filters are asked in the order of their seats, each about the nodes that are left; scores are summed by
//! weight; among the best a node is drawn at random, as the original does.

use capstan_points::scheduler::{NodeId, Pod, Policy, Rejection};
use capstan_points::{FailurePolicy, Fault, Seat};

use crate::view::View;

/// What came of a cycle.
#[derive(Debug)]
pub(crate) enum Outcome {
    Placed(NodeId),
    /// No node is feasible, and why, by plugin.
    Unschedulable {
        nodes: usize,
        rejections: Vec<(String, Rejection)>,
    },
    /// A policy that must answer could not.
    Fault {
        plugin: String,
        fault: Fault,
    },
}

struct Failed(String, Fault);

/// Finds the pod a node.
pub(crate) fn run(view: &View, seats: &[Seat<dyn Policy>], pod: &Pod) -> Outcome {
    match decide(view, seats, pod) {
        Ok(outcome) => outcome,
        Err(Failed(plugin, fault)) => Outcome::Fault { plugin, fault },
    }
}

fn decide(view: &View, seats: &[Seat<dyn Policy>], pod: &Pod) -> Result<Outcome, Failed> {
    for seat in seats {
        excuse(seat, view.level(&*seat.policy))?;
    }
    let mut left = view.nodes().clone();
    let mut rejections = Vec::new();
    for seat in seats.iter().filter(|seat| seat.policy.asks().filter) {
        if left.is_empty() {
            break;
        }
        let rows = excuse(seat, seat.policy.filter(pod, &left))?.unwrap_or_default();
        for row in &rows {
            left.subtract(&row.nodes);
        }
        rejections.extend(rows.into_iter().map(|row| (seat.plugin.clone(), row)));
    }
    if left.is_empty() {
        return Ok(Outcome::Unschedulable {
            nodes: view.nodes().count(),
            rejections,
        });
    }
    let feasible: Vec<NodeId> = left.iter().collect();
    if let [only] = feasible[..] {
        return Ok(Outcome::Placed(only));
    }
    let mut totals = vec![0i64; feasible.len()];
    for seat in seats.iter().filter(|seat| seat.policy.asks().score) {
        let Some(column) = excuse(seat, seat.policy.score(pod, &left))? else {
            continue;
        };
        for (total, score) in totals.iter_mut().zip(column) {
            *total += i64::from(score) * seat.policy.weight();
        }
    }
    Ok(Outcome::Placed(best(&feasible, &totals)))
}

/// A fault of a seat whose failure policy is `Ignore` counts as no answer.
fn excuse<T>(seat: &Seat<dyn Policy>, answer: Result<T, Fault>) -> Result<Option<T>, Failed> {
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
    use capstan_points::scheduler::{Asks, Delta, Epoch, Readiness};
    use std::sync::Arc;

    type Filter = fn(&Bits) -> Result<Vec<Rejection>, Fault>;

    struct Scripted {
        filter: Option<Filter>,
        score: Option<fn(u32) -> i32>,
        weight: i64,
    }

    impl Policy for Scripted {
        fn asks(&self) -> Asks {
            Asks {
                filter: self.filter.is_some(),
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
        fn enqueue(&self, _: &Pod) -> Result<Readiness, Fault> {
            Ok(Readiness::Ready)
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
                },
            ),
            seat(
                "low",
                FailurePolicy::Fail,
                Scripted {
                    filter: None,
                    score: Some(|n| 100 - n as i32),
                    weight: 1,
                },
            ),
            seat(
                "four",
                FailurePolicy::Fail,
                Scripted {
                    filter: None,
                    score: Some(|n| (n == 4) as i32),
                    weight: 5,
                },
            ),
        ];
        let outcome = run(&view(6), &seats, &Pod::default());
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
            },
        )];
        let Outcome::Unschedulable { nodes, rejections } = run(&view(2), &seats, &Pod::default()) else {
            panic!("placed")
        };
        assert_eq!(
            (nodes, rejections[0].0.as_str(), rejections[0].1.nodes.count()),
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
                },
            )];
            run(&view(1), &seats, &Pod::default())
        };
        assert!(matches!(fails(FailurePolicy::Fail), Outcome::Fault { .. }));
        assert!(matches!(fails(FailurePolicy::Ignore), Outcome::Placed(0)));
    }
}
