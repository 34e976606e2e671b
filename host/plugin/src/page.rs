//! The host's own series about its plugins, in the Prometheus text form. Pure.

use std::fmt::Write;

use crate::slot::Tenure;
use crate::stats::{FAULT_KINDS, Reading};

/// Upper edges of the histogram's buckets, in microseconds.
const EDGES_MICROS: [u64; 14] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 1_000_000, 10_000_000,
];

struct Row<'a> {
    name: &'a str,
    tenure: Tenure,
    reading: Reading,
}

/// All series of all plugins. Counters go on over revisions, what is counted by fault and latency speaks of the running
/// one.
pub(crate) fn of<'a>(plugins: impl Iterator<Item = (&'a str, Tenure)>) -> String {
    let rows: Vec<Row<'_>> = plugins
        .map(|(name, tenure)| {
            let current = tenure.current.as_ref();
            let reading = current.map(|revision| revision.stats.read()).unwrap_or_default();
            Row {
                name,
                tenure,
                reading,
            }
        })
        .collect();
    let mut page = String::new();
    counts(&mut page, &rows);
    faults_and_verdicts(&mut page, &rows);
    latency(&mut page, &rows);
    page
}

fn series(page: &mut String, kind: &str, name: &str, rows: &[Row<'_>], value: impl Fn(&Row<'_>) -> u64) {
    let _ = writeln!(page, "# TYPE capstan_plugin_{name} {kind}");
    for row in rows {
        let _ = writeln!(
            page,
            "capstan_plugin_{name}{{plugin=\"{}\"}} {}",
            row.name,
            value(row)
        );
    }
}

fn counts(page: &mut String, rows: &[Row<'_>]) {
    series(page, "counter", "calls_total", rows, |row| {
        row.tenure.calls_before + row.reading.calls
    });
    series(page, "counter", "traps_total", rows, |row| {
        row.tenure.traps_before + row.reading.traps
    });
    series(page, "gauge", "memory_bytes", rows, |row| {
        row.reading.memory_bytes
    });
    series(page, "gauge", "serving", rows, |row| {
        u64::from(row.tenure.current.is_some())
    });
    series(page, "gauge", "degraded", rows, |row| {
        let health = row.tenure.current.as_ref().map(|revision| &revision.health);
        u64::from(health.is_none_or(|health| health.admit().is_err()))
    });
    series(page, "gauge", "on_trial", rows, |row| {
        u64::from(row.tenure.candidate.is_some())
    });
}

fn faults_and_verdicts(page: &mut String, rows: &[Row<'_>]) {
    page.push_str("# TYPE capstan_plugin_faults_total counter\n");
    for row in rows {
        for ((_, kind), count) in FAULT_KINDS.iter().zip(row.reading.faults) {
            let labels = format!("plugin=\"{}\",kind=\"{kind}\"", row.name);
            let _ = writeln!(page, "capstan_plugin_faults_total{{{labels}}} {count}");
        }
    }
    page.push_str("# TYPE capstan_plugin_verdicts_total counter\n");
    for row in rows {
        let mut verdicts = row.tenure.verdicts_before;
        verdicts += row.reading.verdicts;
        if verdicts.is_none() {
            continue;
        }
        for (verdict, count) in [
            ("allowed", verdicts.allowed),
            ("denied", verdicts.denied),
            ("warned", verdicts.warned),
            ("audited", verdicts.audited),
            ("excepted", verdicts.excepted),
        ] {
            let labels = format!("plugin=\"{}\",verdict=\"{verdict}\"", row.name);
            let _ = writeln!(page, "capstan_plugin_verdicts_total{{{labels}}} {count}");
        }
    }
}

fn latency(page: &mut String, rows: &[Row<'_>]) {
    page.push_str("# TYPE capstan_plugin_call_seconds histogram\n");
    for Row { name, reading, .. } in rows {
        for edge in EDGES_MICROS {
            let within = reading
                .histogram
                .iter()
                .filter(|(nanos, _)| *nanos <= edge * 1_000);
            let count: u64 = within.map(|(_, count)| count).sum();
            let labels = format!("plugin=\"{name}\",le=\"{}\"", edge as f64 / 1e6);
            let _ = writeln!(page, "capstan_plugin_call_seconds_bucket{{{labels}}} {count}");
        }
        let (sum, count) = (reading.seconds_total, reading.calls);
        let labels = format!("plugin=\"{name}\"");
        let _ = writeln!(
            page,
            "capstan_plugin_call_seconds_bucket{{{labels},le=\"+Inf\"}} {count}\n\
             capstan_plugin_call_seconds_sum{{{labels}}} {sum}\n\
             capstan_plugin_call_seconds_count{{{labels}}} {count}"
        );
    }
}
