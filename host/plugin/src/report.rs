//! What a host says of a plugin: conditions, counts and revisions. Pure: no clock, no cluster.

use std::sync::Arc;

use capstan_kinds::plugin::{CandidateStatus, HostStatus, Outcome, PastRevision, PluginSpec};

use crate::error::Step;
use crate::revision::{Fingerprint, Revision};
use crate::slot::{Fallen, Tenure};

/// Bytes of a spec that the history keeps.
const SPEC_BYTES_MAX: usize = 32 << 10;

/// One host's report on one plugin.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Report {
    pub generation: Option<i64>,
    /// Name and version of the running revision; empty when nothing runs.
    pub title: String,
    pub digest: String,
    pub worlds: Vec<String>,
    /// The steps' conditions in order, then `Degraded`.
    pub conditions: Vec<Said>,
    pub host: HostStatus,
    pub last_error: String,
    pub candidate: Option<CandidateStatus>,
    /// The running revision, without number and time.
    pub serving: Option<PastRevision>,
    /// Revisions that were rolled back or dropped, the newest last.
    pub fallen: Vec<PastRevision>,
    /// Whether trying again without any change may succeed.
    pub retry: bool,
}

/// A condition without its time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Said {
    pub type_name: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

pub(crate) fn of(host: &str, tenure: &Tenure) -> Report {
    let mut report = Report {
        generation: tenure.generation,
        conditions: conditions(tenure),
        ..Report::default()
    };
    report.host.name = host.to_owned();
    report.host.calls = tenure.calls_before;
    report.host.traps = tenure.traps_before;
    report.host.verdicts = tenure.verdicts_before;
    report.candidate = candidate(tenure);
    report.fallen = tenure.fallen.iter().map(fallen).collect();
    if let Some(revision) = &tenure.current {
        let reading = revision.stats.read();
        report.title = revision.title.clone();
        report.digest = revision.fingerprint.digest.clone();
        report.worlds = revision.worlds.clone();
        report.host.digest = report.digest.clone();
        report.host.calls += reading.calls;
        report.host.traps += reading.traps;
        report.host.verdicts += reading.verdicts;
        report.serving = Some(serving(revision));
        report.host.p50_micros = reading.p50_micros;
        report.host.p99_micros = reading.p99_micros;
        report.host.memory_bytes = reading.memory_bytes;
        report.last_error = reading.last_error;
    }
    let ready = report
        .conditions
        .iter()
        .find(|said| said.type_name == Step::Ready.condition());
    report.host.ready = ready.is_some_and(|said| said.status == "True");
    if let Some(ready) = ready.filter(|said| said.reason == "OnTrial") {
        report.host.message = ready.message.clone();
    }
    if let Some(failure) = &tenure.failure {
        report.last_error = failure.message.clone();
        report.host.message = failure.message.clone();
        report.retry = failure.transient;
    }
    report
}

fn candidate(tenure: &Tenure) -> Option<CandidateStatus> {
    let (revision, trial) = {
        let candidate = tenure.candidate.as_ref()?;
        (&candidate.revision, &candidate.trial)
    };
    let tally = trial.tally();
    let serving = tenure.current.as_ref();
    Some(CandidateStatus {
        revision: revision.title.clone(),
        digest: revision.fingerprint.digest.clone(),
        strategy: trial.strategy(),
        calls: tally.calls,
        errors: tally.errors,
        differences: tally.differences,
        last_difference: tally.last_difference,
        p99_micros: revision.stats.read().p99_micros,
        serving_p99_micros: serving.map_or(0, |serving| serving.stats.read().p99_micros),
    })
}

fn serving(revision: &Revision) -> PastRevision {
    past(&revision.fingerprint, &revision.title, Outcome::Serving, "")
}

fn fallen(fallen: &Arc<Fallen>) -> PastRevision {
    past(&fallen.fingerprint, &fallen.title, fallen.outcome, &fallen.reason)
}

fn past(fingerprint: &Fingerprint, title: &str, outcome: Outcome, reason: &str) -> PastRevision {
    let is_small =
        |spec: &&PluginSpec| serde_json::to_vec(spec).is_ok_and(|text| text.len() <= SPEC_BYTES_MAX);
    PastRevision {
        key: fingerprint.key(),
        revision: title.to_owned(),
        digest: fingerprint.digest.clone(),
        outcome,
        reason: reason.to_owned(),
        spec: Some(&fingerprint.spec).filter(is_small).cloned(),
        ..PastRevision::default()
    }
}

fn conditions(tenure: &Tenure) -> Vec<Said> {
    let title = tenure.current.as_ref().map(|revision| revision.title.as_str());
    let failed = tenure.failure.as_ref();
    let mut conditions: Vec<Said> = Step::ALL
        .into_iter()
        .map(|step| {
            let said = |status, reason, message: String| Said {
                type_name: step.condition(),
                status,
                reason,
                message,
            };
            match failed {
                None if step == Step::Ready && tenure.candidate.is_some() => {
                    said("False", "OnTrial", on_trial(tenure))
                }
                None => said(
                    "True",
                    "Succeeded",
                    format!("{} serves", title.unwrap_or("nothing")),
                ),
                Some(failure) if step < failure.step => said("True", "Succeeded", String::new()),
                Some(failure) if step == failure.step || step == Step::Ready => {
                    let serving = match title {
                        Some(title) => format!("{}; {title} keeps serving", failure.message),
                        None => failure.message.clone(),
                    };
                    said("False", failure.reason, serving)
                }
                Some(_) => said("Unknown", "NotReached", "an earlier step failed".into()),
            }
        })
        .collect();
    conditions.push(degraded(tenure));
    conditions
}

fn on_trial(tenure: &Tenure) -> String {
    let Some(candidate) = &tenure.candidate else {
        return String::new();
    };
    let rule = candidate.trial.rule();
    let serving = tenure
        .current
        .as_ref()
        .map_or("nothing", |serving| &serving.title);
    let decides = if rule.manual {
        "somebody promotes it"
    } else {
        "it promotes itself"
    };
    format!(
        "{} is on trial: {decides} after {} calls; {serving} keeps serving",
        candidate.revision.title, rule.min_calls
    )
}

fn degraded(tenure: &Tenure) -> Said {
    let said = |status, reason, message| Said {
        type_name: "Degraded",
        status,
        reason,
        message,
    };
    let rolled_back = tenure
        .failure
        .as_ref()
        .filter(|failure| matches!(failure.reason, "RolledBack" | "TrialFailed"));
    if let Some(failure) = rolled_back {
        return said("True", failure.reason, failure.message.clone());
    }
    match tenure.current.as_ref().map(|revision| &revision.health) {
        Some(health) => match (health.admit(), health.degraded()) {
            (Err(fault), _) => said("True", "SetAside", fault.message),
            (_, Some(last)) => said("True", "Faults", last),
            _ => said("False", "AsExpected", String::new()),
        },
        None => said("False", "NotRunning", String::new()),
    }
}
