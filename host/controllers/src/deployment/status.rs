//! A Deployment's status and conditions, in the original's words: `kubectl rollout status` reads them. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::size::{Limits, wanted};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Seconds that mean "no deadline".
const NO_DEADLINE: i32 = i32::MAX;

/// What happened in this pass that a condition should tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    Nothing,
    Created(String),
    Found(String),
    CouldNotCreate(String),
}

fn reason_of(condition: Option<&DeploymentCondition>) -> &str {
    condition
        .and_then(|condition| condition.reason.as_deref())
        .unwrap_or_default()
}

/// The status that follows from the sets as they are seen, and when to look again though nothing changes.
pub(crate) fn status(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    new: Option<usize>,
    happened: &Happened,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let before = deployment.status.clone().unwrap_or_default();
    let limits = Limits::of(deployment);
    let mut counts = counts(deployment, sets, new);
    let mut conditions = Conditions {
        all: before.conditions.clone().unwrap_or_default(),
        now,
    };

    if counts.available_replicas.unwrap_or(0) >= limits.desired - limits.unavailable {
        conditions.set(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.".into(),
        );
    } else {
        let message = "Deployment does not have minimum availability.".into();
        conditions.set(AVAILABLE, "False", "MinimumReplicasUnavailable", message);
    }
    let next = progress(deployment, &before, &counts, sets, new, happened, &mut conditions);

    let failure = sets
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) == new || new.is_none())
        .find_map(|(_, set)| {
            set.status
                .as_ref()?
                .conditions
                .as_ref()?
                .iter()
                .find(|condition| condition.type_ == REPLICA_FAILURE)
        });
    match (failure, happened) {
        (Some(failure), _) => conditions.set(
            REPLICA_FAILURE,
            "True",
            failure.reason.as_deref().unwrap_or_default(),
            failure.message.clone().unwrap_or_default(),
        ),
        (None, Happened::CouldNotCreate(_)) => {}
        (None, _) => conditions.remove(REPLICA_FAILURE),
    }
    counts.conditions = Some(conditions.all);
    (counts, next)
}

fn counts(deployment: &Deployment, sets: &[ReplicaSet], new: Option<usize>) -> DeploymentStatus {
    let sum = |of: &dyn Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        sets.iter().filter_map(|set| set.status.as_ref()).map(of).sum()
    };
    let some = |count: i32| (count != 0).then_some(count);
    let up = sum(&|status| status.available_replicas.unwrap_or(0));
    let asked: i32 = sets.iter().map(wanted).sum();
    let updated = new
        .and_then(|new| sets[new].status.as_ref())
        .map_or(0, |status| status.replicas);
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&|status| status.replicas)),
        updated_replicas: some(updated),
        ready_replicas: some(sum(&|status| status.ready_replicas.unwrap_or(0))),
        available_replicas: some(up),
        unavailable_replicas: some((asked - up).max(0)),
        terminating_replicas: Some(sum(&|status| status.terminating_replicas.unwrap_or(0))),
        collision_count: deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count),
        conditions: None,
    }
}

/// Whether all is as the Deployment wants it and nothing old is left.
pub(crate) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let desired = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    status.updated_replicas.unwrap_or(0) == desired
        && status.replicas.unwrap_or(0) == desired
        && status.available_replicas.unwrap_or(0) == desired
        && status.observed_generation >= deployment.metadata.generation
}

fn progress(
    deployment: &Deployment,
    before: &DeploymentStatus,
    counts: &DeploymentStatus,
    sets: &[ReplicaSet],
    new: Option<usize>,
    happened: &Happened,
    conditions: &mut Conditions,
) -> Option<Duration> {
    let spec = deployment.spec.as_ref()?;
    let deadline = spec.progress_deadline_seconds.unwrap_or(NO_DEADLINE);
    if deadline == NO_DEADLINE {
        conditions.remove(PROGRESSING);
        return None;
    }
    let paused = spec.paused.unwrap_or(false);
    let was_paused = reason_of(conditions.get(PROGRESSING)) == "DeploymentPaused";
    if paused != was_paused {
        let (reason, message) = if paused {
            ("DeploymentPaused", "Deployment is paused")
        } else {
            ("DeploymentResumed", "Deployment is resumed")
        };
        conditions.set(PROGRESSING, "Unknown", reason, message.into());
    }
    if paused {
        return None;
    }
    match happened {
        Happened::Nothing => {}
        Happened::Created(name) => {
            let message = format!("Created new replica set \"{name}\"");
            conditions.set(PROGRESSING, "True", "NewReplicaSetCreated", message);
        }
        Happened::Found(name) if conditions.get(PROGRESSING).is_none() => {
            let message = format!("Found new replica set \"{name}\"");
            conditions.set(PROGRESSING, "True", "FoundNewReplicaSet", message);
        }
        Happened::Found(_) => {}
        Happened::CouldNotCreate(why) => {
            let message = format!("Failed to create new replica set: {why}");
            conditions.set(PROGRESSING, "False", "ReplicaSetCreateError", message);
            return None;
        }
    }
    // A rollout that came to its end stays complete while pods come and go, until a new one starts.
    let done = reason_of(conditions.get(PROGRESSING)) == "NewReplicaSetAvailable"
        && counts.replicas.unwrap_or(0) == counts.updated_replicas.unwrap_or(0);
    let subject = match new {
        Some(new) => format!("ReplicaSet \"{}\"", sets[new].name_any()),
        None => format!("Deployment \"{}\"", deployment.name_any()),
    };
    if is_complete(deployment, counts) {
        let message = format!("{subject} has successfully progressed.");
        conditions.set(PROGRESSING, "True", "NewReplicaSetAvailable", message);
        return None;
    }
    if done {
        return None;
    }
    if is_progressing(before, counts) {
        conditions.refresh(
            PROGRESSING,
            "True",
            "ReplicaSetUpdated",
            format!("{subject} is progressing."),
        );
    }
    timed_out(deadline, &subject, conditions)
}

fn is_progressing(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let of = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| of(status.replicas) - of(status.updated_replicas);
    of(now.updated_replicas) > of(before.updated_replicas)
        || old(now) < old(before)
        || of(now.ready_replicas) > of(before.ready_replicas)
        || of(now.available_replicas) > of(before.available_replicas)
}

fn timed_out(deadline_seconds: i32, subject: &str, conditions: &mut Conditions) -> Option<Duration> {
    let now = conditions.now;
    let condition = conditions.get(PROGRESSING)?;
    if reason_of(Some(condition)) == "ProgressDeadlineExceeded" {
        return None;
    }
    let since = condition.last_update_time.as_ref().map_or(now, |time| time.0);
    let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let deadline = Duration::from_secs(u64::from(deadline_seconds.unsigned_abs()));
    match deadline.checked_sub(been) {
        Some(left) if !left.is_zero() => Some(left + Duration::from_millis(10)),
        _ => {
            let message = format!("{subject} has timed out progressing.");
            conditions.set(PROGRESSING, "False", "ProgressDeadlineExceeded", message);
            None
        }
    }
}

struct Conditions {
    all: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, type_: &str) -> Option<&DeploymentCondition> {
        self.all.iter().find(|condition| condition.type_ == type_)
    }

    fn remove(&mut self, type_: &str) {
        self.all.retain(|condition| condition.type_ != type_);
    }

    /// Sets it unless status and reason are what they were.
    fn set(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let same = self
            .get(type_)
            .is_some_and(|before| before.status == status && before.reason.as_deref() == Some(reason));
        if !same {
            self.refresh(type_, status, reason, message);
        }
    }

    /// Sets it with a fresh update time.
    fn refresh(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let before = self.get(type_);
        let transition = before
            .filter(|before| before.status == status)
            .and_then(|before| before.last_transition_time.clone());
        let condition = DeploymentCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(Time(self.now)),
            last_transition_time: transition.or(Some(Time(self.now))),
        };
        self.remove(type_);
        self.all.push(condition);
    }
}

#[cfg(test)]
pub(crate) fn reason<'a>(status: &'a DeploymentStatus, type_: &str) -> Option<(&'a str, &'a str)> {
    let condition = status
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == type_)?;
    Some((
        condition.status.as_str(),
        condition.reason.as_deref().unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn deployment(status: serde_json::Value, paused: bool) -> Deployment {
        from_value(json!({
            "metadata": {"name": "web", "generation": 2},
            "spec": {"replicas": 3, "paused": paused, "progressDeadlineSeconds": 600, "selector": {}, "template": {}},
            "status": status,
        }))
        .unwrap()
    }

    fn set(name: &str, size: i32, up: i32) -> ReplicaSet {
        from_value(json!({
            "metadata": {"name": name},
            "spec": {"replicas": size, "selector": {}},
            "status": {"replicas": size, "readyReplicas": up, "availableReplicas": up},
        }))
        .unwrap()
    }

    #[test]
    fn conditions_tell_the_story_of_a_rollout() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let deployment_0 = deployment(json!({}), false);
        let created = Happened::Created("web-1".into());
        let (status_1, next) = status(&deployment_0, &[], None, &created, at(0));
        assert_eq!(
            reason(&status_1, PROGRESSING),
            Some(("True", "NewReplicaSetCreated"))
        );
        assert_eq!(
            reason(&status_1, AVAILABLE),
            Some(("False", "MinimumReplicasUnavailable"))
        );
        assert_eq!(next, Some(Duration::from_millis(600_010)));

        let deployment_1 = deployment(serde_json::to_value(&status_1).unwrap(), false);
        let sets = [set("web-1", 3, 1)];
        let (status_2, _) = status(&deployment_1, &sets, Some(0), &Happened::Nothing, at(5));
        assert_eq!(
            reason(&status_2, PROGRESSING),
            Some(("True", "ReplicaSetUpdated"))
        );
        assert_eq!(
            (status_2.updated_replicas, status_2.unavailable_replicas),
            (Some(3), Some(2))
        );

        let deployment_2 = deployment(serde_json::to_value(&status_2).unwrap(), false);
        let (late, _) = status(&deployment_2, &sets, Some(0), &Happened::Nothing, at(700));
        assert_eq!(
            reason(&late, PROGRESSING),
            Some(("False", "ProgressDeadlineExceeded"))
        );

        let (status_3, next) = status(
            &deployment_2,
            &[set("web-1", 3, 3)],
            Some(0),
            &Happened::Nothing,
            at(6),
        );
        assert_eq!(
            reason(&status_3, PROGRESSING),
            Some(("True", "NewReplicaSetAvailable"))
        );
        assert_eq!(
            reason(&status_3, AVAILABLE),
            Some(("True", "MinimumReplicasAvailable"))
        );
        assert_eq!(next, None);

        let deployment_3 = deployment(serde_json::to_value(&status_3).unwrap(), false);
        let (again, _) = status(
            &deployment_3,
            &[set("web-1", 3, 3)],
            Some(0),
            &Happened::Nothing,
            at(9),
        );
        assert_eq!(again, status_3, "nothing new is not written");
        let (lost, _) = status(
            &deployment_3,
            &[set("web-1", 3, 2)],
            Some(0),
            &Happened::Nothing,
            at(9000),
        );
        assert_eq!(
            reason(&lost, PROGRESSING),
            Some(("True", "NewReplicaSetAvailable")),
            "no rollout, no deadline"
        );

        let paused = deployment(serde_json::to_value(&status_3).unwrap(), true);
        let (status_4, _) = status(
            &paused,
            &[set("web-1", 3, 3)],
            Some(0),
            &Happened::Nothing,
            at(10),
        );
        assert_eq!(
            reason(&status_4, PROGRESSING),
            Some(("Unknown", "DeploymentPaused"))
        );
        let resumed = deployment(serde_json::to_value(&status_4).unwrap(), false);
        let (status_5, _) = status(
            &resumed,
            &[set("web-1", 3, 2)],
            Some(0),
            &Happened::Nothing,
            at(11),
        );
        assert_eq!(
            reason(&status_5, PROGRESSING),
            Some(("Unknown", "DeploymentResumed"))
        );
    }
}
