//! How long a call may run: processor time for the guest, wall time for everything.
//!
//! The deadline counts the processor time of the threads that ran the guest, so that a busy machine does not make a healthy guest
//! fail; a wall bound, a multiple of it, catches the rest. Time spent waiting in a host call is bounded by
//! that host call, and by [`WAITED_MAX`] for all of them, and not charged. Checked at every tick of the epoch; called by [`crate::state`].

use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::ticker::TICK;

/// Wall time of a call as a multiple of its deadline.
const WALL_FACTOR: u32 = 50;
/// What all host calls of one call may wait together; the rest counts as the guest's own wall time.
const WAITED_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Budget {
    deadline: Duration,
    started: Instant,
    /// Processor time at the ticks until now,
    spent: Duration,
    /// the last of which was at that moment,
    looked: Instant,
    /// on that thread, at that processor time of the thread's.
    seen: Option<(ThreadId, Duration)>,
    waited: Duration,
}

/// The call outran its deadline.
#[derive(Debug, thiserror::Error)]
#[error("stopped after {spent_ms} ms; its deadline is {deadline_ms} ms")]
pub(crate) struct Overrun {
    spent_ms: u128,
    deadline_ms: u128,
}

impl Budget {
    pub(crate) fn start(deadline: Duration) -> Self {
        let now = Instant::now();
        Self {
            deadline,
            started: now,
            spent: Duration::ZERO,
            looked: now,
            seen: None,
            waited: Duration::ZERO,
        }
    }

    /// A host call kept the guest waiting.
    pub(crate) fn add_waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether the guest may go on.
    pub(crate) fn on_tick(&mut self) -> Result<(), Overrun> {
        let wall = self.started.elapsed().saturating_sub(self.waited.min(WAITED_MAX));
        let (thread, cpu) = (thread::current().id(), thread_cpu());
        // On a thread where it was not looked at before, the guest ran for a tick at most, or was descheduled.
        let since = match self.seen {
            Some((before, seen)) if before == thread => seen,
            _ => cpu.saturating_sub(self.looked.elapsed().min(TICK)),
        };
        self.spent += cpu.saturating_sub(since);
        (self.seen, self.looked) = (Some((thread, cpu)), Instant::now());
        let spent = self.spent;
        if spent < self.deadline && wall < self.deadline * WALL_FACTOR {
            return Ok(());
        }
        let spent_ms = if spent < self.deadline { wall } else { spent }.as_millis();
        Err(Overrun {
            spent_ms,
            deadline_ms: self.deadline.as_millis(),
        })
    }
}

fn thread_cpu() -> Duration {
    // The clock exists on every Linux; without it the wall bound alone holds.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_waits_is_charged_after_all() {
        let after = |seconds: u64| Budget {
            started: Instant::now() - Duration::from_secs(seconds),
            waited: Duration::from_secs(seconds),
            ..Budget::start(Duration::from_millis(10))
        };
        assert!(after(4).on_tick().is_ok(), "two slow reads are the host's");
        let overrun = after(6).on_tick().expect_err("a hundred reads are the guest's");
        assert!(overrun.spent_ms >= 900, "{overrun}");
    }
}
