//! Which taints a node's conditions call for, and which pods a `NoExecute` taint drives away. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that taint when true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

pub(crate) fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map(|condition| condition.status.as_str())
}

/// The node's taints as its conditions call for them; taints of others stay. `evict`: whether a node that is
/// not ready drives pods away, which it does not while the whole cluster is silent.
pub(crate) fn taints(node: &Node, evict: bool, now: Timestamp) -> Vec<Taint> {
    let before = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.clone())
        .unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match condition(node, "Ready") {
        Some("False") => wanted.extend([(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)]),
        Some("Unknown") => wanted.extend([(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)]),
        _ => {}
    }
    for (type_, key) in PRESSURES {
        if condition(node, type_) == Some("True") {
            wanted.push((key, NO_SCHEDULE));
        }
    }
    if node
        .spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
    {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let has = |key: &str, effect: &str| {
        before
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
    };
    if !evict {
        wanted.retain(|(key, effect)| *effect != NO_EXECUTE || has(key, effect));
    }
    let ours = |taint: &Taint| {
        let pressure = PRESSURES.iter().any(|(_, key)| *key == taint.key) && taint.effect == NO_SCHEDULE;
        let ready = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str())
            && [NO_SCHEDULE, NO_EXECUTE].contains(&taint.effect.as_str());
        pressure || ready || (taint.key == UNSCHEDULABLE && taint.effect == NO_SCHEDULE)
    };
    let asked = |taint: &Taint| {
        wanted
            .iter()
            .any(|(key, effect)| taint.key == *key && taint.effect == *effect)
    };
    let mut taints: Vec<Taint> = before
        .iter()
        .filter(|taint| !ours(taint) || asked(taint))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !has(key, effect) {
            taints.push(Taint {
                key: key.to_owned(),
                value: None,
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
            });
        }
    }
    taints
}

/// What `NoExecute` taints mean for one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    Forever,
    For(Duration),
    Go,
}

/// Whether the pod may stay on a node with these taints.
pub(crate) fn stay(pod: &Pod, taints: &[Taint], now: Timestamp) -> Stay {
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let mut left: Option<Duration> = None;
    for taint in taints.iter().filter(|taint| taint.effect == NO_EXECUTE) {
        let fitting: Vec<_> = tolerations
            .iter()
            .filter(|toleration| tolerates(toleration, taint))
            .collect();
        if fitting.is_empty() {
            return Stay::Go;
        }
        let Some(seconds) = fitting
            .iter()
            .filter_map(|toleration| toleration.toleration_seconds)
            .min()
        else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        match Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).checked_sub(been) {
            Some(rest) if !rest.is_zero() => left = Some(left.map_or(rest, |left| left.min(rest))),
            _ => return Stay::Go,
        }
    }
    left.map_or(Stay::Forever, Stay::For)
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let effect = text(&toleration.effect);
    let key = text(&toleration.key);
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || text(&toleration.value) == text(&taint.value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn keys(taints: &[Taint]) -> Vec<String> {
        taints
            .iter()
            .map(|taint| {
                format!(
                    "{}:{}",
                    taint.key.trim_start_matches("node.kubernetes.io/"),
                    taint.effect
                )
            })
            .collect()
    }

    #[test]
    fn conditions_become_taints_and_back() {
        let node = |spec: Value, conditions: Value| -> Node {
            from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}))
                .unwrap()
        };
        let now = Timestamp::UNIX_EPOCH;
        let theirs = json!({"taints": [{"key": "x", "effect": "NoSchedule"},
            {"key": NOT_READY, "effect": "NoExecute"}, {"key": UNSCHEDULABLE, "effect": "NoSchedule"}]});
        let cases = [
            (
                json!({}),
                json!([{"type": "Ready", "status": "True"}]),
                true,
                vec![],
            ),
            (
                theirs,
                json!([{"type": "Ready", "status": "True"}]),
                true,
                vec!["x:NoSchedule"],
            ),
            (
                json!({"unschedulable": true}),
                json!([{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "True"}]),
                true,
                vec![
                    "not-ready:NoSchedule",
                    "not-ready:NoExecute",
                    "disk-pressure:NoSchedule",
                    "unschedulable:NoSchedule",
                ],
            ),
            (
                json!({}),
                json!([{"type": "Ready", "status": "Unknown"}]),
                false,
                vec!["unreachable:NoSchedule"],
            ),
            (
                json!({"taints": [{"key": UNREACHABLE, "effect": "NoExecute"}]}),
                json!([{"type": "Ready", "status": "Unknown"}]),
                false,
                vec!["unreachable:NoExecute", "unreachable:NoSchedule"],
            ),
        ];
        for (spec, conditions, evict, want) in cases {
            assert_eq!(keys(&taints(&node(spec, conditions), evict, now)), want);
        }
    }

    #[test]
    fn who_may_stay() {
        let pod = |tolerations: Value| -> Pod {
            from_value(json!({"spec": {"containers": [], "tolerations": tolerations}})).unwrap()
        };
        let taint: Taint = from_value(
            json!({"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}),
        )
        .unwrap();
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let seconds = |seconds: i64| json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        let cases = [
            (json!([]), Stay::Go),
            (json!([{"operator": "Exists"}]), Stay::Forever),
            (seconds(300), Stay::For(Duration::from_secs(240))),
            (seconds(60), Stay::Go),
            (seconds(0), Stay::Go),
            (
                json!([{"key": UNREACHABLE, "operator": "Equal", "value": "other"}]),
                Stay::Go,
            ),
        ];
        for (tolerations, want) in cases {
            assert_eq!(
                stay(&pod(tolerations.clone()), std::slice::from_ref(&taint), now),
                want,
                "{tolerations}"
            );
        }
    }
}
