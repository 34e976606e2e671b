//! When a revision has failed too often: the rule, and who is told.
//!
//! Severe faults (see `stats`) within a window open the breaker. The host then rolls back to the revision
//! before, or keeps this one out of the way: calls fail at once, without running it, until a pause is over. Then it is
//! half open: one call at a time is let through, the first that is answered closes it, a severe fault opens it again
//! for twice as long. Called by the bridges before and after each call; the host listens.

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

/// How long one call on trial keeps others out: one that was never answered is followed by another.
const PROBE_MAX: Duration = Duration::from_secs(15);

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
    open_until: Option<Instant>,
    /// Since when one call is let through a breaker that is half open.
    probing: Option<Instant>,
    pause: Duration,
    last: String,
}

/// Where the breaker stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Breaker {
    /// Every call is made.
    Closed,
    /// No call is made; the last fault.
    Open(String),
    /// One call at a time is made; the last fault.
    HalfOpen(String),
}

impl Record {
    fn breaker(&self, now: Instant) -> Breaker {
        match self.open_until {
            Some(until) if now < until => Breaker::Open(self.last.clone()),
            Some(_) => Breaker::HalfOpen(self.last.clone()),
            None => Breaker::Closed,
        }
    }

    /// Whether a call may be made now; one through a half-open breaker keeps others out.
    fn admit(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_)
                if self
                    .probing
                    .is_some_and(|since| now.duration_since(since) < PROBE_MAX) =>
            {
                false
            }
            Some(_) => {
                self.probing = Some(now);
                true
            }
        }
    }

    /// A call was answered.
    fn answered(&mut self) {
        if self.probing.take().is_some() {
            self.open_until = None;
            self.pause = Duration::ZERO;
            self.faults.clear();
        }
    }

    /// A severe fault; whether it opened the breaker.
    fn failed(&mut self, fault: String, now: Instant) -> bool {
        self.last = fault;
        self.faults.push_back(now);
        let is_old = |at: &Instant| now.duration_since(*at) > WINDOW;
        while self.faults.front().is_some_and(is_old) {
            self.faults.pop_front();
        }
        if self.faults.len() < FAULTS_MAX && self.probing.take().is_none() {
            return false;
        }
        self.faults.clear();
        self.faults.push_back(now);
        self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        self.open_until = Some(now + self.pause);
        true
    }
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
        let mut record = lock(&self.record);
        if record.admit(Instant::now()) {
            return Ok(());
        }
        Err(Fault {
            kind: FaultKind::Host,
            message: format!("set aside after repeated faults, the last: {}", record.last),
            retry: true,
        })
    }

    /// Where the breaker stands, for who only looks.
    pub(crate) fn breaker(&self) -> Breaker {
        lock(&self.record).breaker(Instant::now())
    }

    /// Whether it is kept out of the way, or was and has not proven itself since.
    pub(crate) fn degraded(&self) -> Option<String> {
        let record = lock(&self.record);
        let recent = record.faults.back().is_some_and(|at| at.elapsed() < WINDOW);
        (recent || record.open_until.is_some()).then(|| record.last.clone())
    }

    /// Takes note of what a call gave. Must be called without any lock of the caller's seat held.
    pub(crate) fn note<R>(&self, answer: Result<R, Fault>) -> Result<R, Fault> {
        match &answer {
            Err(fault) if is_severe(fault.kind) => self.note_severe(fault),
            // It was not asked: that says nothing of it.
            Err(fault) if fault.kind == FaultKind::Host => {}
            _ => lock(&self.record).answered(),
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
        if !lock(&self.record).failed(fault.to_string(), Instant::now()) {
            return;
        }
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

    #[test]
    fn a_breaker_closes_again_by_one_good_call() {
        let (mut record, start) = (Record::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!record.failed("a".into(), at(0)) && !record.failed("b".into(), at(1)));
        assert!(record.failed("c".into(), at(2)), "the third opens it");
        assert_eq!(record.breaker(at(31)), Breaker::Open("c".into()));
        assert!(!record.admit(at(31)));
        assert_eq!(record.breaker(at(32)), Breaker::HalfOpen("c".into()));
        assert!(
            record.admit(at(32)) && !record.admit(at(33)),
            "one call at a time"
        );
        assert!(record.failed("d".into(), at(34)), "one fault opens it again");
        assert_eq!(
            record.breaker(at(34 + 59)),
            Breaker::Open("d".into()),
            "for twice as long"
        );
        assert!(record.admit(at(34 + 60)));
        assert!(
            record.admit(at(34 + 60 + 15)),
            "a call that was never answered is followed by another"
        );
        record.answered();
        assert_eq!(record.breaker(at(110)), Breaker::Closed);
        assert!(record.admit(at(110)) && record.admit(at(110)));
        assert!(!record.failed("e".into(), at(111)), "it starts anew");
    }
}
