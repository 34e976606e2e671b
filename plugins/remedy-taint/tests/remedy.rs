//! When the remedy acts, when it lifts, and what it leaves alone.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, Plugin,
    remedy::{Action, Case, Condition, ConditionStatus, NodeFacts, PastAction, Remedy, Taint, TaintEffect},
};
use remedy_taint::TaintRemedy;

const RULES: &str = r#"{"rules": [
    {"condition": "KernelDeadlock", "after": "1s", "liftAfter": "5s",
     "action": {"taint": {"key": "sick", "value": "yes", "effect": "NoSchedule"}}},
    {"condition": "RuntimeUnhealthy", "action": "cordon"}
]}"#;

fn taint(value: &str) -> Taint {
    Taint {
        key: "sick".into(),
        value: value.into(),
        effect: TaintEffect::NoSchedule,
    }
}

fn case(conditions: &[(&str, bool, u64)], now_ms: u64) -> Case {
    let condition = |(name, set, since_ms): &(&str, bool, u64)| Condition {
        type_name: (*name).into(),
        status: if *set {
            ConditionStatus::Yes
        } else {
            ConditionStatus::No
        },
        reason: "R".into(),
        message: "m".into(),
        since_ms: *since_ms,
    };
    Case {
        node: NodeFacts {
            name: "n".into(),
            labels: vec![],
            unschedulable: false,
            taints: vec![],
        },
        conditions: conditions.iter().map(condition).collect(),
        history: vec![],
        budget: 1,
        now_ms,
    }
}

fn past(action: Action, at_ms: u64, succeeded: bool) -> PastAction {
    PastAction {
        action,
        at_ms,
        succeeded,
    }
}

fn decide(case: &Case) -> Vec<Action> {
    let remedy = TaintRemedy::new(Config::read(RULES).unwrap()).unwrap();
    remedy
        .decide(case)
        .unwrap()
        .into_iter()
        .map(|decision| decision.action)
        .collect()
}

#[test]
fn a_condition_is_acted_upon_after_its_time_and_within_the_budget() {
    let (early, due) = (
        case(&[("KernelDeadlock", true, 1000)], 1999),
        case(&[("KernelDeadlock", true, 1000)], 2000),
    );
    assert_eq!(decide(&early), []);
    assert_eq!(decide(&due), [Action::Taint(taint("yes"))]);
    assert_eq!(
        decide(&Case {
            budget: 0,
            ..due.clone()
        }),
        []
    );
    let mut done = due.clone();
    done.node.taints = vec![taint("yes")];
    assert_eq!(decide(&done), []);
    let failed = Case {
        history: vec![past(Action::Taint(taint("yes")), 1995, false)],
        ..due
    };
    assert_eq!(decide(&failed), []);
    assert_eq!(
        decide(&Case {
            now_ms: 20_000,
            ..failed
        }),
        [Action::Taint(taint("yes"))]
    );
    assert_eq!(
        decide(&case(&[("RuntimeUnhealthy", true, 0)], 0)),
        [Action::Cordon]
    );
}

#[test]
fn its_own_action_is_lifted_and_no_other() {
    let mut over = case(
        &[("KernelDeadlock", false, 10_000), ("RuntimeUnhealthy", false, 0)],
        15_000,
    );
    over.node.taints = vec![taint("yes")];
    over.node.unschedulable = true;
    assert_eq!(decide(&over), [], "somebody else's");
    over.history = vec![past(Action::Taint(taint("yes")), 5_000, true)];
    assert_eq!(decide(&over), [Action::Untaint(taint("yes"))]);
    assert_eq!(
        decide(&Case {
            now_ms: 14_999,
            ..over.clone()
        }),
        [],
        "not before liftAfter"
    );
    let mut changed = over.clone();
    changed.node.taints = vec![taint("by hand")];
    assert_eq!(decide(&changed), []);
    over.history
        .push(past(Action::Untaint(taint("yes")), 6_000, true));
    assert_eq!(decide(&over), [], "lifted before, so this one is somebody else's");
}

#[test]
fn what_no_rule_asks_for_any_more_is_lifted() {
    let mut orphan = case(&[], 0);
    orphan.node.unschedulable = true;
    orphan.history = vec![past(Action::Cordon, 0, true)];
    assert_eq!(
        TaintRemedy::new(Config::read("{}").unwrap())
            .unwrap()
            .decide(&orphan)
            .unwrap()[0]
            .action,
        Action::Uncordon
    );
}

#[test]
fn a_drain_is_a_cordon_then_one_eviction_and_an_uncordon() {
    let rules = r#"{"rules": [{"condition": "GpuFailed", "action": "drain"}]}"#;
    let remedy = TaintRemedy::new(Config::read(rules).unwrap()).unwrap();
    let decide = |case: &Case| -> Vec<Action> {
        let decisions = remedy.decide(case).unwrap();
        decisions.into_iter().map(|decision| decision.action).collect()
    };
    let mut case = case(&[("GpuFailed", true, 1_000)], 2_000);
    assert_eq!(decide(&case), [Action::Cordon]);
    assert_eq!(
        decide(&Case {
            budget: 0,
            ..case.clone()
        }),
        [],
        "no budget, no drain"
    );
    case.node.unschedulable = true;
    case.history.push(past(Action::Cordon, 2_000, true));
    assert_eq!(decide(&case), [Action::Drain]);
    case.history.push(past(Action::Drain, 2_100, false));
    assert_eq!(decide(&case), [], "not at once again");
    case.now_ms = 12_100;
    assert_eq!(decide(&case), [Action::Drain]);
    case.history.push(past(Action::Drain, 12_100, true));
    case.now_ms = 60_000;
    assert_eq!(decide(&case), [], "once");
    case.conditions[0].since_ms = 50_000;
    assert_eq!(decide(&case), [Action::Drain], "the condition came back");
    case.conditions[0].status = ConditionStatus::No;
    assert_eq!(decide(&case), [Action::Uncordon]);
}
