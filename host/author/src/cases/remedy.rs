//! A sick node, and what a remedy does about it.

use capstan_points::remedy::{
    Action, Case, Condition, ConditionStatus, NodeFacts, PastAction, Taint, TaintEffect,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Form};
use crate::rig::Rig;

/// A node as Kubernetes has it, and the remedy's own past on it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// A Node; its conditions are those of its status.
    node: Value,
    #[serde(default)]
    history: Vec<Past>,
    /// How many further nodes may be put out of service.
    #[serde(default = "one")]
    budget: u32,
    #[serde(default)]
    now: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Past {
    /// `cordon`, `uncordon`, `drain`, `taint` or `untaint`.
    action: String,
    #[serde(default)]
    taint: Value,
    #[serde(default)]
    at: Option<Value>,
    #[serde(default = "yes")]
    succeeded: bool,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

impl Question {
    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let seat = rig.host.remedy_seats().borrow().first().cloned();
        let remedy = seat.ok_or("no remedy is loaded")?.policy;
        let case = self.case()?;
        Ok(Box::new(move |form| {
            let decisions = remedy.decide(&case)?;
            if form == Form::Silent {
                return Ok(Value::Null);
            }
            let decision = |decision: &capstan_points::remedy::Decision| {
                let mut shown = show(&decision.action);
                shown["reason"] = json!(decision.reason);
                shown
            };
            Ok(json!({"actions": decisions.iter().map(decision).collect::<Vec<_>>()}))
        }))
    }

    fn case(&self) -> Result<Case, String> {
        let text = |at: &Value| at.as_str().unwrap_or_default().to_owned();
        let spec = &self.node["spec"];
        let taints = spec["taints"].as_array().into_iter().flatten().map(taint);
        let conditions = self.node["status"]["conditions"].as_array().into_iter().flatten();
        let condition = |at: &Value| -> Result<Condition, String> {
            Ok(Condition {
                type_name: text(&at["type"]),
                status: match at["status"].as_str() {
                    Some("True") => ConditionStatus::True,
                    Some("False") => ConditionStatus::False,
                    _ => ConditionStatus::Unknown,
                },
                reason: text(&at["reason"]),
                message: text(&at["message"]),
                since_ms: super::time(at.get("lastTransitionTime"))?,
            })
        };
        Ok(Case {
            node: NodeFacts {
                name: text(&self.node["metadata"]["name"]),
                labels: super::labels(&self.node),
                unschedulable: spec["unschedulable"].as_bool().unwrap_or_default(),
                taints: taints.collect::<Result<_, _>>()?,
            },
            conditions: conditions.map(condition).collect::<Result<_, _>>()?,
            history: self.history.iter().map(past).collect::<Result<_, _>>()?,
            budget: self.budget,
            now_ms: super::time(self.now.as_ref())?,
        })
    }
}

fn past(past: &Past) -> Result<PastAction, String> {
    let action = match past.action.as_str() {
        "cordon" => Action::Cordon,
        "uncordon" => Action::Uncordon,
        "drain" => Action::Drain,
        "taint" => Action::Taint(taint(&past.taint)?),
        "untaint" => Action::Untaint(taint(&past.taint)?),
        other => {
            return Err(format!(
                "{other:?} is no action: cordon, uncordon, drain, taint or untaint"
            ));
        }
    };
    Ok(PastAction {
        action,
        at_ms: super::time(past.at.as_ref())?,
        succeeded: past.succeeded,
    })
}

fn taint(at: &Value) -> Result<Taint, String> {
    let text = |at: &Value| at.as_str().unwrap_or_default().to_owned();
    let effect = match at["effect"].as_str().unwrap_or_default() {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        "NoExecute" => TaintEffect::NoExecute,
        other => return Err(format!("{other:?} is no taint's effect")),
    };
    Ok(Taint {
        key: text(&at["key"]),
        value: text(&at["value"]),
        effect,
    })
}

fn show(action: &Action) -> Value {
    let with_taint = |name: &str, taint: &Taint| {
        let effect = match taint.effect {
            TaintEffect::NoSchedule => "NoSchedule",
            TaintEffect::PreferNoSchedule => "PreferNoSchedule",
            TaintEffect::NoExecute => "NoExecute",
        };
        json!({"action": name, "taint": {"key": taint.key, "value": taint.value, "effect": effect}})
    };
    match action {
        Action::Cordon => json!({"action": "cordon"}),
        Action::Uncordon => json!({"action": "uncordon"}),
        Action::Drain => json!({"action": "drain"}),
        Action::Taint(taint) => with_taint("taint", taint),
        Action::Untaint(taint) => with_taint("untaint", taint),
    }
}
