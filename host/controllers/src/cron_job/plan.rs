//! What a CronJob needs now: a Job to start, Jobs to stop or to forget, and its status. Pure.
//!
//! Invariants: of the times that were missed only the last is made up for; a Job's name follows from its time,
//! so that no time is started twice.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::schedule::Schedule;
use crate::owner::reference;

/// Ended Jobs that are kept where the CronJob does not say.
const SUCCEEDED_KEPT: i32 = 3;
const FAILED_KEPT: i32 = 1;

/// What is seen of one CronJob.
pub(crate) struct Snapshot<'a> {
    pub(crate) cron: &'a CronJob,
    /// The Jobs that it controls.
    pub(crate) jobs: &'a [Arc<Job>],
    pub(crate) schedule: &'a Schedule,
    pub(crate) now: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Jobs that make room for the next, or that are kept long enough.
    pub(crate) delete: Vec<Arc<Job>>,
    pub(crate) start: Option<Box<Job>>,
    /// The time has come, but the one before still runs and the policy forbids two.
    pub(crate) skipped: bool,
    pub(crate) status: CronJobStatus,
    /// Until the next time.
    pub(crate) again: Option<Duration>,
}

/// How a Job ended, and when.
fn end(job: &Job) -> Option<(bool, Timestamp)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True")?;
    let at = end
        .last_transition_time
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some((end.type_ == "Complete", at))
}

/// Decides.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Plan {
    let spec = &seen.cron.spec;
    let before = seen.cron.status.clone().unwrap_or_default();
    let active: Vec<_> = seen
        .jobs
        .iter()
        .filter(|job| end(job).is_none())
        .cloned()
        .collect();
    let mut plan = Plan {
        delete: history(seen),
        ..Plan::default()
    };
    let succeeded = seen
        .jobs
        .iter()
        .filter_map(|job| end(job).filter(|(well, _)| *well));
    let last_success = succeeded.map(|(_, at)| at).max();
    let seen_before = before.last_successful_time.map(|time| time.0);
    plan.status = CronJobStatus {
        active: None,
        last_schedule_time: before.last_schedule_time,
        last_successful_time: last_success.max(seen_before).map(Time),
    };
    if seen.cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        let next = seen.schedule.next(seen.now);
        plan.again = next.and_then(|next| Duration::try_from(next.duration_since(seen.now)).ok());
        if let Some(due) = due(seen) {
            let there = seen
                .jobs
                .iter()
                .any(|job| job.name_any() == name_of(seen.cron, due));
            match spec.concurrency_policy.as_deref() {
                _ if there => {}
                Some("Forbid") if !active.is_empty() => plan.skipped = true,
                policy => {
                    if policy == Some("Replace") {
                        plan.delete.extend(active.iter().cloned());
                    }
                    plan.start = Some(Box::new(job_of(seen.cron, due)));
                }
            }
            if !plan.skipped {
                plan.status.last_schedule_time = Some(Time(due));
            }
        }
    }
    let stays = active.iter().filter(|job| !plan.delete.contains(job));
    let active: Vec<_> = stays.map(|job| refer(job)).collect();
    plan.status.active = (!active.is_empty()).then_some(active);
    plan
}

/// The last time that was due and not started.
fn due(seen: &Snapshot<'_>) -> Option<Timestamp> {
    let last = seen
        .cron
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref());
    let since = last.or(seen.cron.metadata.creation_timestamp.as_ref())?.0;
    let deadline = seen.cron.spec.starting_deadline_seconds;
    let earliest = deadline.and_then(|seconds| seen.now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    let after = earliest.map_or(since, |earliest| earliest.max(since));
    seen.schedule.last(after, seen.now)
}

/// Ended Jobs beyond what is kept, oldest first.
fn history(seen: &Snapshot<'_>) -> Vec<Arc<Job>> {
    let spec = &seen.cron.spec;
    let limits = [
        (true, spec.successful_jobs_history_limit.unwrap_or(SUCCEEDED_KEPT)),
        (false, spec.failed_jobs_history_limit.unwrap_or(FAILED_KEPT)),
    ];
    let of_kind = |(wanted, limit): (bool, i32)| {
        let ended = seen.jobs.iter().filter_map(|job| Some((end(job)?, job)));
        let mut ended: Vec<_> = ended
            .filter(|((well, _), _)| *well == wanted)
            .map(|((_, at), job)| (at, Arc::clone(job)))
            .collect();
        ended.sort_by_key(|(at, job)| (*at, job.name_any()));
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        ended.truncate(surplus);
        ended.into_iter().map(|(_, job)| job)
    };
    limits.into_iter().flat_map(of_kind).collect()
}

/// The original's: the time in minutes.
fn name_of(cron: &CronJob, due: Timestamp) -> String {
    format!("{}-{}", cron.name_any(), due.as_second() / 60)
}

fn job_of(cron: &CronJob, due: Timestamp) -> Job {
    let template = cron.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(
        "batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(),
        due.to_string(),
    );
    Job {
        metadata: ObjectMeta {
            name: Some(name_of(cron, due)),
            namespace: cron.namespace(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![reference(cron)]),
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

pub(crate) fn refer(job: &Job) -> ObjectReference {
    ObjectReference {
        resource_version: job.metadata.resource_version.clone(),
        ..crate::event::reference(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    /// At 00:10:30 of an hourly tenth minute; Jobs as `name state`.
    fn decide(spec: Value, last: &str, jobs: &str) -> String {
        let mut cron = json!({"metadata": {"name": "c", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"schedule": "", "jobTemplate": {}}, "status": {}});
        for (key, value) in spec.as_object().unwrap() {
            cron["spec"][key] = value.clone();
        }
        if !last.is_empty() {
            cron["status"]["lastScheduleTime"] = last.into();
        }
        let job = |text: &str| -> Arc<Job> {
            let (name, state) = text.split_once(' ').unwrap();
            let ended =
                json!([{"type": state, "status": "True", "lastTransitionTime": "1970-01-01T00:00:00Z"}]);
            let conditions = if state == "runs" { json!([]) } else { ended };
            Arc::new(
                from_value(json!({"metadata": {"name": name}, "status": {"conditions": conditions}}))
                    .unwrap(),
            )
        };
        let jobs: Vec<_> = jobs
            .split(", ")
            .filter(|text| !text.is_empty())
            .map(job)
            .collect();
        let plan = plan(&Snapshot {
            cron: &from_value(cron).unwrap(),
            jobs: &jobs,
            schedule: &Schedule::parse("10 * * * *", None).unwrap(),
            now: "1970-01-01T00:10:30Z".parse().unwrap(),
        });
        let mut said: Vec<String> = plan
            .delete
            .iter()
            .map(|job| format!("-{}", job.name_any()))
            .collect();
        said.extend(plan.start.map(|job| format!("+{}", job.name_any())));
        said.extend(plan.skipped.then(|| "skipped".to_owned()));
        said.extend(
            plan.status
                .active
                .iter()
                .flatten()
                .filter_map(|job| Some(format!("*{}", job.name.as_ref()?))),
        );
        said.extend(plan.again.map(|again| format!("{}s", again.as_secs())));
        said.join(" ")
    }

    #[test]
    fn decisions() {
        let plain = json!({});
        let many = "c-1 Complete, c-2 Complete, c-3 Complete, c-4 Complete, c-5 Failed, c-6 Failed";
        let cases = [
            (&plain, "", "", "+c-10 3570s"),
            (&plain, "1970-01-01T00:10:00Z", "", "3570s"),
            (&plain, "", "c-10 runs", "*c-10 3570s"),
            (&plain, "", "c-0 runs", "+c-10 *c-0 3570s"),
            (
                &json!({"concurrencyPolicy": "Forbid"}),
                "",
                "c-0 runs",
                "skipped *c-0 3570s",
            ),
            (
                &json!({"concurrencyPolicy": "Replace"}),
                "",
                "c-0 runs",
                "-c-0 +c-10 3570s",
            ),
            (&json!({"suspend": true}), "", "c-0 runs", "*c-0"),
            (&json!({"startingDeadlineSeconds": 20}), "", "", "3570s"),
            (&json!({"startingDeadlineSeconds": 40}), "", "", "+c-10 3570s"),
            (&plain, "1970-01-01T00:10:00Z", many, "-c-1 -c-5 3570s"),
            (
                &json!({"successfulJobsHistoryLimit": 0}),
                "1970-01-01T00:10:00Z",
                "c-1 Complete",
                "-c-1 3570s",
            ),
        ];
        for (spec, last, jobs, want) in cases {
            assert_eq!(decide(spec.clone(), last, jobs), want, "{spec} {last} {jobs}");
        }
    }
}
