//! What a Job needs: pods to start or stop, its status, and when its time is over. Pure.
//!
//! Invariants: no more pods at a time than `parallelism`, no more successes wanted than `completions`; a Job
//! that has ended never starts a pod again; failures back off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::pod;

pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

const BACKOFF_MIN: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);

/// Pods that are started in one go.
const BURST_MAX: usize = 500;

/// What is seen of one Job.
pub(crate) struct Snapshot<'a> {
    pub(crate) job: &'a Job,
    pub(crate) pods: &'a [Arc<Pod>],
    /// Whether the cache shows all that we did; if not, no pod is started or stopped.
    pub(crate) settled: bool,
    pub(crate) now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    /// Start pods, for an Indexed Job of these indexes.
    Start(Vec<Option<i32>>),
    Stop(Vec<Arc<Pod>>),
    Status(Box<JobStatus>),
    /// Its time after the end is over.
    Delete,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    pub(crate) again: Option<Duration>,
}

fn ended_at(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let end = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(
        end.last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    )
}

pub(crate) fn index_of(pod: &Pod) -> Option<i32> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// Decides.
pub(crate) fn plan(seen: &Snapshot<'_>) -> Plan {
    let spec = seen.job.spec.clone().unwrap_or_default();
    if seen.job.metadata.deletion_timestamp.is_some() {
        return Plan::default();
    }
    if let Some(ended) = ended_at(seen.job) {
        return after_the_end(seen, spec.ttl_seconds_after_finished, ended);
    }
    let counts = Counts::of(seen);
    let mut status = seen.job.status.clone().unwrap_or_default();
    let suspended = spec.suspend.unwrap_or(false);
    status.start_time = match (suspended, status.start_time) {
        (true, _) => None,
        (false, start) => start.or(Some(Time(seen.now))),
    };
    status.succeeded = some(counts.succeeded);
    status.failed = some(counts.failed);
    status.completed_indexes = spec
        .completion_mode
        .as_deref()
        .filter(|mode| *mode == "Indexed")
        .map(|_| ranges(&counts.indexes));
    set(
        &mut status,
        "Suspended",
        suspended,
        "JobSuspended",
        "Job suspended",
        seen.now,
    );

    let since = status.start_time.as_ref().map_or(seen.now, |time| time.0);
    let deadline = spec
        .active_deadline_seconds
        .map(|seconds| left(since, seconds, seen.now));
    let end = if counts.failed > spec.backoff_limit.unwrap_or(6) {
        Some((
            "Failed",
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        ))
    } else if !suspended && deadline == Some(None) {
        Some((
            "Failed",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        ))
    } else if counts.is_complete(spec.completions) {
        Some((
            "Complete",
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        ))
    } else {
        None
    };
    let mut changes = Vec::new();
    let mut again = deadline.flatten();
    if let Some((type_, reason, message)) = end {
        set(&mut status, type_, true, reason, message, seen.now);
        (status.active, status.ready) = (None, Some(0));
        if type_ == "Complete" {
            status.completion_time = Some(Time(seen.now));
        }
        if !counts.active.is_empty() {
            changes.push(Change::Stop(counts.active.clone()));
        }
        again = spec
            .ttl_seconds_after_finished
            .and_then(|seconds| left(seen.now, i64::from(seconds), seen.now));
    } else {
        let ready = counts.active.iter().filter(|pod| pod::is_ready(pod)).count();
        status.active = some(i32::try_from(counts.active.len()).unwrap_or(i32::MAX));
        status.ready = Some(i32::try_from(ready).unwrap_or(i32::MAX));
        if seen.settled {
            let (change, wait) = counts.manage(seen, suspended);
            changes.extend(change);
            again = [again, wait].into_iter().flatten().min();
        }
    }
    if seen.job.status.as_ref() != Some(&status) {
        changes.push(Change::Status(Box::new(status)));
    }
    Plan { changes, again }
}

fn after_the_end(seen: &Snapshot<'_>, ttl_seconds: Option<i32>, ended: Timestamp) -> Plan {
    let active: Vec<_> = seen
        .pods
        .iter()
        .filter(|pod| pod::is_active(pod))
        .cloned()
        .collect();
    let stop = if active.is_empty() {
        Vec::new()
    } else {
        vec![Change::Stop(active)]
    };
    match ttl_seconds.map(|seconds| left(ended, i64::from(seconds), seen.now)) {
        None => Plan {
            changes: stop,
            again: None,
        },
        Some(Some(left)) => Plan {
            changes: stop,
            again: Some(left),
        },
        Some(None) => Plan {
            changes: vec![Change::Delete],
            again: None,
        },
    }
}

/// What is left of so many seconds; `None` when they are over.
fn left(since: Timestamp, seconds: i64, now: Timestamp) -> Option<Duration> {
    let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        .checked_sub(been)
        .filter(|left| !left.is_zero())
}

fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

fn set(status: &mut JobStatus, type_: &str, holds: bool, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_with(Vec::new);
    let value = if holds { "True" } else { "False" };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(condition) if condition.status != value => {
            condition.status = value.to_owned();
            condition.last_transition_time = Some(Time(now));
            if type_ == "Suspended" && !holds {
                condition.reason = Some("JobResumed".to_owned());
                condition.message = Some("Job resumed".to_owned());
            }
        }
        Some(_) => {}
        None if holds => conditions.push(JobCondition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_probe_time: Some(Time(now)),
            last_transition_time: Some(Time(now)),
        }),
        None => {}
    }
    if conditions.is_empty() {
        status.conditions = None;
    }
}

struct Counts {
    active: Vec<Arc<Pod>>,
    succeeded: i32,
    failed: i32,
    indexes: BTreeSet<i32>,
    last_failure: Option<Timestamp>,
}

impl Counts {
    fn of(seen: &Snapshot<'_>) -> Self {
        let before = seen.job.status.clone().unwrap_or_default();
        let in_phase = |phase: &'static str| seen.pods.iter().filter(move |pod| pod::phase(pod) == phase);
        let count = |phase| i32::try_from(in_phase(phase).count()).unwrap_or(i32::MAX);
        let indexed = seen
            .job
            .spec
            .as_ref()
            .and_then(|spec| spec.completion_mode.as_deref())
            == Some("Indexed");
        let indexes: BTreeSet<i32> = in_phase("Succeeded")
            .filter_map(|pod| index_of(pod))
            .chain(parse(before.completed_indexes.as_deref()))
            .collect();
        let succeeded = if indexed {
            i32::try_from(indexes.len()).unwrap_or(i32::MAX)
        } else {
            count("Succeeded")
        };
        let ready_changed =
            |pod: &Arc<Pod>| Some(pod::condition(pod, "Ready")?.last_transition_time.as_ref()?.0);
        let created = |pod: &Arc<Pod>| Some(pod.metadata.creation_timestamp.as_ref()?.0);
        Self {
            active: seen
                .pods
                .iter()
                .filter(|pod| pod::is_active(pod))
                .cloned()
                .collect(),
            // A pod that was cleared away still counts.
            succeeded: succeeded.max(before.succeeded.unwrap_or(0)),
            failed: count("Failed").max(before.failed.unwrap_or(0)),
            indexes,
            last_failure: in_phase("Failed")
                .filter_map(|pod| ready_changed(pod).or_else(|| created(pod)))
                .max(),
        }
    }

    /// Without `completions` any success ends it, once all its pods are through.
    fn is_complete(&self, completions: Option<i32>) -> bool {
        match completions {
            Some(completions) => self.succeeded >= completions,
            None => self.succeeded > 0 && self.active.is_empty(),
        }
    }

    fn manage(&self, seen: &Snapshot<'_>, suspended: bool) -> (Option<Change>, Option<Duration>) {
        let spec = seen.job.spec.clone().unwrap_or_default();
        let parallelism = spec.parallelism.unwrap_or(1).max(0);
        let rest = match spec.completions {
            Some(completions) => (completions - self.succeeded).max(0),
            None if self.succeeded > 0 => i32::try_from(self.active.len()).unwrap_or(i32::MAX),
            None => i32::MAX,
        };
        let wanted = if suspended {
            0
        } else {
            usize::try_from(parallelism.min(rest)).unwrap_or(0)
        };
        let active = self.active.len();
        if active > wanted {
            let mut stop = self.active.clone();
            stop.sort_by_key(|pod| pod::is_ready(pod));
            stop.truncate(active - wanted);
            return (Some(Change::Stop(stop)), None);
        }
        let missing = (wanted - active).min(BURST_MAX);
        if missing == 0 {
            return (None, None);
        }
        if let (Some(last), true) = (self.last_failure, self.failed > 0) {
            let doubled = BACKOFF_MIN
                .saturating_mul(1u32 << (self.failed - 1).clamp(0, 16))
                .min(BACKOFF_MAX);
            if let Some(wait) = left(
                last,
                i64::try_from(doubled.as_secs()).unwrap_or(i64::MAX),
                seen.now,
            ) {
                return (None, Some(wait));
            }
        }
        if spec.completion_mode.as_deref() != Some("Indexed") {
            return (Some(Change::Start(vec![None; missing])), None);
        }
        let taken: BTreeSet<i32> = self.active.iter().filter_map(|pod| index_of(pod)).collect();
        let free =
            (0..spec.completions.unwrap_or(0)).filter(|at| !taken.contains(at) && !self.indexes.contains(at));
        let start: Vec<_> = free.take(missing).map(Some).collect();
        ((!start.is_empty()).then_some(Change::Start(start)), None)
    }
}

/// `0-2,5`, as the API writes sets of indexes.
fn ranges(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for &at in indexes {
        match runs.last_mut() {
            Some((_, end)) if *end + 1 == at => *end = at,
            _ => runs.push((at, at)),
        }
    }
    let text = |(start, end): &(i32, i32)| {
        if start == end {
            start.to_string()
        } else {
            format!("{start}-{end}")
        }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// Reads what [`ranges`] wrote.
fn parse(text: Option<&str>) -> Vec<i32> {
    let runs = text.unwrap_or_default().split(',').filter_map(|run| {
        let (start, end) = run.split_once('-').unwrap_or((run, run));
        Some(start.parse::<i32>().ok()?..=end.parse().ok()?)
    });
    runs.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn pods(phases: &[&str]) -> Vec<Arc<Pod>> {
        let pod = |(at, phase): (usize, &&str)| {
            let pod = json!({
                "metadata": {"name": format!("p{at}"), "annotations": {INDEX: at.to_string()}, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "status": {"phase": phase},
            });
            Arc::new(from_value(pod).unwrap())
        };
        phases.iter().enumerate().map(pod).collect()
    }

    fn after(spec: Value, phases: &[&str], seconds: i64) -> (String, Option<Duration>) {
        let job: Job = from_value(json!({"metadata": {"name": "j"}, "spec": spec,
            "status": {"startTime": "2026-01-01T00:00:00Z"}}))
        .unwrap();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let now = Timestamp::from_second(start.as_second() + seconds).unwrap();
        let plan = plan(&Snapshot {
            job: &job,
            pods: &pods(phases),
            settled: true,
            now,
        });
        let mut said = Vec::new();
        for change in plan.changes {
            said.push(match change {
                Change::Start(indexes) => format!("start {indexes:?}"),
                Change::Stop(pods) => format!("stop {}", pods.len()),
                Change::Delete => "delete".to_owned(),
                Change::Status(status) => {
                    let end = status
                        .conditions
                        .iter()
                        .flatten()
                        .find(|c| c.status == "True")
                        .map(|c| c.reason.clone().unwrap());
                    format!(
                        "{}a {}s {}f {}{}",
                        status.active.unwrap_or(0),
                        status.succeeded.unwrap_or(0),
                        status.failed.unwrap_or(0),
                        status.completed_indexes.unwrap_or_default(),
                        end.unwrap_or_default()
                    )
                }
            });
        }
        (said.join("; "), plan.again)
    }

    #[test]
    fn decisions() {
        let job = |more: Value| {
            let mut spec = json!({"template": {}, "parallelism": 2, "completions": 3, "backoffLimit": 1});
            for (key, value) in more.as_object().unwrap() {
                spec[key] = value.clone();
            }
            spec
        };
        let cases = [
            (job(json!({})), vec![], "start [None, None]; 0a 0s 0f "),
            (
                job(json!({})),
                vec!["Running", "Succeeded", "Succeeded"],
                "1a 2s 0f ",
            ),
            (
                job(json!({})),
                vec!["Succeeded"; 3],
                "0a 3s 0f CompletionsReached",
            ),
            (
                job(json!({})),
                vec!["Failed", "Failed", "Running"],
                "stop 1; 0a 0s 2f BackoffLimitExceeded",
            ),
            (
                job(json!({"suspend": true})),
                vec!["Running"],
                "stop 1; 1a 0s 0f JobSuspended",
            ),
            (
                job(json!({"activeDeadlineSeconds": 5})),
                vec!["Running"],
                "stop 1; 0a 0s 0f DeadlineExceeded",
            ),
            (
                job(json!({"completionMode": "Indexed"})),
                vec!["Succeeded", "Running"],
                "start [Some(2)]; 1a 1s 0f 0",
            ),
            (
                json!({"template": {}, "parallelism": 2}),
                vec!["Succeeded", "Running"],
                "1a 1s 0f ",
            ),
        ];
        for (spec, phases, want) in cases {
            assert_eq!(after(spec.clone(), &phases, 60).0, want, "{spec} {phases:?}");
        }
        let (said, again) = after(job(json!({})), &["Failed", "Running"], 4);
        assert_eq!(
            (said.as_str(), again),
            ("1a 0s 1f ", Some(Duration::from_secs(6))),
            "failures back off"
        );
        assert_eq!(ranges(&parse(Some("0-2,5")).into_iter().collect()), "0-2,5");
    }
}
