//! The cycle with policies that say what a test has them say.

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
    assert!(matches!(outcome, Outcome::Placed { node: 4, .. }), "{outcome:?}");
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
    assert!(matches!(
        fails(FailurePolicy::Ignore),
        Outcome::Placed { node: 0, .. }
    ));
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
        matches!(with(|| Narrowing::Skip), Outcome::Placed { .. }),
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
    assert!(matches!(
        attempt(&view(3), &seats),
        Outcome::Placed { node: 1, .. }
    ));
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
    assert!(matches!(outcome, Outcome::Placed { node: 2, .. }), "{outcome:?}");
    let promises = [0, 2].map(|node| Promise {
        node,
        pod: Pod::default(),
    });
    let outcome = attempt_with(&view(3), &roomy(0), None, &promises);
    assert!(matches!(outcome, Outcome::Placed { node: 1, .. }), "{outcome:?}");
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
