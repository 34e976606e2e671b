//! One plugin's place in the host: the revision that serves, the one before it, the one on trial, and how the last
//! load went.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capstan_kinds::plugin::{HISTORY_MAX, Outcome, PastRevision, Verdicts};

use crate::bridge::admission_trial::Trial;
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
    pub(crate) candidate: Option<Candidate>,
    /// What was rolled back or dropped last, until another takes its place.
    refused: Option<Arc<Fallen>>,
    /// All that was, the newest last.
    pub(crate) fallen: Vec<Arc<Fallen>>,
    /// What an earlier process wrote, until a revision that was asked for takes its seat.
    history: Vec<PastRevision>,
    /// Why the last load failed, if it did.
    pub(crate) failure: Option<Failure>,
    pub(crate) generation: Option<i64>,
    /// Calls and traps of the revisions before.
    pub(crate) calls_before: u64,
    pub(crate) traps_before: u64,
    pub(crate) verdicts_before: Verdicts,
}

/// A revision on trial.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) revision: Arc<Revision>,
    pub(crate) trial: Arc<Trial>,
}

/// A revision that did not keep its place, or did not get one.
#[derive(Debug)]
pub(crate) struct Fallen {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) title: String,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
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

    pub(crate) fn refused(&self) -> Option<Arc<Fallen>> {
        lock(&self.tenure).refused.clone()
    }

    pub(crate) fn candidate(&self) -> Option<Candidate> {
        lock(&self.tenure).candidate.clone()
    }

    /// What an earlier process wrote of the plugin; `written` is taken where this one has loaded nothing yet.
    pub(crate) fn history(&self, written: impl FnOnce() -> Vec<PastRevision>) -> Vec<PastRevision> {
        let mut tenure = lock(&self.tenure);
        if tenure.generation.is_none() && tenure.current.is_none() && tenure.failure.is_none() {
            tenure.history = written();
        }
        tenure.history.clone()
    }

    /// The running revision is what was asked for.
    pub(crate) fn keep(&self, generation: Option<i64>) {
        let mut tenure = lock(&self.tenure);
        tenure.generation = generation;
        tenure.failure = None;
        // What was on trial is not wanted any more.
        tenure.candidate = None;
    }

    /// The revision on trial is what was asked for.
    pub(crate) fn keep_on_trial(&self, generation: Option<i64>) {
        let mut tenure = lock(&self.tenure);
        tenure.generation = generation;
        tenure.failure = None;
    }

    /// A new revision is tried beside the one that serves.
    pub(crate) fn try_out(&self, candidate: Candidate, generation: Option<i64>) {
        let mut tenure = lock(&self.tenure);
        tenure.generation = generation;
        tenure.failure = None;
        tenure.candidate = Some(candidate);
    }

    /// The candidate, if it is still this one, serves from now on.
    pub(crate) fn promote_candidate(&self, number: u64) -> Option<Arc<Revision>> {
        let candidate = self.candidate().filter(|c| c.revision.number == number)?;
        let generation = lock(&self.tenure).generation;
        // What it answered on trial is told of the trial, not of its service.
        candidate.revision.stats.clear();
        self.promote(Arc::clone(&candidate.revision), generation);
        Some(candidate.revision)
    }

    /// The candidate, if it is still this one, is not tried any further.
    pub(crate) fn drop_candidate(&self, number: u64, why: &str) -> bool {
        let mut tenure = lock(&self.tenure);
        let Some(candidate) = tenure.candidate.take_if(|c| c.revision.number == number) else {
            return false;
        };
        tenure.fall(&candidate.revision, Outcome::Dropped, why);
        true
    }

    /// A revision that served before serves again, in place of one that could not be loaded.
    pub(crate) fn fall_back(&self, revision: Arc<Revision>) {
        let mut tenure = lock(&self.tenure);
        tenure.current = Some(revision);
    }

    /// A new revision serves from now on.
    pub(crate) fn promote(&self, revision: Arc<Revision>, generation: Option<i64>) {
        let mut tenure = lock(&self.tenure);
        tenure.generation = generation;
        tenure.failure = None;
        tenure.refused = None;
        tenure.candidate = None;
        tenure.history.clear();
        tenure
            .fallen
            .retain(|fallen| fallen.fingerprint != revision.fingerprint);
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
        tenure.fall(&broken, Outcome::RolledBack, &why);
        if let Some(daemon) = &restored.problem {
            daemon.reclaim();
        }
        Some(restored)
    }
}

impl Tenure {
    /// Takes note of a revision that is not tried again.
    fn fall(&mut self, revision: &Revision, outcome: Outcome, why: &str) {
        let error = match outcome {
            Outcome::Dropped => LoadError::Dropped(why.to_owned()),
            _ => LoadError::RolledBack(why.to_owned()),
        };
        let fallen = Arc::new(Fallen {
            fingerprint: revision.fingerprint.clone(),
            title: revision.title.clone(),
            outcome,
            reason: why.to_owned(),
        });
        if self.fallen.len() == HISTORY_MAX {
            self.fallen.remove(0);
        }
        self.fallen.push(Arc::clone(&fallen));
        self.refused = Some(fallen);
        self.failure = Some(Failure {
            step: error.step(),
            reason: error.reason(),
            message: error.to_string(),
            transient: false,
        });
    }

    fn retire(&mut self, revision: Option<&Revision>) {
        if let Some(revision) = revision {
            let reading = revision.stats.read();
            self.calls_before += reading.calls;
            self.traps_before += reading.traps;
            self.verdicts_before += reading.verdicts;
        }
    }
}
