//! What a StatefulSet needs next: pods to start and to stop, and its status. Pure.
//!
//! Invariants, as the original has them: a name is never had by two pods; unless the policy is Parallel, a pod
//! is started only when all before it are up, and stopped only when all that stay are; an update goes from the
//! last pod to the partition, and takes no more pods at a time than `maxUnavailable`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::deployment::size::scaled;
use crate::pod;

/// The label that says of which revision a pod is.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";

/// What is seen of one StatefulSet.
pub(crate) struct Snapshot<'a> {
    pub(crate) set: &'a StatefulSet,
    pub(crate) pods: &'a [Arc<Pod>],
    /// Name of the revision that pods below the partition are of.
    pub(crate) current: &'a str,
    /// Name of the revision of its present template.
    pub(crate) update: &'a str,
    pub(crate) now: Timestamp,
}

/// A pod to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) ordinal: i32,
    /// Of the present template, not of the one before.
    pub(crate) updated: bool,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) start: Vec<Start>,
    pub(crate) stop: Vec<Arc<Pod>>,
    pub(crate) status: StatefulSetStatus,
    /// When a pod will have been ready long enough.
    pub(crate) again: Option<Duration>,
}

/// The number in a pod's name.
pub(crate) fn ordinal(set: &str, pod: &str) -> Option<i32> {
    let number = pod.strip_prefix(set)?.strip_prefix('-')?;
    number
        .parse()
        .ok()
        .filter(|parsed: &i32| parsed.to_string() == number)
}

struct View<'a> {
    spec: StatefulSetSpec,
    seen: &'a Snapshot<'a>,
    by_ordinal: BTreeMap<i32, &'a Arc<Pod>>,
    first: i32,
    replicas: i32,
}

/// Decides.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Plan {
    let spec = seen.set.spec.clone().unwrap_or_default();
    let name = seen.set.name_any();
    let numbered = |pod: &'_ _| -> Option<i32> { ordinal(&name, &Pod::name_any(pod)) };
    let view = View {
        first: spec
            .ordinals
            .as_ref()
            .and_then(|ordinals| ordinals.start)
            .unwrap_or(0),
        replicas: spec.replicas.unwrap_or(1),
        by_ordinal: seen
            .pods
            .iter()
            .filter_map(|pod| Some((numbered(pod.as_ref())?, pod)))
            .collect(),
        spec,
        seen,
    };
    let mut plan = Plan {
        status: view.status(),
        ..Plan::default()
    };
    plan.again = seen.pods.iter().filter_map(|pod| view.up(pod).err()).min();
    if seen.set.metadata.deletion_timestamp.is_none() && view.scale(&mut plan) {
        view.roll(&mut plan);
    }
    plan
}

impl View<'_> {
    fn wanted(&self) -> std::ops::Range<i32> {
        self.first..self.first.saturating_add(self.replicas)
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn partition(&self) -> i32 {
        let rolling = self
            .spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        rolling.and_then(|rolling| rolling.partition).unwrap_or(0)
    }

    fn rolls(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn up(&self, pod: &Pod) -> Result<bool, Duration> {
        if !pod::is_active(pod) {
            return Ok(false);
        }
        pod::is_available(pod, self.spec.min_ready_seconds.unwrap_or(0), self.seen.now)
    }

    fn is_up(&self, pod: &Pod) -> bool {
        self.up(pod).unwrap_or(false)
    }

    fn is_of(&self, pod: &Pod, revision: &str) -> bool {
        pod.labels().get(REVISION_LABEL).map(String::as_str) == Some(revision)
    }

    /// Whether all are as many as wanted, so that an update may go on.
    fn scale(&self, plan: &mut Plan) -> bool {
        for ordinal in self.wanted() {
            let wait = match self.by_ordinal.get(&ordinal) {
                None => {
                    let below = self.rolls() && ordinal < self.first.saturating_add(self.partition());
                    let start = Start {
                        ordinal,
                        updated: !below,
                    };
                    plan.start.push(start);
                    true
                }
                Some(pod) if pod::is_finished(pod) && !pod::is_deleting(pod) => {
                    plan.stop.push(Arc::clone(pod));
                    true
                }
                Some(pod) => !self.is_up(pod),
            };
            if wait && self.is_ordered() {
                return false;
            }
        }
        let wanted = self.wanted();
        for (_, pod) in self
            .by_ordinal
            .iter()
            .rev()
            .filter(|(ordinal, _)| !wanted.contains(ordinal))
        {
            if !pod::is_deleting(pod) {
                plan.stop.push(Arc::clone(pod));
            }
            if self.is_ordered() {
                return false;
            }
        }
        plan.start.is_empty() && plan.stop.is_empty()
    }

    fn roll(&self, plan: &mut Plan) {
        if !self.rolls() {
            return;
        }
        let one = IntOrString::Int(1);
        let rolling = self
            .spec
            .update_strategy
            .clone()
            .unwrap_or_default()
            .rolling_update
            .unwrap_or_default();
        let max = scaled(
            rolling.max_unavailable.as_ref().unwrap_or(&one),
            self.replicas,
            true,
        )
        .max(1);
        let of_set = || self.by_ordinal.range(self.wanted());
        let down = of_set().filter(|(_, pod)| !self.is_up(pod)).count();
        let mut may_take = max.saturating_sub(i32::try_from(down).unwrap_or(i32::MAX));
        for (_, pod) in self
            .by_ordinal
            .range(self.first.saturating_add(self.partition())..self.wanted().end)
            .rev()
        {
            if pod::is_deleting(pod) || self.is_of(pod, self.seen.update) {
                continue;
            }
            // A pod that does not serve costs nothing.
            if self.is_up(pod) {
                if may_take <= 0 {
                    return;
                }
                may_take -= 1;
            }
            plan.stop.push(Arc::clone(pod));
        }
    }

    fn status(&self) -> StatefulSetStatus {
        let count = |wanted: &dyn Fn(&Pod) -> bool| {
            let pods = self.by_ordinal.values().filter(|pod| wanted(pod));
            i32::try_from(pods.count()).unwrap_or(i32::MAX)
        };
        let alive = |pod: &Pod| pod::is_active(pod);
        let before = self.seen.set.status.clone().unwrap_or_default();
        let updated = count(&|pod| alive(pod) && self.is_of(pod, self.seen.update));
        let ready = count(&|pod| alive(pod) && pod::is_ready(pod));
        let replicas = count(&|pod| !pod::is_finished(pod));
        let done =
            self.rolls() && updated == self.replicas && ready == self.replicas && replicas == self.replicas;
        let current = if done { self.seen.update } else { self.seen.current };
        StatefulSetStatus {
            observed_generation: self.seen.set.metadata.generation,
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(count(&|pod| self.is_up(pod))),
            current_replicas: some(count(&|pod| alive(pod) && self.is_of(pod, current))),
            updated_replicas: some(updated),
            current_revision: Some(current.to_owned()),
            update_revision: Some(self.seen.update.to_owned()),
            collision_count: Some(before.collision_count.unwrap_or(0)),
            conditions: before.conditions,
        }
    }
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    /// Pods as `ordinal revision state`: up, down (not ready), going, ended.
    fn pods(all: &str) -> Vec<Arc<Pod>> {
        let pod = |text: &str| {
            let parts: Vec<_> = text.split(' ').collect();
            let ready = if parts[2] == "up" { "True" } else { "False" };
            let mut pod = json!({
                "metadata": {"name": format!("db-{}", parts[0]), "labels": {REVISION_LABEL: parts[1]}},
                "status": {"phase": if parts[2] == "ended" { "Failed" } else { "Running" },
                           "conditions": [{"type": "Ready", "status": ready}]},
            });
            if parts[2] == "going" {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            Arc::new(from_value(pod).unwrap())
        };
        all.split(", ").filter(|text| !text.is_empty()).map(pod).collect()
    }

    fn decide(spec: Value, all: &str) -> (String, StatefulSetStatus) {
        let mut set = json!({"metadata": {"name": "db"}, "spec": {
            "selector": {}, "template": {}, "replicas": 3, "updateStrategy": {"type": "RollingUpdate"}}});
        for (key, value) in spec.as_object().unwrap() {
            set["spec"][key] = value.clone();
        }
        let set: StatefulSet = from_value(set).unwrap();
        let pods = pods(all);
        let plan = plan(&Snapshot {
            set: &set,
            pods: &pods,
            current: "old",
            update: "new",
            now: Timestamp::UNIX_EPOCH,
        });
        let started = plan
            .start
            .iter()
            .map(|start| format!("+{}{}", start.ordinal, if start.updated { "" } else { " old" }));
        let stopped = plan.stop.iter().map(|pod| format!("-{}", &pod.name_any()[3..]));
        (started.chain(stopped).collect::<Vec<_>>().join(" "), plan.status)
    }

    #[test]
    fn steps() {
        let parallel = json!({"podManagementPolicy": "Parallel"});
        let partition =
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
        let two =
            json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}});
        let plain = json!({});
        let cases = [
            (&plain, "", "+0"),
            (&plain, "0 new down", ""),
            (&plain, "0 new up", "+1"),
            (&plain, "0 new up, 2 new up", "+1"),
            (&plain, "0 new going, 1 new up", ""),
            (&plain, "0 new ended, 1 new up", "-0"),
            (&plain, "0 new up, 1 new up, 2 new up", ""),
            (&plain, "0 new up, 1 new up, 2 new up, 3 new up, 4 new up", "-4"),
            (&plain, "0 new up, 1 new up, 2 new up, 3 new up, 4 new going", ""),
            (&plain, "0 new up, 1 new down, 2 new up, 3 new up", ""),
            (&parallel, "1 new down", "+0 +2"),
            (
                &parallel,
                "0 new up, 1 new up, 2 new up, 3 new up, 4 new down",
                "-4 -3",
            ),
            (&plain, "0 old up, 1 old up, 2 old up", "-2"),
            (&plain, "0 old up, 1 old up, 2 old going", ""),
            (&plain, "0 old up, 1 old up", "+2"),
            (&plain, "0 old up, 1 old up, 2 new down", ""),
            (&plain, "0 old up, 1 old up, 2 new up", "-1"),
            (&two, "0 old up, 1 old up, 2 old up", "-2 -1"),
            (&partition, "0 old up, 1 old up, 2 old up", "-2"),
            (&partition, "0 old up, 1 old up, 2 new up", ""),
            (&partition, "0 old up, 2 new up", "+1 old"),
            (
                &json!({"updateStrategy": {"type": "OnDelete"}}),
                "0 old up, 1 old up, 2 old up",
                "",
            ),
            (
                &json!({"updateStrategy": {"type": "OnDelete"}}),
                "0 old up, 1 old up",
                "+2",
            ),
            (&json!({"ordinals": {"start": 5}}), "5 new up", "+6"),
            (&json!({"replicas": 0}), "0 new up, 1 new up", "-1"),
        ];
        for (spec, all, want) in cases {
            assert_eq!(decide(spec.clone(), all).0, want, "{spec} {all}");
        }
    }

    #[test]
    fn the_current_revision_follows_when_all_are_new() {
        let status = decide(json!({}), "0 old up, 1 old up, 2 new up").1;
        assert_eq!(
            (status.current_replicas, status.updated_replicas),
            (Some(2), Some(1))
        );
        assert_eq!(status.current_revision.as_deref(), Some("old"));
        let status = decide(json!({}), "0 new up, 1 new up, 2 new up").1;
        assert_eq!(
            (status.current_replicas, status.updated_replicas),
            (Some(3), Some(3))
        );
        assert_eq!(status.current_revision.as_deref(), Some("new"));
        assert_eq!(
            (
                ordinal("db", "db-10"),
                ordinal("db", "db-01"),
                ordinal("db", "db-a-1")
            ),
            (Some(10), None, None)
        );
    }
}
