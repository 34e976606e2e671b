//! Thresholds: how many answers in a row turn a probe's verdict. Pure.

use k8s_openapi::api::core::v1::Probe;

use super::Kind;

/// Counts answers of one probe.
#[derive(Debug)]
pub(crate) struct Counter {
    success_threshold: i32,
    failure_threshold: i32,
    passed: Option<bool>,
    last: Option<bool>,
    run: i32,
}

impl Counter {
    pub(crate) fn new(kind: Kind, probe: &Probe) -> Self {
        Self {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            // A container is alive until shown otherwise, and neither started nor ready.
            passed: match kind {
                Kind::Liveness => Some(true),
                Kind::Readiness => Some(false),
                Kind::Startup => None,
            },
            last: None,
            run: 0,
        }
    }

    /// Takes an answer; the verdict if it turned.
    pub(crate) fn record(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = Some(success);
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < threshold || self.passed == Some(success) {
            return None;
        }
        self.passed = Some(success);
        Some(success)
    }

    /// Whether the verdict is still what it was before the first answer.
    pub(crate) fn is_undecided(&self) -> bool {
        self.passed != Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(kind: Kind, success: i32, failure: i32, answers: &str) -> String {
        let probe = Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            ..Default::default()
        };
        let mut counter = Counter::new(kind, &probe);
        let turn = |answer| match counter.record(answer == '+') {
            None => '.',
            Some(true) => '+',
            Some(false) => '-',
        };
        answers.chars().map(turn).collect()
    }

    #[test]
    fn a_verdict_turns_after_enough_answers_in_a_row() {
        let cases = [
            (Kind::Readiness, 1, 3, "-+--+---+", ".+.....-+"),
            (Kind::Readiness, 2, 1, "+-++-", "...+-"),
            (Kind::Liveness, 1, 3, "++--+---", ".......-"),
            (Kind::Startup, 1, 2, "-+", ".+"),
            (Kind::Startup, 1, 2, "--", ".-"),
        ];
        for (kind, success, failure, answers, expected) in cases {
            assert_eq!(
                verdicts(kind, success, failure, answers),
                expected,
                "{kind} {answers}"
            );
        }
    }
}
