//! The metrics page: the counted rows, then what the parts say when they are asked.

use std::sync::atomic::Ordering;

use super::family::{head, line, shown};
use crate::fairness::Seen;
use crate::server::Server;

/// Kernel ticks in a second, as Linux shows times to programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a memory page.
const PAGE_BYTES: u64 = 4096;

/// All of it.
pub(crate) fn page(server: &Server) -> String {
    let mut text = String::with_capacity(64 << 10);
    requests(server, &mut text);
    caches(server, &mut text);
    if let Some(fairness) = &server.fairness {
        flow_control(fairness, &mut text);
    }
    audit(server, &mut text);
    process(server, &mut text);
    text
}

fn requests(server: &Server, text: &mut String) {
    let metrics = &server.metrics;
    metrics.requests.write(text, "apiserver_request_total", "counter");
    metrics
        .durations
        .write(text, "apiserver_request_duration_seconds");
    metrics
        .sli_durations
        .write(text, "apiserver_request_sli_duration_seconds");
    metrics.sizes.write(text, "apiserver_response_sizes");
    metrics
        .terminations
        .write(text, "apiserver_request_terminations_total", "counter");
    metrics
        .watch_events
        .write(text, "apiserver_watch_events_total", "counter");
    metrics.watch_sizes.write(text, "apiserver_watch_events_sizes");
    metrics
        .admission
        .write(text, "apiserver_admission_step_admission_duration_seconds");
    metrics.hooks.write(text);
    head(text, "apiserver_longrunning_requests", "gauge");
    for row in metrics.long_running.all() {
        let value = row.1.load(Ordering::Relaxed);
        line(text, "apiserver_longrunning_requests", &row.0, value);
    }
    let kinds = ["request_kind=\"readOnly\"", "request_kind=\"mutating\""];
    for (name, gauges) in [
        ("apiserver_current_inflight_requests", &metrics.inflight),
        ("apiserver_current_inqueue_requests", &metrics.inqueue),
    ] {
        head(text, name, "gauge");
        for (kind, gauge) in kinds.iter().zip(gauges) {
            line(text, name, kind, gauge.load(Ordering::Relaxed));
        }
    }
    head(text, "apiserver_dropped_requests_total", "counter");
    for (kind, count) in kinds.iter().zip(&metrics.dropped) {
        let value = count.load(Ordering::Relaxed);
        line(text, "apiserver_dropped_requests_total", kind, value);
    }
    head(text, "apiserver_tls_handshake_errors_total", "counter");
    let errors = metrics.tls_errors.load(Ordering::Relaxed);
    line(text, "apiserver_tls_handshake_errors_total", "", errors);
    head(text, "authentication_attempts", "counter");
    for (result, count) in [
        ("success", &metrics.authenticated),
        ("failure", &metrics.unauthenticated),
    ] {
        let labels = shown(&[("result", result)]);
        line(
            text,
            "authentication_attempts",
            &labels,
            count.load(Ordering::Relaxed),
        );
    }
}

fn caches(server: &Server, text: &mut String) {
    let registry = &server.registry;
    let (_, rows) = registry.table.all();
    let mut seen = std::collections::BTreeMap::new();
    for row in rows.iter().filter(|row| row.is_stored()) {
        seen.entry(row.storage_prefix().to_owned())
            .or_insert_with(|| (row.clone(), registry.cache(row)));
    }
    head(text, "apiserver_storage_objects", "gauge");
    for (prefix, (_, cache)) in &seen {
        let labels = shown(&[("resource", prefix)]);
        line(text, "apiserver_storage_objects", &labels, cache.size().0);
    }
    type Pick = fn((usize, usize)) -> usize;
    let per_resource: [(&str, Pick); 2] = [
        ("apiserver_resource_objects", |(objects, _)| objects),
        ("apiserver_resource_size_estimate_bytes", |(_, bytes)| bytes),
    ];
    for (name, pick) in per_resource {
        head(text, name, "gauge");
        for (row, cache) in seen.values() {
            let labels = shown(&[("group", &row.group), ("resource", &row.plural)]);
            line(text, name, &labels, pick(cache.size()));
        }
    }
    head(text, "apiserver_watch_cache_resource_version", "gauge");
    for (row, cache) in seen.values() {
        let labels = shown(&[("group", &row.group), ("resource", &row.plural)]);
        let value = cache.revision();
        line(text, "apiserver_watch_cache_resource_version", &labels, value);
    }
}

fn flow_control(fairness: &crate::fairness::Fairness, text: &mut String) {
    let mut rows: Vec<(&str, &str, String, f64)> = Vec::new();
    fairness.observe(|seen| match seen {
        Seen::Level {
            name,
            waiting,
            executing,
            seats_in_use,
            nominal,
            current,
        } => {
            let labels = shown(&[("priority_level", name)]);
            for (metric, value) in [
                ("current_inqueue_requests", f64::from(waiting)),
                ("current_executing_requests", f64::from(executing)),
                ("current_executing_seats", f64::from(seats_in_use)),
                ("nominal_limit_seats", nominal),
                ("current_limit_seats", f64::from(current)),
            ] {
                rows.push((metric, "gauge", labels.clone(), value));
            }
        }
        Seen::Flow {
            schema,
            level,
            dispatched,
            full,
            late,
            waited_seconds,
        } => {
            let labels = [("flow_schema", schema), ("priority_level", level)];
            let with = |reason: &str| {
                let [schema, level] = labels;
                shown(&[schema, level, ("reason", reason)])
            };
            rows.push((
                "dispatched_requests_total",
                "counter",
                shown(&labels),
                dispatched as f64,
            ));
            for (reason, count) in [("queue-full", full), ("time-out", late)] {
                rows.push(("rejected_requests_total", "counter", with(reason), count as f64));
            }
            rows.push((
                "request_wait_duration_seconds_sum",
                "counter",
                shown(&labels),
                waited_seconds,
            ));
        }
    });
    rows.sort_by_key(|row| row.0);
    let mut last = "";
    for (metric, kind, labels, value) in rows {
        let name = format!("apiserver_flowcontrol_{metric}");
        if metric != last {
            head(text, &name, kind);
            last = metric;
        }
        line(text, &name, &labels, value);
    }
}

fn audit(server: &Server, text: &mut String) {
    let Some(audit) = &server.audit else { return };
    let (told, lost, levels) = audit.counts();
    head(text, "apiserver_audit_event_total", "counter");
    line(text, "apiserver_audit_event_total", "", told);
    head(text, "apiserver_audit_error_total", "counter");
    line(text, "apiserver_audit_error_total", "plugin=\"buffered\"", lost);
    head(text, "apiserver_audit_level_total", "counter");
    for (level, count) in levels {
        let labels = shown(&[("level", level)]);
        line(text, "apiserver_audit_level_total", &labels, count);
    }
}

fn process(server: &Server, text: &mut String) {
    head(text, "kubernetes_build_info", "gauge");
    let version = crate::probes::version();
    let part = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
    let labels = shown(&[
        ("git_version", &part("gitVersion")),
        ("major", &part("major")),
        ("minor", &part("minor")),
        ("platform", &part("platform")),
    ]);
    line(text, "kubernetes_build_info", &labels, 1);
    let up = server.metrics.started.elapsed();
    let now = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
    head(text, "process_start_time_seconds", "gauge");
    line(text, "process_start_time_seconds", "", now - up.as_secs_f64());
    let Some(stat) = std::fs::read_to_string("/proc/self/stat").ok() else {
        return;
    };
    // The command's name may hold spaces: fields are counted after it, from the third.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| {
            rest.split_whitespace()
                .map(|one| one.parse().unwrap_or(0))
                .collect()
        })
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or_default();
    let seconds = (field(14) + field(15)) as f64 / TICKS_PER_SECOND;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    for (name, kind, value) in [
        ("process_cpu_seconds_total", "counter", seconds),
        (
            "process_resident_memory_bytes",
            "gauge",
            (field(24) * PAGE_BYTES) as f64,
        ),
        ("process_virtual_memory_bytes", "gauge", field(23) as f64),
        ("process_open_fds", "gauge", open as f64),
    ] {
        head(text, name, kind);
        line(text, name, "", value);
    }
}
