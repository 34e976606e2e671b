//! Says of each PodDisruptionBudget how many of its pods are well, how many must be, and how many may go.
//!
//! The API server's eviction takes from `disruptionsAllowed` and notes the pod in `disruptedPods`; here the pod counts
//! as gone until it is, or until so long after that it never will be. Invariants: a status is written only over
//! the budget that it was counted for. Keyed by budget. Not here: evictions themselves; owners that are custom
//! resources with a scale.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::PostParams;
use kube::core::{Selector, SelectorExt};
use kube::{Api, Client, ResourceExt};

use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::owner::controller_of;
use crate::pod::{is_deleting, is_finished, is_ready};
use crate::work::{Key, Reconcile, keys_of, wakes};

/// How long an evicted pod may take to go before it counts again, as in the original.
const DELETION_WITHIN: Duration = Duration::from_secs(120);

pub(crate) struct Disruptions {
    client: Client,
    informers: Informers,
}

/// The pods that a budget is about; none for a selector that cannot be read.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    selector
        .and_then(|selector| Selector::try_from(selector).ok())
        .is_some_and(|selector| selector.matches(pod.labels()))
}

/// A number, or a part of `whole`, rounded up.
fn scaled(value: &IntOrString, whole: i32) -> Result<i32, String> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .and_then(|percent| percent.parse::<i32>().ok());
            let percent = percent.ok_or_else(|| format!("{text:?} is neither a number nor a percentage"))?;
            Ok((whole * percent + 99).div_euclid(100))
        }
    }
}

/// How many pods there should be, and how many of them must be well; `scale` is what their owners want.
fn wanted(
    budget: &PodDisruptionBudget,
    pods: usize,
    scale: impl FnOnce() -> Result<i32, String>,
) -> Result<(i32, i32), String> {
    let pods = i32::try_from(pods).unwrap_or(i32::MAX);
    let spec = budget.spec.as_ref();
    if let Some(unavailable) = spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        let expected = scale()?;
        return Ok((expected, (expected - scaled(unavailable, expected)?).max(0)));
    }
    match spec.and_then(|spec| spec.min_available.as_ref()) {
        Some(IntOrString::Int(least)) => Ok((pods, *least)),
        Some(part) => {
            let expected = scale()?;
            Ok((expected, scaled(part, expected)?))
        }
        None => Ok((pods, 1)),
    }
}

/// The budget's status, as it should be, and when to look again.
fn plan(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    (expected, desired): (i32, i32),
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let mut again: Option<Duration> = None;
    let mut disrupted = BTreeMap::new();
    for (name, at) in before.disrupted_pods.into_iter().flatten() {
        let is_there = pods.iter().any(|pod| pod.name_any() == name && !is_deleting(pod));
        let age = Duration::try_from(now.duration_since(at.0)).unwrap_or_default();
        if let Some(left) = DELETION_WITHIN.checked_sub(age).filter(|_| is_there) {
            again = Some(again.map_or(left, |again| again.min(left)));
            disrupted.insert(name, at);
        }
    }
    let is_well =
        |pod: &&&Pod| is_ready(pod) && !is_deleting(pod) && !disrupted.contains_key(&pod.name_any());
    let healthy = i32::try_from(pods.iter().filter(is_well).count()).unwrap_or(i32::MAX);
    let allowed = if expected > 0 {
        (healthy - desired).max(0)
    } else {
        0
    };
    let (status, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    let conditions = condition(before.conditions, status, reason, "", budget, now);
    let status = PodDisruptionBudgetStatus {
        conditions: Some(conditions),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    };
    (status, again)
}

/// The conditions with `DisruptionAllowed` as it is now.
fn condition(
    before: Option<Vec<Condition>>,
    status: &str,
    reason: &str,
    message: &str,
    budget: &PodDisruptionBudget,
    now: Timestamp,
) -> Vec<Condition> {
    const TYPE: &str = "DisruptionAllowed";
    let mut all = before.unwrap_or_default();
    let same = all.iter().find(|one| one.type_ == TYPE && one.status == status);
    let since = same.map_or(Time(now), |one| one.last_transition_time.clone());
    all.retain(|one| one.type_ != TYPE);
    all.push(Condition {
        type_: TYPE.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    });
    all
}

impl Disruptions {
    pub(crate) fn new(client: Client, informers: &Informers) -> Self {
        Self {
            client,
            informers: informers.clone(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let budgets = self.informers.budgets.clone();
        let of_pod = move |pod: &Pod| -> Vec<Key> {
            let near = budgets.list_in(&pod.namespace().unwrap_or_default());
            let own = near.iter().filter(|budget| selects(budget, pod));
            own.map(|budget| Key::of(budget.as_ref())).collect()
        };
        let all = || keys_of(&self.informers.budgets);
        vec![
            wakes(&self.informers.budgets, |budget| vec![Key::of(budget)], all()),
            wakes(&self.informers.pods, of_pod, all()),
        ]
    }

    /// How many pods the owners of these want in all.
    fn scale(&self, namespace: &str, pods: &[&Pod]) -> Result<i32, String> {
        let mut owners: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let owner = controller_of(&pod.metadata)
                .ok_or_else(|| format!("found no controllers for pod {:?}", pod.name_any()))?;
            let (uid, replicas) = match owner.kind.as_str() {
                "ReplicaSet" => self.of_replica_set(namespace, &owner.name),
                "StatefulSet" => self
                    .informers
                    .stateful_sets
                    .get(Some(namespace), &owner.name)
                    .and_then(|set| Some((set.uid()?, set.spec.as_ref()?.replicas?))),
                _ => None,
            }
            .ok_or_else(|| format!("{} does not implement the scale subresource", owner.kind))?;
            owners.insert(uid, replicas);
        }
        Ok(owners.into_values().sum())
    }

    fn of_replica_set(&self, namespace: &str, name: &str) -> Option<(String, i32)> {
        let set = self.informers.replica_sets.get(Some(namespace), name)?;
        let deployment = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment");
        if let Some(owner) = deployment {
            let deployment = self.informers.deployments.get(Some(namespace), &owner.name)?;
            return Some((deployment.uid()?, deployment.spec.as_ref()?.replicas?));
        }
        Some((set.uid()?, set.spec.as_ref()?.replicas?))
    }
}

impl Reconcile for Disruptions {
    type Key = Key;
    const NAME: &'static str = "disruption";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(budget) = self.informers.budgets.get(Some(&key.namespace), &key.name) else {
            return Ok(None);
        };
        let near = self.informers.pods.list_in(&key.namespace);
        let pods: Vec<&Pod> = near
            .iter()
            .map(AsRef::as_ref)
            .filter(|pod| !is_finished(pod) && selects(&budget, pod))
            .collect();
        let now = Timestamp::now();
        let wanted = wanted(&budget, pods.len(), || self.scale(&key.namespace, &pods));
        let (status, again) = match wanted {
            Ok(wanted) => plan(&budget, &pods, wanted, now),
            Err(why) => {
                let before = budget.status.clone().unwrap_or_default();
                let conditions = condition(
                    before.conditions.clone(),
                    "False",
                    "SyncFailed",
                    &why,
                    &budget,
                    now,
                );
                let status = PodDisruptionBudgetStatus {
                    conditions: Some(conditions),
                    disruptions_allowed: Some(0),
                    observed_generation: budget.metadata.generation,
                    ..before
                };
                (status, None)
            }
        };
        if budget.status.as_ref() != Some(&status) {
            let mut changed = budget.as_ref().clone();
            changed.status = Some(status);
            let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), &key.namespace);
            budgets
                .replace_status(&key.name, &PostParams::default(), &changed)
                .await
                .or_gone()?;
        }
        Ok(again)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        from_value(json!({ "metadata": { "generation": 3 }, "spec": spec, "status": status })).unwrap()
    }

    fn pod(name: &str, ready: bool) -> Pod {
        let conditions = json!([{ "type": "Ready", "status": if ready { "True" } else { "False" } }]);
        from_value(json!({ "metadata": { "name": name }, "status": { "conditions": conditions } })).unwrap()
    }

    #[test]
    fn budgets_want_numbers_or_parts() {
        for (spec, expected) in [
            (json!({ "minAvailable": 2 }), Ok((3, 2))),
            (json!({ "minAvailable": "50%" }), Ok((5, 3))),
            (json!({ "maxUnavailable": 1 }), Ok((5, 4))),
            (json!({ "maxUnavailable": "30%" }), Ok((5, 3))),
            (json!({ "maxUnavailable": 9 }), Ok((5, 0))),
            (json!({}), Ok((3, 1))),
            (
                json!({ "minAvailable": "half" }),
                Err("\"half\" is neither a number nor a percentage".to_owned()),
            ),
        ] {
            assert_eq!(
                wanted(&budget(spec.clone(), Value::Null), 3, || Ok(5)),
                expected,
                "{spec}"
            );
        }
    }

    #[test]
    fn evicted_pods_are_gone_until_they_never_will_be() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let status = json!({ "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
            "disruptedPods": { "a": "2026-01-01T00:09:30Z", "b": "2026-01-01T00:01:00Z", "gone": "2026-01-01T00:09:59Z" } });
        let pods = [pod("a", true), pod("b", true), pod("c", true), pod("d", false)];
        let pods: Vec<&Pod> = pods.iter().collect();
        let (status, again) = plan(&budget(json!({}), status), &pods, (4, 1), now);
        assert_eq!(
            (status.current_healthy, status.disruptions_allowed),
            (Some(2), Some(1))
        );
        let disrupted: Vec<String> = status.disrupted_pods.unwrap().into_keys().collect();
        assert_eq!(disrupted, ["a"]);
        assert_eq!(again, Some(Duration::from_secs(90)));
        assert_eq!(status.conditions.unwrap()[0].reason, "SufficientPods");
    }
}
