//! What a history must keep to, and where it does not.
//!
//! Pure: a history in, sentences out. Each file checks one promise; [`all`] runs them. A violation names what
//! was seen and what would have been right; the whole history is kept beside by the caller.

mod leases;
mod log;
mod operations;
mod order;
#[cfg(test)]
mod tests;
mod watches;

use crate::chaos::history::History;

/// The most violations told of one promise.
const TOLD_MAX: usize = 8;

/// What was checked and what was wrong.
#[derive(Debug, Default)]
pub struct Findings {
    /// Broken promises.
    pub violations: Vec<String>,
    /// What was looked at, as names and counts.
    pub counts: Vec<(&'static str, usize)>,
}

impl Findings {
    fn broken(&mut self, promise: &str, seen: Vec<String>) {
        let more = seen.len().saturating_sub(TOLD_MAX);
        self.violations.extend(
            seen.into_iter()
                .take(TOLD_MAX)
                .map(|seen| format!("{promise}: {seen}")),
        );
        if more > 0 {
            self.violations.push(format!("{promise}: and {more} more"));
        }
    }

    fn counted(&mut self, what: &'static str, count: usize) {
        self.counts.push((what, count));
    }
}

/// Checks everything.
pub fn all(history: &History) -> Findings {
    let mut findings = Findings::default();
    let timeline = log::assemble(history, &mut findings);
    watches::check(history, &timeline, &mut findings);
    operations::check(history, &timeline, &mut findings);
    leases::check(history, &mut findings);
    order::check(history, &mut findings);
    findings
}
