//! One daemon's loop: read its sources, ask it, write what it found.
//!
//! Invariants: one call at a time, never on an async worker; a batch that a daemon did not take is given to
//! whoever sits there next; what was found is written until the API server took it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_client::Informer;
use capstan_points::problem::{Daemon, Finding, Line, Source};
use capstan_points::{Fault, FaultKind, Seat};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::condition::Ledger;
use super::source::LineSource;
use super::{Sitter, sample};
use crate::context::Node;

/// Lines in one call; the WIT package promises it.
const LINES_MAX: usize = 512;
/// Sources of one daemon.
const SOURCES_MAX: usize = 32;
/// Calls with the same batch before it is given up: more than the faults after which a plugin is rolled back, so
/// that the revision before it gets the batch that its successor fell over.
const TRIES_MAX: u32 = 5;
/// Pause after a fault of the daemon or of a source, and before an unwritten condition is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// Shortest interval of samples and ticks; the WIT package promises it.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A batch on its way to the daemon.
struct Batch {
    pattern: String,
    lines: Vec<Line>,
    dropped: u64,
    tries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Beat {
    Samples,
    Tick,
}

/// The loop's state; places in files outlive every revision of the daemon.
pub(crate) struct Runner {
    node: Arc<Node>,
    own: Informer<core::Node>,
    plugin: String,
    sitting: Sitter,
    lines: BTreeMap<String, LineSource>,
    numbers: BTreeMap<String, u32>,
    beats: Vec<(Beat, Duration, Instant)>,
    waiting: Option<Batch>,
    lost: BTreeMap<String, u64>,
    ledger: Ledger,
}

impl Runner {
    pub(crate) fn new(node: Arc<Node>, own: Informer<core::Node>, plugin: String, sitting: Sitter) -> Self {
        Self {
            node,
            own,
            plugin,
            sitting,
            lines: BTreeMap::new(),
            numbers: BTreeMap::new(),
            beats: Vec::new(),
            waiting: None,
            lost: BTreeMap::new(),
            ledger: Ledger::default(),
        }
    }

    /// Runs until the plugin leaves.
    pub(crate) async fn run(mut self) {
        loop {
            let Some(seat) = self.sitting.borrow_and_update().clone() else {
                break;
            };
            match call(&seat, |daemon| daemon.sources()).await {
                Ok(sources) => {
                    self.retarget(&seat, sources);
                    self.serve(&seat).await;
                }
                Err(fault) => {
                    tracing::warn!(plugin = self.plugin, %fault, "problem daemon named no sources");
                    tokio::select! {
                        changed = self.sitting.changed() => if changed.is_err() { break },
                        () = tokio::time::sleep(PAUSE * 10) => {}
                    }
                }
            }
        }
        if let Some(removal) = self.ledger.removal()
            && let Err(error) = self.write(removal).await
        {
            tracing::warn!(plugin = self.plugin, %error, "conditions of a plugin that left were not removed");
        }
    }

    /// Opens what is newly asked for, keeps what still is, closes the rest.
    fn retarget(&mut self, seat: &Seat<dyn Daemon>, sources: Vec<Source>) {
        self.numbers.clear();
        let before = std::mem::take(&mut self.beats);
        for (number, source) in sources.into_iter().take(SOURCES_MAX).enumerate() {
            match source {
                Source::Lines { path, lookback_ms } => self.open(seat, number, path, lookback_ms),
                Source::Samples { interval_ms } => self.beats.push(beat(&before, Beat::Samples, interval_ms)),
                Source::Ticks { interval_ms } => self.beats.push(beat(&before, Beat::Tick, interval_ms)),
            }
        }
        let numbers = &self.numbers;
        self.lines.retain(|pattern, _| numbers.contains_key(pattern));
        self.waiting = self
            .waiting
            .take()
            .filter(|batch| numbers.contains_key(&batch.pattern));
        if let Some(batch) = &mut self.waiting {
            batch.tries = 0;
        }
    }

    fn open(&mut self, seat: &Seat<dyn Daemon>, number: usize, path: String, lookback_ms: u64) {
        let refused = if !path.starts_with('/') {
            Some("the path must be absolute".to_owned())
        } else if !seat.policy.may_read(&path) {
            Some("the Plugin's node-logs capability does not cover it".to_owned())
        } else if self.lines.contains_key(&path) {
            None
        } else {
            match LineSource::open(&path, lookback_ms, &self.node.notify) {
                Ok(source) => {
                    self.lines.insert(path.clone(), source);
                    None
                }
                Err(error) => Some(error.to_string()),
            }
        };
        match refused {
            None => {
                self.numbers
                    .insert(path, u32::try_from(number).unwrap_or(u32::MAX));
            }
            Some(why) => {
                let message = format!("problem daemon {:?} cannot watch {path}: {why}", self.plugin);
                tracing::warn!("{message}");
                self.node.recorder.node(true, "ProblemSourceUnavailable", message);
            }
        }
    }

    /// Serves one revision until another takes its seat.
    async fn serve(&mut self, seat: &Seat<dyn Daemon>) {
        loop {
            let outcome = self.turn(seat).await;
            let unwritten = match self.ledger.patch() {
                None => false,
                Some(patch) => match self.write(patch).await {
                    Ok(()) => {
                        self.ledger.written();
                        false
                    }
                    Err(error) => {
                        tracing::warn!(plugin = self.plugin, %error, "node conditions not written");
                        true
                    }
                },
            };
            if !matches!(self.sitting.has_changed(), Ok(false)) {
                return;
            }
            if outcome == Turn::More && !unwritten {
                continue;
            }
            let next_beat = self.beats.iter().map(|(_, _, at)| *at).min();
            let retry = (unwritten || outcome != Turn::Idle).then(|| Instant::now() + PAUSE);
            let wake = next_beat.into_iter().chain(retry).min();
            let more = async {
                if self.lines.is_empty() || outcome == Turn::Faulted {
                    return std::future::pending().await;
                }
                let any = self.lines.values_mut().map(|source| Box::pin(source.changed()));
                futures::future::select_all(any).await;
            };
            let beat = async {
                match wake {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.sitting.changed() => {
                    if changed.is_ok() {
                        self.sitting.mark_changed();
                    }
                    return;
                }
                () = more => {}
                () = beat => {}
            }
        }
    }

    /// Everything that is due now, once.
    async fn turn(&mut self, seat: &Seat<dyn Daemon>) -> Turn {
        let now = Instant::now();
        let mut due = Vec::new();
        for (kind, interval, at) in &mut self.beats {
            if *at <= now {
                *at = (*at + *interval).max(now);
                due.push(*kind);
            }
        }
        for kind in due {
            let now_ms = now_ms();
            let found = match kind {
                Beat::Tick => call(seat, move |daemon| daemon.on_tick(now_ms)).await,
                Beat::Samples => {
                    let samples = sample::read(self.node.cri.as_ref(), &self.node.folders.pods()).await;
                    call(seat, move |daemon| daemon.on_samples(&samples, now_ms)).await
                }
            };
            match found {
                Ok(findings) => self.take(findings),
                Err(fault) => tracing::warn!(plugin = self.plugin, %fault, "problem daemon failed a beat"),
            }
        }
        let mut outcome = Turn::Idle;
        for pattern in self.numbers.keys().cloned().collect::<Vec<_>>() {
            if self.waiting.is_none() {
                self.fill(&pattern);
            }
            if let Some(batch) = self.waiting.take() {
                outcome = self.deliver(seat, batch).await;
            }
            if outcome == Turn::Faulted || !matches!(self.sitting.has_changed(), Ok(false)) {
                return outcome;
            }
        }
        outcome
    }

    /// Reads the next batch of a source.
    fn fill(&mut self, pattern: &str) {
        let Some(source) = self.lines.get_mut(pattern) else {
            return;
        };
        match source.read(LINES_MAX, &self.node.notify) {
            Ok((lines, dropped)) => {
                let lost = self.lost.entry(pattern.to_owned()).or_default();
                *lost += dropped;
                if !lines.is_empty() {
                    let dropped = std::mem::take(lost);
                    self.waiting = Some(Batch {
                        pattern: pattern.to_owned(),
                        lines,
                        dropped,
                        tries: 0,
                    });
                }
            }
            Err(error) => tracing::warn!(plugin = self.plugin, pattern, %error, "source not read"),
        }
    }

    async fn deliver(&mut self, seat: &Seat<dyn Daemon>, mut batch: Batch) -> Turn {
        let number = self.numbers.get(&batch.pattern).copied().unwrap_or_default();
        let (lines, dropped, now_ms) = (batch.lines.clone(), batch.dropped, now_ms());
        match call(seat, move |daemon| {
            daemon.on_lines(number, &lines, dropped, now_ms)
        })
        .await
        {
            Ok(findings) => {
                self.take(findings);
                Turn::More
            }
            Err(fault) => {
                tracing::warn!(plugin = self.plugin, %fault, "problem daemon did not take its lines");
                batch.tries += 1;
                if batch.tries < TRIES_MAX {
                    self.waiting = Some(batch);
                } else {
                    *self.lost.entry(batch.pattern).or_default() += batch.dropped + batch.lines.len() as u64;
                }
                Turn::Faulted
            }
        }
    }

    fn take(&mut self, findings: Vec<Finding>) {
        let node = self.own.get(None, &self.node.name);
        let on_node = node
            .as_ref()
            .and_then(|node| node.status.as_ref()?.conditions.as_deref())
            .unwrap_or(&[]);
        for finding in findings {
            match finding {
                Finding::Event(event) => self
                    .node
                    .recorder
                    .node(event.warning, &event.reason, event.message),
                Finding::Condition(found) => {
                    let known = on_node.iter().find(|known| known.type_ == found.type_name);
                    if let Err(message) = self.ledger.record(&found, known, Timestamp::now()) {
                        let message = format!("problem daemon {:?}: {message}", self.plugin);
                        self.node.recorder.node(true, "ProblemConditionRefused", message);
                    }
                }
            }
        }
    }

    async fn write(&self, patch: Value) -> kube::Result<()> {
        let nodes: Api<core::Node> = Api::all(self.node.client.clone());
        nodes
            .patch_status(&self.node.name, &PatchParams::default(), &Patch::Strategic(patch))
            .await
            .map(drop)
    }
}

/// What one look at everything gave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing was there.
    Idle,
    /// Something was, and more may be.
    More,
    /// The daemon did not take it.
    Faulted,
}

fn beat(before: &[(Beat, Duration, Instant)], kind: Beat, interval_ms: u64) -> (Beat, Duration, Instant) {
    let interval = Duration::from_millis(interval_ms).max(INTERVAL_MIN);
    // The first is at once; a swap does not move the next one.
    let same = before
        .iter()
        .find(|(known, length, _)| (*known, *length) == (kind, interval));
    same.copied().unwrap_or((kind, interval, Instant::now()))
}

fn now_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

async fn call<T: Send + 'static>(
    seat: &Seat<dyn Daemon>,
    ask: impl FnOnce(&dyn Daemon) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let policy = Arc::clone(&seat.policy);
    let asked = tokio::task::spawn_blocking(move || ask(policy.as_ref())).await;
    asked.unwrap_or_else(|error| Err(Fault::new(FaultKind::Host, error.to_string())))
}
