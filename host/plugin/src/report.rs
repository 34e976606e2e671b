//! What a host says of a plugin: conditions, counts, and a page of metrics. Pure: no clock, no cluster.

use std::fmt::Write;

use capstan_kinds::plugin::HostStatus;

use crate::error::Step;
use crate::slot::Tenure;

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
    if let Some(revision) = &tenure.current {
        let reading = revision.stats.read();
        report.title = revision.title.clone();
        report.digest = revision.fingerprint.digest.clone();
        report.worlds = revision.worlds.clone();
        report.host.digest = report.digest.clone();
        report.host.calls += reading.calls;
        report.host.traps += reading.traps;
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
    if let Some(failure) = &tenure.failure {
        report.last_error = failure.message.clone();
        report.host.message = failure.message.clone();
        report.retry = failure.transient;
    }
    report
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
        .filter(|failure| failure.reason == "RolledBack");
    if let Some(failure) = rolled_back {
        return said("True", "RolledBack", failure.message.clone());
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

/// The host's own series about its plugins.
pub(crate) fn metrics<'a>(plugins: impl Iterator<Item = (&'a str, Tenure)>) -> String {
    let rows: Vec<_> = plugins
        .map(|(name, tenure)| {
            let reading = tenure
                .current
                .as_ref()
                .map(|revision| revision.stats.read())
                .unwrap_or_default();
            (
                name,
                tenure.calls_before + reading.calls,
                tenure.traps_before + reading.traps,
                reading,
            )
        })
        .collect();
    let mut page = String::from("# TYPE capstan_plugin_calls_total counter\n");
    for (name, calls, ..) in &rows {
        let _ = writeln!(page, "capstan_plugin_calls_total{{plugin=\"{name}\"}} {calls}");
    }
    page.push_str("# TYPE capstan_plugin_traps_total counter\n");
    for (name, _, traps, _) in &rows {
        let _ = writeln!(page, "capstan_plugin_traps_total{{plugin=\"{name}\"}} {traps}");
    }
    page.push_str("# TYPE capstan_plugin_call_seconds summary\n");
    for (name, _, _, reading) in &rows {
        for (quantile, micros) in [("0.5", reading.p50_micros), ("0.99", reading.p99_micros)] {
            let seconds = micros as f64 / 1e6;
            let labels = format!("plugin=\"{name}\",quantile=\"{quantile}\"");
            let _ = writeln!(page, "capstan_plugin_call_seconds{{{labels}}} {seconds}");
        }
        let (sum, count) = (reading.seconds_total, reading.calls);
        let _ = writeln!(page, "capstan_plugin_call_seconds_sum{{plugin=\"{name}\"}} {sum}");
        let _ = writeln!(
            page,
            "capstan_plugin_call_seconds_count{{plugin=\"{name}\"}} {count}"
        );
    }
    page
}
