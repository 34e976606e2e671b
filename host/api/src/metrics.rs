//! Request counts and durations in Prometheus' text form, under the original's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Different (verb, resource, code) rows at most; later ones are counted as `other`.
const ROWS_MAX: usize = 2000;
/// Upper bounds of the duration buckets in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    sum_seconds: f64,
    count: u64,
}

#[derive(Default)]
struct State {
    requests: BTreeMap<(&'static str, String, u16), u64>,
    durations: BTreeMap<(&'static str, String), Durations>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<State>);

impl Metrics {
    pub(crate) fn observe(&self, verb: &'static str, resource: &str, code: u16, took: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Paths of resources that do not exist must not fill the table.
        let full = state.requests.len() >= ROWS_MAX;
        let resource = if code == 404 || full { "other" } else { resource };
        *state
            .requests
            .entry((verb, resource.to_owned(), code))
            .or_default() += 1;
        let row = state.durations.entry((verb, resource.to_owned())).or_default();
        let seconds = took.as_secs_f64();
        row.count += 1;
        row.sum_seconds += seconds;
        for (bucket, bound) in row.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    pub(crate) fn text(&self, revision: i64) -> String {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from("# TYPE apiserver_request_total counter\n");
        for ((verb, resource, code), count) in &state.requests {
            let _ = writeln!(
                text,
                "apiserver_request_total{{verb=\"{}\",resource=\"{resource}\",code=\"{code}\"}} {count}",
                verb.to_uppercase()
            );
        }
        text.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for ((verb, resource), row) in &state.durations {
            let labels = format!("verb=\"{}\",resource=\"{resource}\"", verb.to_uppercase());
            let name = "apiserver_request_duration_seconds";
            for (count, bound) in row.buckets.iter().zip(BUCKETS) {
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", row.count);
            let _ = writeln!(text, "{name}_sum{{{labels}}} {}", row.sum_seconds);
            let _ = writeln!(text, "{name}_count{{{labels}}} {}", row.count);
        }
        let _ = writeln!(text, "# TYPE apiserver_watch_cache_resource_version gauge");
        let _ = writeln!(text, "apiserver_watch_cache_resource_version {revision}");
        text
    }
}
