//! When each lease runs out, by this leader's monotonic clock.
//!
//! Owned by the leader alone and never replicated: a new leader gives every lease its whole time again.
//! Pure but for the instants that its caller passes in; the loop that sleeps and revokes is the server's.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::LeaseId;

/// Deadlines of all leases.
#[derive(Debug, Default)]
pub(crate) struct LeaseClock {
    deadlines: HashMap<LeaseId, Instant>,
    queue: BTreeSet<(Instant, LeaseId)>,
}

impl LeaseClock {
    /// Starts or renews a lease.
    pub(crate) fn renew(&mut self, id: LeaseId, ttl_seconds: i64, now: Instant) {
        self.forget(id);
        let ttl = Duration::from_secs(u64::try_from(ttl_seconds).unwrap_or(0));
        let deadline = now.checked_add(ttl).unwrap_or(now);
        self.deadlines.insert(id, deadline);
        self.queue.insert((deadline, id));
    }

    /// The lease is gone.
    pub(crate) fn forget(&mut self, id: LeaseId) {
        if let Some(deadline) = self.deadlines.remove(&id) {
            self.queue.remove(&(deadline, id));
        }
    }

    /// When the next lease runs out.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// Leases that have run out, at most `limit`, the longest overdue first.
    pub(crate) fn expired(&self, now: Instant, limit: usize) -> Vec<LeaseId> {
        let due = self.queue.iter().take_while(|(deadline, _)| *deadline <= now);
        due.take(limit).map(|(_, id)| *id).collect()
    }

    /// What is left, rounded up to whole seconds as clients expect; none when it has run out or is unknown.
    pub(crate) fn remaining_seconds(&self, id: LeaseId, now: Instant) -> Option<i64> {
        let left = self.deadlines.get(&id)?.checked_duration_since(now)?;
        (!left.is_zero()).then(|| i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewing_moves_the_deadline_and_expiry_is_oldest_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = LeaseClock::default();
        for (id, ttl) in [(1, 10), (2, 5), (3, 7)] {
            clock.renew(id, ttl, start);
        }
        clock.renew(2, 5, at(4));
        assert_eq!(clock.next_deadline(), Some(at(7)));
        assert_eq!(clock.expired(at(9), 10), vec![3, 2]);
        assert_eq!(clock.expired(at(9), 1), vec![3]);
        assert_eq!(clock.remaining_seconds(1, at(9)), Some(1));
        assert_eq!(clock.remaining_seconds(3, at(9)), None);
        clock.forget(3);
        assert_eq!(clock.expired(at(9), 10), vec![2]);
    }
}
