//! Which of several nodes is the one whose victims hurt least, by the original's rules in their order.

use crate::candidate::{Candidate, Victim};
use std::cmp::Reverse;

/// The best candidate; of equals the first.
///
/// Fewest broken budgets; lowest priority of the most important victim; lowest sum of priorities; fewest victims;
/// and the latest start of the first to start among the most important victims. A node without any victim comes
/// before all.
pub(crate) fn best(candidates: &[Candidate], now_ms: u64) -> Option<&Candidate> {
    candidates.iter().min_by_key(|candidate| {
        let victims: Vec<&Victim> = candidate.victims().collect();
        let highest = victims.first().map_or(i32::MIN, |victim| victim.priority);
        // Lifted above zero, so that two victims of negative priority weigh more than one.
        let weight = |victim: &&Victim| i64::from(victim.priority) + (1 << 31);
        let sum: i64 = victims.iter().map(weight).sum();
        let foremost = victims.iter().filter(|victim| victim.priority == highest);
        let earliest = foremost.map(|victim| victim.started_ms.unwrap_or(now_ms)).min();
        (
            candidate.violations(),
            highest,
            sum,
            victims.len(),
            Reverse(earliest),
        )
    })
}
