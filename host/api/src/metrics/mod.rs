//! What the server measures of itself, under the original's names, in Prometheus' text form.
//!
//! Requests are counted here as they end; what other parts know (seats, caches, audit) is asked of them when
//! the page is written. Left out: the store's own metrics, which stand on its own page.

mod family;
mod hooks;
mod page;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::family::{Family, Histogram};

pub(crate) use self::hooks::{Asked, Ended, Enforced, HookMetrics};
pub(crate) use page::page;

/// Upper bounds of the buckets of requests' durations, in seconds.
const REQUEST_SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
const SLI_SECONDS: [f64; 21] = [
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
const RESPONSE_BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_BYTES: [f64; 8] = [
    1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0,
];
const ADMISSION_SECONDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

/// What a request's rows are labelled with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Labels<'a> {
    pub verb: &'a str,
    pub dry_run: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub scope: &'a str,
}

/// See the module.
pub(crate) struct Metrics {
    requests: Family<AtomicU64>,
    durations: Family<Histogram>,
    sli_durations: Family<Histogram>,
    sizes: Family<Histogram>,
    long_running: Family<AtomicI64>,
    watch_events: Family<AtomicU64>,
    watch_sizes: Family<Histogram>,
    admission: Family<Histogram>,
    pub(crate) hooks: HookMetrics,
    terminations: Family<AtomicU64>,
    dropped: [AtomicU64; 2],
    inflight: [AtomicI64; 2],
    inqueue: [AtomicI64; 2],
    pub(crate) tls_errors: AtomicU64,
    pub(crate) authenticated: AtomicU64,
    pub(crate) unauthenticated: AtomicU64,
    started: Instant,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::default(),
            sli_durations: Family::default(),
            sizes: Family::default(),
            long_running: Family::default(),
            watch_events: Family::default(),
            watch_sizes: Family::default(),
            admission: Family::default(),
            hooks: HookMetrics::default(),
            terminations: Family::default(),
            dropped: Default::default(),
            inflight: Default::default(),
            inqueue: Default::default(),
            tls_errors: AtomicU64::new(0),
            authenticated: AtomicU64::new(0),
            unauthenticated: AtomicU64::new(0),
            started: Instant::now(),
        }
    }
}

/// One watch's events: found once, counted by atomics.
#[derive(Clone)]
pub(crate) struct WatchMeter {
    events: Option<Arc<(String, AtomicU64)>>,
    sizes: Option<Arc<(String, Histogram)>>,
}

impl WatchMeter {
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(row) = &self.events {
            row.1.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(row) = &self.sizes {
            row.1.observe(bytes as f64);
        }
    }
}

/// A gauge that is one higher until this is dropped.
pub(crate) struct Counted(Arc<Metrics>, Gauge);

enum Gauge {
    InFlight(usize),
    InQueue(usize),
    Row(Option<Arc<(String, AtomicI64)>>),
}

impl Counted {
    fn change(&self, by: i64) {
        match &self.1 {
            Gauge::InFlight(kind) => self.0.inflight[*kind].fetch_add(by, Ordering::Relaxed),
            Gauge::InQueue(kind) => self.0.inqueue[*kind].fetch_add(by, Ordering::Relaxed),
            Gauge::Row(row) => row
                .as_ref()
                .map_or(0, |row| row.1.fetch_add(by, Ordering::Relaxed)),
        };
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.change(-1);
    }
}

impl Metrics {
    fn counted(self: &Arc<Self>, gauge: Gauge) -> Counted {
        let counted = Counted(self.clone(), gauge);
        counted.change(1);
        counted
    }

    /// A request that is being answered.
    pub(crate) fn in_flight(self: &Arc<Self>, mutating: bool) -> Counted {
        self.counted(Gauge::InFlight(usize::from(mutating)))
    }

    /// How many are being answered.
    pub(crate) fn running(&self, mutating: bool) -> i64 {
        self.inflight[usize::from(mutating)].load(Ordering::Relaxed)
    }

    /// A request that waits for a seat.
    pub(crate) fn in_queue(self: &Arc<Self>, mutating: bool) -> Counted {
        self.counted(Gauge::InQueue(usize::from(mutating)))
    }

    /// A watch or a stream that has begun.
    pub(crate) fn long_running(self: &Arc<Self>, labels: Labels<'_>) -> Counted {
        let row = self.long_running.row(&place(labels), AtomicI64::default);
        self.counted(Gauge::Row(row))
    }

    /// A request has been answered.
    pub(crate) fn observe(&self, labels: Labels<'_>, code: u16, took: Duration, bytes: Option<usize>) {
        let dry_run = if labels.dry_run { "All" } else { "" };
        let code = code.to_string();
        let all = [
            ("code", code.as_str()),
            ("component", "apiserver"),
            ("dry_run", dry_run),
            ("group", labels.group),
            ("resource", labels.resource),
            ("scope", labels.scope),
            ("subresource", labels.subresource),
            ("verb", labels.verb),
            ("version", labels.version),
        ];
        self.requests.add(&all, 1);
        // A watch lasts as long as its client likes.
        if labels.verb != "WATCH" {
            if let Some(row) = self.durations.row(&all[1..], || Histogram::new(&REQUEST_SECONDS)) {
                row.1.took(took);
            }
            if let Some(row) = self
                .sli_durations
                .row(&place(labels), || Histogram::new(&SLI_SECONDS))
            {
                row.1.took(took);
            }
        }
        if let (Some(bytes), "GET" | "LIST") = (bytes, labels.verb)
            && let Some(row) = self.sizes.row(&place(labels), || Histogram::new(&RESPONSE_BYTES))
        {
            row.1.observe(bytes as f64);
        }
    }

    /// The server refused or gave up a request to save itself.
    pub(crate) fn terminated(&self, labels: Labels<'_>, code: u16, mutating: Option<bool>) {
        let code = code.to_string();
        let mut all = vec![("code", code.as_str())];
        all.extend(place(labels));
        self.terminations.add(&all, 1);
        if let Some(mutating) = mutating {
            self.dropped[usize::from(mutating)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A step of the admission chain has judged.
    pub(crate) fn admission(&self, step: &str, operation: &str, rejected: bool, took: Duration) {
        let labels = [
            ("operation", operation),
            ("rejected", if rejected { "true" } else { "false" }),
            ("type", step),
        ];
        if let Some(row) = self.admission.row(&labels, || Histogram::new(&ADMISSION_SECONDS)) {
            row.1.took(took);
        }
    }

    /// What counts the events of a watch.
    pub(crate) fn watch(&self, group: &str, version: &str, resource: &str) -> WatchMeter {
        let labels = [("group", group), ("resource", resource), ("version", version)];
        WatchMeter {
            events: self.watch_events.row(&labels, AtomicU64::default),
            sizes: self.watch_sizes.row(&labels, || Histogram::new(&EVENT_BYTES)),
        }
    }
}

fn place(labels: Labels<'_>) -> [(&str, &str); 7] {
    [
        ("component", "apiserver"),
        ("group", labels.group),
        ("resource", labels.resource),
        ("scope", labels.scope),
        ("subresource", labels.subresource),
        ("verb", labels.verb),
        ("version", labels.version),
    ]
}
