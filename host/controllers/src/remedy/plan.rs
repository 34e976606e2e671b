//! What a remedy is told about a node, and which of its decisions are carried out. Pure.
//!
//! Invariants: nothing is done that is done already; no more nodes are put out of service than the budget
//! allows; a remedy that cannot make up its mind is slowed down. Undoing is always within the budget.

use capstan_points::remedy::{Action, Case, Condition, ConditionStatus, Decision, NodeFacts, Taint};
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

use super::history::{History, effect_name, effect_of, takes_out};

/// Actions of one plugin on one node within [`WINDOW_MS`].
const ACTIONS_IN_WINDOW_MAX: usize = 10;
const WINDOW_MS: u64 = 60_000;

/// Pause before the same action is tried again on the same node.
const SAME_ACTION_PAUSE_MS: u64 = 5_000;

/// What becomes of one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Act,
    /// It is so already.
    AlreadySo,
    /// It was just tried.
    TooSoon,
    TooOften,
    OverBudget,
}

/// All that the remedy may weigh.
pub(crate) fn case(node: &Node, history: &History, budget: u32, now_ms: u64) -> Case {
    let spec = node.spec.as_ref();
    let taints = spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter_map(|taint| {
            Some(Taint {
                key: taint.key.clone(),
                value: taint.value.clone().unwrap_or_default(),
                effect: effect_of(&taint.effect)?,
            })
        });
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let conditions = conditions.map(|condition| Condition {
        type_name: condition.type_.clone(),
        status: match condition.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        },
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
        since_ms: condition
            .last_transition_time
            .as_ref()
            .map_or(0, |time| milliseconds(time.0)),
    });
    Case {
        node: NodeFacts {
            name: node.name_any(),
            labels: node
                .labels()
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
            taints: taints.collect(),
        },
        conditions: conditions.collect(),
        history: history.to_vec(),
        budget,
        now_ms,
    }
}

pub(crate) fn milliseconds(time: jiff::Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// Judges one decision. `drainable`: whether pods are left that a drain would ask to go.
pub(crate) fn judge(case: &Case, history: &History, decision: &Decision, drainable: bool) -> Verdict {
    let facts = &case.node;
    let has = |wanted: &Taint, with_value: bool| {
        facts.taints.iter().any(|taint| {
            taint.key == wanted.key
                && taint.effect == wanted.effect
                && (!with_value || taint.value == wanted.value)
        })
    };
    let so = match &decision.action {
        Action::Cordon => facts.unschedulable,
        Action::Uncordon => !facts.unschedulable,
        Action::Taint(taint) => has(taint, true),
        Action::Untaint(taint) => !has(taint, false),
        Action::Drain => !drainable,
    };
    if so {
        return Verdict::AlreadySo;
    }
    if takes_out(&decision.action) && case.budget == 0 && !history.is_out_of_service() {
        return Verdict::OverBudget;
    }
    let recently = |at_ms: u64| at_ms + SAME_ACTION_PAUSE_MS > case.now_ms;
    if history.last(&decision.action).is_some_and(recently) {
        return Verdict::TooSoon;
    }
    if history.count_since(case.now_ms.saturating_sub(WINDOW_MS)) >= ACTIONS_IN_WINDOW_MAX {
        return Verdict::TooOften;
    }
    Verdict::Act
}

/// The action in a few words, for an event.
pub(crate) fn words(action: &Action) -> (&'static str, String) {
    let taint = |taint: &Taint| match taint.value.as_str() {
        "" => format!("{}:{}", taint.key, effect_name(taint.effect)),
        value => format!("{}={value}:{}", taint.key, effect_name(taint.effect)),
    };
    match action {
        Action::Cordon => ("RemedyCordoned", "cordoned".to_owned()),
        Action::Uncordon => ("RemedyUncordoned", "uncordoned".to_owned()),
        Action::Taint(added) => ("RemedyTainted", format!("tainted {}", taint(added))),
        Action::Untaint(gone) => ("RemedyUntainted", format!("untainted {}", taint(gone))),
        Action::Drain => ("RemedyDrained", "drained".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_points::remedy::{PastAction, TaintEffect};
    use serde_json::{from_value, json};

    #[test]
    fn verdicts() {
        let node: Node = from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd"}},
            "spec": {"taints": [{"key": "sick", "value": "disk", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "KernelDeadlock", "status": "True", "reason": "Hung",
                                       "lastTransitionTime": "1970-01-01T00:00:07Z"}]},
        }))
        .unwrap();
        let empty = History::default();
        let mut cordoned = History::default();
        cordoned.push(PastAction {
            action: Action::Cordon,
            at_ms: 1_000,
            succeeded: true,
        });
        let mut busy = History::default();
        (0..10).for_each(|_| {
            busy.push(PastAction {
                action: Action::Uncordon,
                at_ms: 99_000,
                succeeded: false,
            })
        });
        let taint = |value: &str| {
            Action::Taint(Taint {
                key: "sick".into(),
                value: value.into(),
                effect: TaintEffect::NoSchedule,
            })
        };
        let untaint = |key: &str| {
            Action::Untaint(Taint {
                key: key.into(),
                value: String::new(),
                effect: TaintEffect::NoSchedule,
            })
        };
        let cases = [
            (&empty, 1, 100_000, Action::Cordon, Verdict::Act),
            (&empty, 0, 100_000, Action::Cordon, Verdict::OverBudget),
            (&cordoned, 0, 100_000, Action::Cordon, Verdict::Act),
            (&cordoned, 1, 3_000, Action::Cordon, Verdict::TooSoon),
            (&busy, 1, 100_000, Action::Cordon, Verdict::TooOften),
            (&empty, 0, 100_000, Action::Uncordon, Verdict::AlreadySo),
            (&empty, 1, 100_000, taint("disk"), Verdict::AlreadySo),
            (&empty, 1, 100_000, taint("memory"), Verdict::Act),
            (&empty, 0, 100_000, untaint("sick"), Verdict::Act),
            (&empty, 0, 100_000, untaint("other"), Verdict::AlreadySo),
            (&empty, 1, 100_000, Action::Drain, Verdict::AlreadySo),
        ];
        for (history, budget, now_ms, action, want) in cases {
            let case = case(&node, history, budget, now_ms);
            assert_eq!(case.conditions[0].since_ms, 7_000);
            let decision = Decision {
                action,
                reason: String::new(),
            };
            assert_eq!(
                judge(&case, history, &decision, false),
                want,
                "{decision:?} {history:?}"
            );
        }
    }
}
