//! A remedy to start from: it closes a node while its disk fails, and opens it again if it was the one who closed it.

use capstan_sdk::{
    Fault, NoConfig, Plugin,
    remedy::{Action, Case, ConditionStatus, Decision, Remedy},
};

const CONDITION: &str = "DiskFailing";

pub struct CloseNode;

impl Plugin for CloseNode {
    type Config = NoConfig;
    const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;

    fn new(_: NoConfig) -> Result<Self, Fault> {
        Ok(Self)
    }
}

impl Remedy for CloseNode {
    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault> {
        let is_sick = case
            .conditions
            .iter()
            .any(|condition| condition.type_name == CONDITION && condition.status == ConditionStatus::Yes);
        let closed_by_us = case
            .history
            .last()
            .is_some_and(|past| past.action == Action::Cordon);
        let decision = match (is_sick, case.node.unschedulable) {
            (true, false) => (Action::Cordon, format!("{CONDITION} is true")),
            (false, true) if closed_by_us => (Action::Uncordon, format!("{CONDITION} is over")),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![Decision {
            action: decision.0,
            reason: decision.1,
        }])
    }
}

capstan_sdk::export!(remedy: decide => CloseNode);

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_sdk::remedy::{Condition, NodeFacts};

    #[test]
    fn a_sick_node_is_closed_once() {
        let mut case = Case {
            node: NodeFacts {
                name: "a".into(),
                labels: Vec::new(),
                unschedulable: false,
                taints: Vec::new(),
            },
            conditions: vec![Condition {
                type_name: CONDITION.into(),
                status: ConditionStatus::Yes,
                reason: String::new(),
                message: String::new(),
                since_ms: 0,
            }],
            history: Vec::new(),
            budget: 1,
            now_ms: 1,
        };
        let first = CloseNode.decide(&case).expect("an answer");
        assert_eq!(first[0].action, Action::Cordon);
        case.node.unschedulable = true;
        assert!(CloseNode.decide(&case).expect("an answer").is_empty());
    }
}
