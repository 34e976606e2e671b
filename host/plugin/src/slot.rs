//! One plugin's place in the host: the revision that serves, the one before it, and how the last load went.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::error::{LoadError, Step};
use crate::lock::lock;
use crate::revision::{Fingerprint, Recordings, Revision};

/// How long the revision before is kept for a roll-back.
const PROBATION: Duration = Duration::from_secs(300);

#[derive(Default)]
pub(crate) struct Slot {
    /// Held for the length of a load.
    pub(crate) loading: Mutex<()>,
    pub(crate) recordings: Recordings,
    tenure: Mutex<Tenure>,
}

/// Who serves, and how it came to that.
#[derive(Default, Clone)]
pub(crate) struct Tenure {
    pub(crate) current: Option<Arc<Revision>>,
    previous: Option<Arc<Revision>>,
    promoted: Option<Instant>,
    /// What was rolled back, and why.
    pub(crate) refused: Option<(Fingerprint, String)>,
    /// Why the last load failed, if it did.
    pub(crate) failure: Option<Failure>,
    pub(crate) generation: Option<i64>,
    /// Calls and traps of the revisions before.
    pub(crate) calls_before: u64,
    pub(crate) traps_before: u64,
}

/// A load that failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) transient: bool,
}

impl Slot {
    pub(crate) fn tenure(&self) -> Tenure {
        lock(&self.tenure).clone()
    }

    pub(crate) fn running(&self) -> Option<Arc<Revision>> {
        lock(&self.tenure).current.clone()
    }

    pub(crate) fn refused(&self) -> Option<(Fingerprint, String)> {
        lock(&self.tenure).refused.clone()
    }

    /// The running revision is what was asked for.
    pub(crate) fn keep(&self, generation: Option<i64>) {
        let mut tenure = lock(&self.tenure);
        tenure.generation = generation;
        tenure.failure = None;
    }

    /// A new revision serves from now on.
    pub(crate) fn promote(&self, revision: Arc<Revision>, generation: Option<i64>) {
        let mut tenure = lock(&self.tenure);
        tenure.generation = generation;
        tenure.failure = None;
        tenure.refused = None;
        let before = tenure.current.replace(revision);
        tenure.retire(before.as_deref());
        tenure.previous = before;
        tenure.promoted = Some(Instant::now());
    }

    /// Drops the revision before once its successor has served for long enough.
    pub(crate) fn settle(&self) {
        let mut tenure = lock(&self.tenure);
        if tenure.promoted.is_some_and(|at| at.elapsed() >= PROBATION) {
            let before = tenure.previous.take();
            drop(tenure);
            drop(before);
        }
    }

    /// A load failed; whoever serves goes on. Whether this is news: another failure than the last, or of
    /// another generation.
    pub(crate) fn refuse(&self, error: &LoadError, generation: Option<i64>) -> bool {
        let mut tenure = lock(&self.tenure);
        let message = error.to_string();
        let known = tenure
            .failure
            .as_ref()
            .is_some_and(|failure| failure.message == message);
        let news = !known || tenure.generation != generation;
        tenure.generation = generation;
        tenure.failure = Some(Failure {
            step: error.step(),
            reason: error.reason(),
            message,
            transient: error.is_transient(),
        });
        news
    }

    /// Gives the seat back to the revision before `number`; none when there is none, or `number` does not
    /// serve any more.
    pub(crate) fn roll_back(&self, number: u64) -> Option<Arc<Revision>> {
        let mut tenure = lock(&self.tenure);
        if tenure.current.as_ref()?.number != number {
            return None;
        }
        let restored = tenure.previous.take()?;
        let broken = tenure.current.replace(Arc::clone(&restored))?;
        tenure.retire(Some(&broken));
        let why = broken.health.degraded().unwrap_or_else(|| "unknown".into());
        let error = LoadError::RolledBack(why.clone());
        tenure.refused = Some((broken.fingerprint.clone(), why));
        tenure.failure = Some(Failure {
            step: error.step(),
            reason: error.reason(),
            message: error.to_string(),
            transient: false,
        });
        if let Some(daemon) = &restored.problem {
            daemon.reclaim();
        }
        Some(restored)
    }
}

impl Tenure {
    fn retire(&mut self, revision: Option<&Revision>) {
        if let Some(revision) = revision {
            let reading = revision.stats.read();
            self.calls_before += reading.calls;
            self.traps_before += reading.traps;
        }
    }
}
