//! The difference between two pod statuses as a strategic merge patch: small, and blind to what others
//! write beside it. Pure.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// Lists that the API merges by key: where an element went, the list is replaced whole.
const MERGED_LISTS: [&str; 2] = ["podIPs", "hostIPs"];

/// The patch that turns `before` into `after`; `None` where nothing differs.
pub(crate) fn patch(uid: &str, before: &PodStatus, after: &PodStatus) -> serde_json::Result<Option<Value>> {
    let (before, after) = (object(before)?, object(after)?);
    let mut changes = Map::new();
    for (key, value) in &after {
        let old = before.get(key);
        if old == Some(value) {
            continue;
        }
        changes.insert(key.clone(), change(key, old, value));
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        changes.insert(key.clone(), Value::Null);
    }
    Ok((!changes.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": changes })))
}

fn object(status: &PodStatus) -> serde_json::Result<Map<String, Value>> {
    match serde_json::to_value(status)? {
        Value::Object(map) => Ok(map),
        _ => Ok(Map::new()),
    }
}

fn change(key: &str, old: Option<&Value>, new: &Value) -> Value {
    let (Some(Value::Array(old)), Value::Array(list)) = (old, new) else {
        return new.clone();
    };
    if key == "conditions" {
        let gone = old
            .iter()
            .filter(|old| !list.iter().any(|new| new["type"] == old["type"]))
            .map(|old| json!({ "$patch": "delete", "type": old["type"] }));
        return list
            .iter()
            .filter(|condition| !old.contains(condition))
            .map(|new| complete(old, new))
            .chain(gone)
            .collect();
    }
    if MERGED_LISTS.contains(&key) {
        return std::iter::once(json!({ "$patch": "replace" }))
            .chain(list.iter().cloned())
            .collect();
    }
    new.clone()
}

/// A merged condition keeps the old one's reason and message unless they are taken away.
fn complete(old: &[Value], new: &Value) -> Value {
    let mut new = new.clone();
    let before = old
        .iter()
        .find(|condition| condition.get("type") == new.get("type"));
    if let (Some(Value::Object(before)), Value::Object(new)) = (before, &mut new) {
        for key in before.keys() {
            new.entry(key.clone()).or_insert(Value::Null);
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodCondition;

    fn condition(type_: &str, status: &str, reason: Option<&str>) -> PodCondition {
        PodCondition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.map(str::to_owned),
            ..Default::default()
        }
    }

    #[test]
    fn only_what_changed_is_sent_and_what_went_is_taken_away() {
        let before = PodStatus {
            phase: Some("Pending".into()),
            message: Some("old".into()),
            conditions: Some(vec![
                condition("Ready", "False", Some("No")),
                condition("Foreign", "True", None),
            ]),
            ..Default::default()
        };
        let after = PodStatus {
            phase: Some("Running".into()),
            message: None,
            conditions: Some(vec![
                condition("Ready", "True", None),
                condition("Foreign", "True", None),
            ]),
            ..before.clone()
        };
        let expected = json!({ "metadata": { "uid": "u" }, "status": {
            "phase": "Running", "message": null,
            "conditions": [{ "type": "Ready", "status": "True", "reason": null }],
        }});
        assert_eq!(patch("u", &before, &after).unwrap(), Some(expected));
        assert_eq!(patch("u", &after, &after).unwrap(), None);
    }
}
