//! How many units a thread evaluates before it gives up, so that a caller on an async worker can take a long
//! evaluation elsewhere and start it anew.
//!
//! What is given up says nothing: its result is void. Scopes do not nest. Asked where a budget is handed out,
//! not for each unit. Not here: where the evaluation is taken to.

use std::cell::Cell;

thread_local! {
    /// None outside of a scope.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Ends the scope, also where the work panics.
struct Scope;

impl Drop for Scope {
    fn drop(&mut self) {
        LEFT.set(None);
    }
}

/// What `work` makes, where all expressions that it evaluates cost less than `units`; otherwise none, soon after
/// they are spent.
pub fn within<T>(units: u64, work: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(Some(units));
    let _scope = Scope;
    let made = work();
    (left() > 0).then_some(made)
}

/// What may still be spent.
pub(crate) fn left() -> u64 {
    LEFT.get().unwrap_or(u64::MAX)
}

/// Takes note of what was.
pub(crate) fn spend(units: u64) {
    LEFT.set(LEFT.get().map(|left| left.saturating_sub(units)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cel::{CALL_COST_MAX, Evaluation, parse};

    #[test]
    fn what_costs_more_is_given_up_and_no_later_one_is() {
        let node = parse("[1, 2, 3, 4].all(a, [1, 2, 3, 4].all(b, a + b > 0))").unwrap();
        let run = || {
            let mut budget = CALL_COST_MAX;
            let outcome = Evaluation::new(Vec::new(), 0).run(&node, &mut budget);
            (outcome.is_ok(), CALL_COST_MAX - budget)
        };
        let (whole, cost) = run();
        assert!(whole && cost > 16, "{cost}");
        assert_eq!(within(cost, run), None);
        assert_eq!(within(cost + 1, run), Some((true, cost)));
        assert_eq!(run(), (true, cost), "out of the scope nothing is held back");
    }
}
