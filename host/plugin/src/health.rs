//! When a revision has failed too often: the rule, and who is told.
//!
//! Severe faults (see `stats`) within a window open the breaker. The host then rolls back to the revision
//! before, or keeps this one out of the way: calls fail at once, without running it, until a pause is over;
//! pauses double. Called by the bridges after each fault; the host listens.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use capstan_points::{Fault, FaultKind};

use crate::lock::lock;
use crate::stats::{Stats, is_severe};

/// Severe faults within [`WINDOW`] that are too many.
pub(crate) const FAULTS_MAX: usize = 3;
pub(crate) const WINDOW: Duration = Duration::from_secs(30);
const PAUSE_FIRST: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(300);

type Listener = Box<dyn Fn() + Send + Sync>;

/// The health of one revision.
pub(crate) struct Health {
    stats: Arc<Stats>,
    record: Mutex<Record>,
    on_broken: OnceLock<Listener>,
}

#[derive(Default)]
struct Record {
    faults: VecDeque<Instant>,
    closed_until: Option<Instant>,
    pause: Duration,
    last: String,
}

impl Health {
    pub(crate) fn new(stats: Arc<Stats>) -> Self {
        Self {
            stats,
            record: Mutex::default(),
            on_broken: OnceLock::new(),
        }
    }

    /// Who is told, once a window, that the revision failed too often.
    pub(crate) fn on_broken(&self, listener: impl Fn() + Send + Sync + 'static) {
        // A revision is seated once; a second listener would be the same host again.
        let _ = self.on_broken.set(Box::new(listener));
    }

    /// A fault for every call while the revision is kept out of the way.
    pub(crate) fn admit(&self) -> Result<(), Fault> {
        let record = lock(&self.record);
        match record.closed_until {
            Some(until) if Instant::now() < until => Err(Fault {
                kind: FaultKind::Host,
                message: format!("set aside after repeated faults, the last: {}", record.last),
                retry: true,
            }),
            _ => Ok(()),
        }
    }

    /// Whether it is kept out of the way, or was and has not proven itself since.
    pub(crate) fn degraded(&self) -> Option<String> {
        let record = lock(&self.record);
        let recent = record.faults.back().is_some_and(|at| at.elapsed() < WINDOW);
        (recent || record.closed_until.is_some_and(|until| Instant::now() < until))
            .then(|| record.last.clone())
    }

    /// Takes note of what a call gave. Must be called without any lock of the caller's seat held.
    pub(crate) fn note<R>(&self, answer: Result<R, Fault>) -> Result<R, Fault> {
        if let Err(fault) = &answer
            && is_severe(fault.kind)
        {
            self.note_severe(fault);
        }
        answer
    }

    /// An answer that broke its contract: counted as a fault here, where it was found.
    pub(crate) fn garbage(&self, message: String) -> Fault {
        let fault = Fault::new(FaultKind::Garbage, message);
        self.stats.note_fault(&fault);
        self.note_severe(&fault);
        fault
    }

    fn note_severe(&self, fault: &Fault) {
        let now = Instant::now();
        let mut record = lock(&self.record);
        record.last = fault.to_string();
        record.faults.push_back(now);
        while record
            .faults
            .front()
            .is_some_and(|at| now.duration_since(*at) > WINDOW)
        {
            record.faults.pop_front();
        }
        if record.faults.len() < FAULTS_MAX {
            return;
        }
        record.faults.clear();
        record.faults.push_back(now);
        record.pause = (record.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        record.closed_until = Some(now + record.pause);
        drop(record);
        if let Some(listener) = self.on_broken.get() {
            listener();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn three_faults_open_the_breaker_and_tell_once() {
        let health = Health::new(Arc::default());
        let told = Arc::new(AtomicU32::new(0));
        let teller = Arc::clone(&told);
        health.on_broken(move || {
            teller.fetch_add(1, Ordering::SeqCst);
        });
        for _ in 1..FAULTS_MAX {
            let _ = health.note::<()>(Err(Fault::new(FaultKind::Trap, "unreachable")));
            health.admit().expect("still asked");
        }
        let _ = health.note::<()>(Err(Fault::new(FaultKind::Reported, "not severe")));
        health.admit().expect("a reported fault does not count");
        health.garbage("too long".into());
        assert!(
            health
                .admit()
                .expect_err("set aside")
                .message
                .contains("too long")
        );
        assert_eq!(told.load(Ordering::SeqCst), 1);
        assert!(health.degraded().is_some());
    }
}
