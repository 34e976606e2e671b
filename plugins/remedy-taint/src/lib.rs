//! Taints, cordons or drains a node while a condition is true, and lifts that when the condition is over.
//!
//! It lifts what it did itself, by its own history, and nothing else: a taint or cordon that was there
//! before, or that somebody changed since, stays. What rules no longer ask for is lifted too. A drain is a cordon
//! and then, once for each time that the condition came true, eviction of the node's pods within their budgets.

mod config;
mod mark;

pub use config::Config;

use capstan_sdk::{
    Fault, Plugin,
    remedy::{self, Case, Condition, ConditionStatus, Decision, Remedy},
};
use config::{Action, Rule};
use mark::Mark;

/// After a failed action, how long to wait with the next attempt.
const RETRY_MS: u64 = 10_000;

/// The remedy.
pub struct TaintRemedy(Config);

impl Plugin for TaintRemedy {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

/// What a rule says now.
enum Stand {
    /// The condition has been true long enough.
    Act(String),
    /// Neither to act nor to lift.
    Wait,
    /// The condition has been false long enough, or is gone.
    Lift(String),
}

impl Remedy for TaintRemedy {
    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault> {
        let mut marks: Vec<Mark> = self.0.rules.iter().map(|rule| Mark::of(&rule.action)).collect();
        marks.extend(mark::owned(&case.history));
        let mut seen: Vec<Mark> = Vec::new();
        let mut decisions = Vec::new();
        for mark in marks {
            if seen.iter().any(|other| other.same_place(&mark)) {
                continue;
            }
            decisions.extend(self.judge(&mark, case));
            seen.push(mark);
        }
        decisions.extend(self.0.rules.iter().find_map(|rule| drain(rule, case)));
        Ok(decisions)
    }
}

impl TaintRemedy {
    fn judge(&self, mark: &Mark, case: &Case) -> Option<Decision> {
        let rules = self
            .0
            .rules
            .iter()
            .filter(|rule| Mark::of(&rule.action).same_place(mark));
        let stands: Vec<(&Rule, Stand)> = rules.map(|rule| (rule, stand(rule, case))).collect();
        let act = stands.iter().find_map(|(rule, stand)| match stand {
            Stand::Act(reason) => Some((Mark::of(&rule.action), reason.clone())),
            _ => None,
        });
        if let Some((mark, reason)) = act {
            let refused = mark.takes_out_of_service() && case.budget == 0;
            return (!mark.is_on(&case.node) && !refused && !mark.failed_lately(case, RETRY_MS)).then(|| {
                Decision {
                    action: mark.put(),
                    reason,
                }
            });
        }
        let own = mark::owned(&case.history)
            .into_iter()
            .find(|own| own.same_place(mark))?;
        let waits = stands.iter().any(|(_, stand)| matches!(stand, Stand::Wait));
        if waits || !own.is_on(&case.node) || own.failed_lately(case, RETRY_MS) {
            return None;
        }
        let over = stands.into_iter().find_map(|(_, stand)| match stand {
            Stand::Lift(reason) => Some(reason),
            _ => None,
        });
        Some(Decision {
            action: own.lift(),
            reason: over.unwrap_or_else(|| "no rule asks for it any more".into()),
        })
    }
}

/// Asks the pods to go where the rule says so, the node is cordoned, and they were not asked since the condition
/// came true. An attempt that failed, as a pod's disruption budget makes it, is repeated.
fn drain(rule: &Rule, case: &Case) -> Option<Decision> {
    let Stand::Act(reason) = stand(rule, case) else {
        return None;
    };
    if !matches!(rule.action, Action::Drain) || !case.node.unschedulable {
        return None;
    }
    let since_ms = case
        .conditions
        .iter()
        .find(|condition| condition.type_name == rule.condition)?
        .since_ms;
    let mut drains = case
        .history
        .iter()
        .rev()
        .filter(|past| past.action == remedy::Action::Drain);
    let last = drains.next().filter(|past| past.at_ms >= since_ms);
    let due = last.is_none_or(|past| !past.succeeded && past.at_ms.saturating_add(RETRY_MS) <= case.now_ms);
    due.then_some(Decision {
        action: remedy::Action::Drain,
        reason,
    })
}

fn stand(rule: &Rule, case: &Case) -> Stand {
    let Some(condition) = case
        .conditions
        .iter()
        .find(|condition| condition.type_name == rule.condition)
    else {
        return Stand::Lift(format!("condition {} is gone", rule.condition));
    };
    let since = |wait: u64| condition.since_ms.saturating_add(wait) <= case.now_ms;
    let meant = rule
        .reason
        .as_ref()
        .is_none_or(|reason| *reason == condition.reason);
    match condition.status {
        ConditionStatus::Yes if meant && since(rule.after.0) => Stand::Act(describe(condition)),
        ConditionStatus::No if since(rule.lift_after.0) => Stand::Lift(describe(condition)),
        // True for another reason is over for this rule.
        ConditionStatus::Yes if !meant && since(rule.lift_after.0) => Stand::Lift(describe(condition)),
        _ => Stand::Wait,
    }
}

fn describe(condition: &Condition) -> String {
    let is = if condition.status == ConditionStatus::Yes {
        "is true"
    } else {
        "is false"
    };
    format!(
        "condition {} {is}: {}: {}",
        condition.type_name, condition.reason, condition.message
    )
}

capstan_sdk::export!(remedy: decide => TaintRemedy);
