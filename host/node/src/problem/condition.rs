//! What a daemon's findings change on the node. Pure.
//!
//! Invariants: a finding that says what is known changes nothing; the transition time moves only when the
//! status turns; the kubelet's own conditions are out of reach.

use std::collections::BTreeMap;

use capstan_points::problem::{Condition, ConditionStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// Conditions that belong to the kubelet.
const RESERVED: [&str; 5] = [
    "Ready",
    "MemoryPressure",
    "DiskPressure",
    "PIDPressure",
    "NetworkUnavailable",
];
/// Conditions that one daemon may keep.
const CONDITIONS_MAX: usize = 32;
/// The API's bound on a condition's message.
const MESSAGE_CHARACTERS_MAX: usize = 1024;

/// One daemon's conditions.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    known: BTreeMap<String, NodeCondition>,
    unwritten: BTreeMap<String, ()>,
}

impl Ledger {
    /// Takes a finding in; `on_node` is what the node's object says of that type. The error is for a human.
    pub(crate) fn record(
        &mut self,
        found: &Condition,
        on_node: Option<&NodeCondition>,
        now: Timestamp,
    ) -> Result<(), String> {
        let type_ = &found.type_name;
        if RESERVED.contains(&type_.as_str()) {
            return Err(format!("condition {type_:?} belongs to the kubelet"));
        }
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_./".contains(character);
        if type_.is_empty() || type_.len() > 316 || !type_.chars().all(plain) {
            return Err(format!(
                "condition type {type_:?} is no name; use CamelCase such as KernelDeadlock"
            ));
        }
        if !self.known.contains_key(type_) && self.known.len() >= CONDITIONS_MAX {
            return Err(format!(
                "condition {type_:?} is one more than the {CONDITIONS_MAX} that a daemon may keep"
            ));
        }
        let status = match found.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        let before = self.known.get(type_).or(on_node);
        let message: String = found.message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
        let since = before
            .filter(|before| before.status == status)
            .and_then(|before| before.last_transition_time.clone());
        let same = before.is_some_and(|before| {
            before.status == status
                && before.reason.as_deref() == Some(&found.reason)
                && before.message.as_deref() == Some(&message)
        });
        let condition = NodeCondition {
            type_: type_.clone(),
            status: status.to_owned(),
            reason: Some(found.reason.clone()),
            message: Some(message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: since.or(Some(Time(now))),
        };
        self.known.insert(type_.clone(), condition);
        if !same {
            self.unwritten.insert(type_.clone(), ());
        }
        Ok(())
    }

    /// The patch of the node's status that writes what is not written yet.
    pub(crate) fn patch(&self) -> Option<Value> {
        let conditions: Vec<&NodeCondition> = self
            .unwritten
            .keys()
            .filter_map(|type_| self.known.get(type_))
            .collect();
        (!conditions.is_empty()).then(|| json!({ "status": { "conditions": conditions } }))
    }

    /// The patch went through.
    pub(crate) fn written(&mut self) {
        self.unwritten.clear();
    }

    /// The patch that takes all of them away.
    pub(crate) fn removal(&self) -> Option<Value> {
        let gone: Vec<Value> = self
            .known
            .keys()
            .map(|type_| json!({ "$patch": "delete", "type": type_ }))
            .collect();
        (!gone.is_empty()).then(|| json!({ "status": { "conditions": gone } }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(status: ConditionStatus, message: &str) -> Condition {
        Condition {
            type_name: "KernelDeadlock".into(),
            status,
            reason: "R".into(),
            message: message.into(),
        }
    }

    #[test]
    fn changes_alone_are_written_and_times_move_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut ledger = Ledger::default();
        let mut record = |status, message: &str, second| {
            ledger.record(&found(status, message), None, at(second)).unwrap();
            let patch = ledger.patch();
            ledger.written();
            patch.map(|patch| {
                patch["status"]["conditions"][0]["lastTransitionTime"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
        };
        use ConditionStatus::{False, True};
        assert_eq!(record(False, "fine", 0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(record(False, "fine", 1), None);
        assert_eq!(
            record(False, "still fine", 2).as_deref(),
            Some("1970-01-01T00:00:00Z")
        );
        assert_eq!(record(True, "bad", 3).as_deref(), Some("1970-01-01T00:00:03Z"));
    }

    #[test]
    fn what_the_node_already_says_is_not_written_and_the_kubelets_own_is_refused() {
        let mut ledger = Ledger::default();
        let on_node = NodeCondition {
            type_: "KernelDeadlock".into(),
            status: "True".into(),
            reason: Some("R".into()),
            message: Some("bad".into()),
            ..Default::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        ledger
            .record(&found(ConditionStatus::True, "bad"), Some(&on_node), now)
            .unwrap();
        assert_eq!(ledger.patch(), None);
        assert!(ledger.removal().is_some());
        let ready = Condition {
            type_name: "Ready".into(),
            ..found(ConditionStatus::False, "")
        };
        assert!(ledger.record(&ready, None, now).is_err());
    }
}
