//! What a ReplicaSet needs: pods to create or delete, and its status. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rank::for_deletion;
use crate::pod;

/// Pods that are created or deleted in one go, as the original's burst limit.
const BURST_MAX: usize = 500;

/// What is seen of one ReplicaSet.
pub(crate) struct Snapshot<'a> {
    pub(crate) set: &'a ReplicaSet,
    /// Its own pods.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// The pods of all ReplicaSets of the same owner.
    pub(crate) related: Vec<Arc<Pod>>,
    pub(crate) now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// How its number of pods is to change.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Option<Change> {
    if seen.set.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let wanted = wanted(seen.set);
    let active: Vec<_> = seen
        .pods
        .iter()
        .filter(|pod| pod::is_active(pod))
        .cloned()
        .collect();
    if active.len() < wanted {
        return Some(Change::Create((wanted - active.len()).min(BURST_MAX)));
    }
    let surplus = (active.len() - wanted).min(BURST_MAX);
    if surplus == 0 {
        return None;
    }
    let mut order = for_deletion(active, &seen.related);
    order.truncate(surplus);
    Some(Change::Delete(order))
}

fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

/// Its status, and when a pod becomes available by time alone. `failure` is why the last change failed.
pub(crate) fn status(
    seen: &Snapshot<'_>,
    failure: Option<(&str, String)>,
) -> (ReplicaSetStatus, Option<Duration>) {
    let before = seen.set.status.clone().unwrap_or_default();
    let spec = seen.set.spec.clone().unwrap_or_default();
    let template_labels = spec
        .template
        .and_then(|template| template.metadata)
        .and_then(|meta| meta.labels)
        .unwrap_or_default();
    let active: Vec<&Pod> = seen
        .pods
        .iter()
        .map(Arc::as_ref)
        .filter(|pod| pod::is_active(pod))
        .collect();
    let count = |test: &dyn Fn(&Pod) -> bool| -> i32 {
        i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
    };
    let mut next: Option<Duration> = None;
    let mut available = 0;
    for pod in &active {
        match pod::is_available(pod, spec.min_ready_seconds.unwrap_or(0), seen.now) {
            Ok(true) => available += 1,
            Ok(false) => {}
            Err(left) => next = Some(next.map_or(left, |next| next.min(left))),
        }
    }
    let terminating = seen
        .pods
        .iter()
        .filter(|pod| pod::is_deleting(pod) && !pod::is_finished(pod))
        .count();
    let labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        template_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    };
    // Zero is left out, as the original's omitempty does, but for `replicas`.
    let some = |count: i32| (count != 0).then_some(count);
    let status = ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&labelled)),
        ready_replicas: some(count(&pod::is_ready)),
        available_replicas: some(available),
        terminating_replicas: Some(i32::try_from(terminating).unwrap_or(i32::MAX)),
        observed_generation: seen.set.metadata.generation,
        conditions: conditions(before.conditions, failure, seen.now),
    };
    (status, next)
}

fn conditions(
    before: Option<Vec<ReplicaSetCondition>>,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = before.unwrap_or_default();
    let existing = conditions
        .iter()
        .position(|condition| condition.type_ == "ReplicaFailure");
    match (failure, existing) {
        (Some((reason, message)), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(at)) => {
            conditions.remove(at);
        }
        _ => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
        from_value(json!({
            "metadata": {"name": "web", "namespace": "a", "generation": 3},
            "spec": {"replicas": replicas, "minReadySeconds": min_ready_seconds, "selector": {},
                     "template": {"metadata": {"labels": {"app": "web"}}}},
        }))
        .unwrap()
    }

    fn pod(phase: &str, ready: bool, deleting: bool) -> Arc<Pod> {
        let mut pod = json!({
            "metadata": {"name": "p", "labels": {"app": "web"}},
            "status": {"phase": phase, "conditions": [{"type": "Ready",
                "status": if ready {"True"} else {"False"}, "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        });
        if deleting {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(from_value(pod).unwrap())
    }

    #[test]
    fn counts() {
        let now = "2026-01-01T00:00:04Z".parse().unwrap();
        let pods = vec![
            pod("Running", true, false),
            pod("Running", false, false),
            pod("Running", true, true),
            pod("Failed", false, false),
            pod("Pending", false, false),
        ];
        for (replicas, want) in [(5, Some(Change::Create(2))), (3, None)] {
            let set = set(replicas, 0);
            let seen = Snapshot {
                set: &set,
                pods: pods.clone(),
                related: pods.clone(),
                now,
            };
            assert_eq!(plan(&seen), want);
        }
        let set = set(2, 10);
        let seen = Snapshot {
            set: &set,
            pods: pods.clone(),
            related: pods.clone(),
            now,
        };
        assert_eq!(
            plan(&seen),
            Some(Change::Delete(vec![Arc::clone(&pods[4])])),
            "pending goes first"
        );
        let (status, next) = status(&seen, Some(("FailedCreate", "no".to_owned())));
        assert_eq!(
            (status.replicas, status.ready_replicas, status.available_replicas),
            (3, Some(1), None)
        );
        assert_eq!(
            (status.terminating_replicas, status.fully_labeled_replicas),
            (Some(1), Some(3))
        );
        assert_eq!(status.observed_generation, Some(3));
        assert_eq!(
            status.conditions.unwrap()[0].reason.as_deref(),
            Some("FailedCreate")
        );
        assert_eq!(next, Some(Duration::from_secs(6)));
    }
}
