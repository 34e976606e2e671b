//! Growing pauses between attempts, with the original kubelet's numbers.
//!
//! Invariants: the first retry after a quiet time is immediate, then 10 s doubling to 5 min; ten minutes
//! without a failure forget everything. Pure: the caller brings the time. Used for crashing containers,
//! failing image pulls and whatever else a pod worker tries again.

use jiff::{SignedDuration, Timestamp};

/// First pause.
pub(crate) const PAUSE_MIN: SignedDuration = SignedDuration::from_secs(10);
/// Longest pause.
pub(crate) const PAUSE_MAX: SignedDuration = SignedDuration::from_secs(300);
/// Quiet time after which the pauses start over.
pub(crate) const FORGET_AFTER: SignedDuration = SignedDuration::from_secs(600);

/// How long to wait after a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    entry: Option<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    pause: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// When the next attempt may be made, and the pause that leads there, if that is still ahead.
    pub(crate) fn waiting(&self, failed: Timestamp, now: Timestamp) -> Option<(Timestamp, SignedDuration)> {
        let entry = self.entry.as_ref().filter(|entry| !expired(entry, failed))?;
        let until = failed.saturating_add(entry.pause).ok()?;
        (now < until).then_some((until, entry.pause))
    }

    /// Records that an attempt follows a failure at `failed`.
    pub(crate) fn attempt(&mut self, failed: Timestamp) {
        self.entry = Some(match self.entry.take() {
            Some(entry) if !expired(&entry, failed) => Entry {
                pause: (entry.pause * 2).min(PAUSE_MAX),
                updated: failed,
            },
            _ => Entry {
                pause: PAUSE_MIN,
                updated: failed,
            },
        });
    }
}

fn expired(entry: &Entry, failed: Timestamp) -> bool {
    failed.duration_since(entry.updated) > FORGET_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn first_restart_is_immediate_then_pauses_double_to_the_bound() {
        let mut backoff = Backoff::default();
        let mut failed = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = backoff
                .waiting(failed, failed)
                .map_or(0, |(_, pause)| pause.as_secs());
            pauses.push(pause);
            backoff.attempt(failed);
            failed = failed
                .saturating_add(SignedDuration::from_secs(pause + 1))
                .unwrap();
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_forget() {
        let mut backoff = Backoff::default();
        backoff.attempt(at(0));
        backoff.attempt(at(20));
        assert_eq!(
            backoff.waiting(at(620), at(620)).map(|(until, _)| until),
            Some(at(640))
        );
        assert_eq!(backoff.waiting(at(621), at(621)), None);
    }
}
