//! How a candidate is judged: what was counted beside the serving revision, and the rule that promotes or drops it.
//!
//! Pure but for the counters. A bound that can no longer be kept drops the candidate at once; promotion waits for the
//! calls that the object asks for. Counted by the bridges' trials; carried out by the host.

use std::sync::Mutex;

use capstan_kinds::plugin::Promotion;
use capstan_points::Fault;

use crate::lock::lock;
use crate::stats::Stats;

/// Bytes of a difference that are kept.
const DIFFERENCE_BYTES_MAX: usize = 512;

/// What became of one call at both.
#[derive(Debug)]
pub(crate) enum Seen {
    Same,
    /// The candidate decided otherwise: what, of which call.
    Other(String),
    /// The candidate could not answer.
    Error(Fault),
}

/// What was counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) errors: u64,
    pub(crate) differences: u64,
    pub(crate) last_error: String,
    pub(crate) last_difference: String,
}

/// What a trial comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Promote,
    /// Why not.
    Drop(String),
}

/// The count of a trial, and whether it was decided: it is decided once.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<(Tally, bool)>);

impl Ledger {
    /// Takes note of a call; the outcome where this one decided it.
    pub(crate) fn note(
        &self,
        seen: Seen,
        rule: &Promotion,
        (serving, candidate): (&Stats, &Stats),
    ) -> Option<Outcome> {
        let mut guard = lock(&self.0);
        let (tally, decided) = &mut *guard;
        tally.note(seen);
        // Reading the histograms is dear; it matters for a promotion alone.
        let p99_micros = |stats: &Stats| stats.read().p99_micros;
        let outcome = tally.decide(rule, || (p99_micros(serving), p99_micros(candidate)))?;
        (!std::mem::replace(decided, true)).then_some(outcome)
    }

    pub(crate) fn tally(&self) -> Tally {
        lock(&self.0).0.clone()
    }
}

impl Tally {
    fn note(&mut self, seen: Seen) {
        self.calls += 1;
        match seen {
            Seen::Same => {}
            Seen::Other(mut what) => {
                let mut end = what.len().min(DIFFERENCE_BYTES_MAX);
                while !what.is_char_boundary(end) {
                    end -= 1;
                }
                what.truncate(end);
                self.differences += 1;
                self.last_difference = what;
            }
            Seen::Error(fault) => {
                self.errors += 1;
                self.last_error = fault.to_string();
            }
        }
    }

    /// The outcome, if there is one yet; `p99` gives the serving revision's and the candidate's, in microseconds.
    fn decide(&self, rule: &Promotion, p99: impl FnOnce() -> (u64, u64)) -> Option<Outcome> {
        // Even if all calls to come were good, up to the number that is asked for.
        let calls = self.calls.max(rule.min_calls);
        let is_over = |count: u64, percent: u32| count * 100 > calls * u64::from(percent);
        if is_over(self.errors, rule.max_error_percent) {
            let (errors, last) = (self.errors, &self.last_error);
            return Some(Outcome::Drop(format!(
                "{errors} of {} calls were faults, the last: {last}",
                self.calls
            )));
        }
        if is_over(self.differences, rule.max_difference_percent) {
            let (differences, last) = (self.differences, &self.last_difference);
            return Some(Outcome::Drop(format!(
                "{differences} of {} calls were decided otherwise, the last: {last}",
                self.calls
            )));
        }
        if self.calls < rule.min_calls || rule.manual {
            return None;
        }
        let (serving, candidate) = p99();
        if candidate * 100 > serving.max(1) * u64::from(rule.max_latency_percent) {
            return Some(Outcome::Drop(format!(
                "its 99th percentile is {candidate} µs, the serving revision's {serving} µs, and at most {} % of that \
                 is asked for",
                rule.max_latency_percent
            )));
        }
        Some(Outcome::Promote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_promoted_and_dropped_by_its_rule() {
        let rule = |json| serde_json::from_value::<Promotion>(json).expect("a rule");
        let strict = || rule(serde_json::json!({"minCalls": 10}));
        let mild =
            || rule(serde_json::json!({"minCalls": 10, "maxErrorPercent": 10, "maxDifferencePercent": 50}));
        for (rule, (calls, errors, differences), p99, wanted) in [
            (strict(), (9, 0, 0), (10, 10), None),
            (strict(), (10, 0, 0), (10, 30), Some("")),
            (
                strict(),
                (10, 0, 0),
                (10, 31),
                Some("its 99th percentile is 31 µs"),
            ),
            (strict(), (1, 1, 0), (10, 10), Some("1 of 1 calls were faults")),
            (
                strict(),
                (1, 0, 1),
                (10, 10),
                Some("1 of 1 calls were decided otherwise"),
            ),
            (mild(), (2, 1, 1), (10, 10), None),
            (mild(), (3, 2, 0), (10, 10), Some("2 of 3 calls were faults")),
            (mild(), (10, 1, 5), (10, 10), Some("")),
            (
                Promotion {
                    manual: true,
                    ..strict()
                },
                (99, 0, 0),
                (10, 10),
                None,
            ),
        ] {
            let tally = Tally {
                calls,
                errors,
                differences,
                ..Tally::default()
            };
            match (tally.decide(&rule, || p99), wanted) {
                (None, None) | (Some(Outcome::Promote), Some("")) => {}
                (Some(Outcome::Drop(why)), Some(part)) if !part.is_empty() && why.starts_with(part) => {}
                (outcome, _) => panic!("{tally:?}: {outcome:?} instead of {wanted:?}"),
            }
        }
    }

    #[test]
    fn a_trial_is_decided_once() {
        let (ledger, stats) = (Ledger::default(), Stats::default());
        let rule = Promotion {
            min_calls: 2,
            ..Promotion::default()
        };
        let note = || ledger.note(Seen::Same, &rule, (&stats, &stats));
        assert_eq!((note(), note(), note()), (None, Some(Outcome::Promote), None));
    }
}
