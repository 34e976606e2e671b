//! What a member does without being asked: forgets old history, and watches its disk and its quota.
//!
//! Auto-compaction follows etcd's rules and is the leader's; the others only take note of revisions, so that a
//! new leader goes on where the old one was. The decisions are pure ([`Schedule`]); the loop tells the time.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::maintenance::AutoCompaction;
use super::server::Server;
use crate::{Error, Revision};

/// How often disk and quota are looked at, beside each write's own look: others fill the disk too.
const GUARD_EVERY: Duration = Duration::from_secs(5);
/// How often a number of revisions to keep is enforced (etcd's).
const REVISION_EVERY: Duration = Duration::from_secs(300);
/// A period longer than this is enforced this often (etcd's).
const PERIOD_STEP_MAX: Duration = Duration::from_secs(3600);
/// Parts of a step at whose ends the revision is noted (etcd's).
const NOTES: u32 = 10;

/// When to compact to what.
#[derive(Debug)]
enum Schedule {
    Off,
    Periodic {
        /// How much history is kept.
        period: Duration,
        /// How often some is forgotten: an hour, or the period where that is shorter.
        step: Duration,
        /// The first compaction waits for a whole period.
        wait: Duration,
        /// Revisions at the last so many looks, as many as a period has.
        notes: VecDeque<Revision>,
        done_at: Instant,
        done: Revision,
    },
    Revision {
        kept: Revision,
        done: Revision,
    },
}

impl Schedule {
    fn new(mode: AutoCompaction, now: Instant) -> Self {
        match mode {
            AutoCompaction::Periodic(period) if !period.is_zero() => Self::Periodic {
                period,
                step: period.min(PERIOD_STEP_MAX),
                wait: period,
                notes: VecDeque::new(),
                done_at: now,
                done: 0,
            },
            AutoCompaction::Revision(kept) if kept > 0 => Self::Revision { kept, done: 0 },
            _ => Self::Off,
        }
    }

    /// How long until the next look.
    fn every(&self) -> Duration {
        match self {
            Self::Off => Duration::MAX,
            Self::Periodic { step, .. } => (*step / NOTES).max(Duration::from_millis(1)),
            Self::Revision { .. } => REVISION_EVERY,
        }
    }

    /// Takes note of the revision, before the wait for the next look.
    fn note(&mut self, revision: Revision) {
        let every = self.every();
        if let Self::Periodic { period, notes, .. } = self {
            let kept = period.as_nanos() / every.as_nanos().max(1) + 1;
            notes.push_back(revision);
            while notes.len() as u128 > kept {
                notes.pop_front();
            }
        }
    }

    /// What the leader is to compact to now.
    fn due(&self, revision: Revision, now: Instant) -> Option<Revision> {
        match self {
            Self::Off => None,
            Self::Periodic {
                wait,
                notes,
                done_at,
                done,
                ..
            } => {
                let oldest = notes.front().copied()?;
                (now.saturating_duration_since(*done_at) >= *wait && oldest != *done).then_some(oldest)
            }
            Self::Revision { kept, done } => {
                let target = revision - kept;
                (target > 0 && target != *done).then_some(target)
            }
        }
    }

    /// It was compacted; one that failed is tried again at the next look.
    fn compacted(&mut self, to: Revision, now: Instant) {
        match self {
            Self::Off => {}
            Self::Periodic {
                step,
                wait,
                done_at,
                done,
                ..
            } => (*wait, *done_at, *done) = (*step, now, to),
            Self::Revision { done, .. } => *done = to,
        }
    }
}

/// Runs until the server is dropped.
pub(super) async fn run(server: Weak<Server>) {
    let Some(mut schedule) = server.upgrade().map(|server| server.schedule()) else {
        return;
    };
    let note = |server: &Server| server.replica.look(|state| state.revision);
    let mut looked = Instant::now();
    loop {
        let pause = GUARD_EVERY.min(schedule.every().saturating_sub(looked.elapsed()));
        tokio::time::sleep(pause).await;
        let Some(this) = server.upgrade() else { return };
        this.guard().await;
        if looked.elapsed() < schedule.every() {
            continue;
        }
        looked = Instant::now();
        if let Some(to) = schedule.due(note(&this), looked)
            && this.consensus.status().is_leader
        {
            match this.compact(to, false).await {
                Ok(()) | Err(Error::Compacted { .. }) => schedule.compacted(to, looked),
                Err(error) => tracing::warn!(revision = to, %error, "forgetting old history"),
            }
        }
        schedule.note(note(&this));
    }
}

impl Server {
    fn schedule(&self) -> Schedule {
        let mut schedule = Schedule::new(self.limits.auto_compaction, Instant::now());
        schedule.note(self.replica.look(|state| state.revision));
        schedule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// What a leader compacts to, by the minute, when each minute makes ten revisions.
    fn compactions(mode: AutoCompaction, minutes: u32, leads: impl Fn(u32) -> bool) -> Vec<(u32, Revision)> {
        let start = Instant::now();
        let mut schedule = Schedule::new(mode, start);
        let mut found = Vec::new();
        let revision = |at: Duration| 1 + 10 * at.as_secs() as Revision / 60;
        let mut at = Duration::ZERO;
        while at < MINUTE * minutes {
            schedule.note(revision(at));
            at += schedule.every();
            let minute = (at.as_secs() / 60) as u32;
            if let Some(to) = schedule.due(revision(at), start + at).filter(|_| leads(minute)) {
                schedule.compacted(to, start + at);
                found.push((minute, to));
            }
        }
        found
    }

    #[test]
    fn history_of_a_period_is_kept() {
        let always = |_| true;
        // A short period is enforced once a period, a long one hourly once it has begun to pass.
        let short = compactions(AutoCompaction::Periodic(MINUTE * 10), 35, always);
        assert_eq!(short, [(10, 1), (20, 91), (30, 191)]);
        let long = compactions(AutoCompaction::Periodic(MINUTE * 120), 60 * 5, always);
        assert_eq!(long[1].0 - long[0].0, 60);
        for (minute, to) in long.into_iter().chain(short) {
            assert!(to <= 1 + 10 * i64::from(minute - 10), "at {minute}: {to}");
        }
        // A new leader knows what was written while it followed.
        let late = compactions(AutoCompaction::Periodic(MINUTE * 10), 35, |minute| minute >= 25);
        assert_eq!(late[0].0, 25);
        assert!(late[0].1 > 100);
    }

    #[test]
    fn so_many_revisions_are_kept() {
        let found = compactions(AutoCompaction::Revision(100), 21, |_| true);
        assert_eq!(found, [(10, 1), (15, 51), (20, 101), (25, 151)]);
        assert_eq!(compactions(AutoCompaction::Off, 0, |_| true), []);
    }
}
