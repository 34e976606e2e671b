//! Is there an order of these calls that a sequential object would have answered the same?
//!
//! The search of Wing and Gong as Lowe made it quick: take a call that no unfinished one had to precede, see
//! whether the model answers as was answered, go on, and step back where it does not; a state met again with
//! the same calls taken is not searched again. A call that never returned may be taken at any time or never.
//! The search is bounded, and says when the bound was met. Callers split histories by key first.

use std::collections::HashSet;
use std::hash::Hash;

/// A sequential object.
pub trait Model {
    /// What it holds.
    type State: Clone + Eq + Hash;
    /// What is asked of it, with the answer.
    type Operation;
    /// The state after, or none when the object would not have answered so.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// One call of a history.
#[derive(Debug, Clone)]
pub struct Call<O> {
    /// When it was asked.
    pub invoked: u64,
    /// When it was answered; none when it never was.
    pub returned: Option<u64>,
    /// What it was.
    pub operation: O,
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none; the most calls that could be ordered, and the call that then stood in the way.
    Violation {
        /// How many could be ordered at best.
        ordered: usize,
        /// Index of the call whose answer fits nowhere after them.
        stuck: usize,
    },
    /// The bound was met first.
    Undecided,
}

/// The ends of the calls in order of time, as a list from which calls are lifted and put back.
struct Entries {
    /// Call and whether it is its return; the first is no entry but the list's head.
    entries: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Where each call's return stands; 0 for none.
    returns: Vec<usize>,
}

impl Entries {
    fn new<O>(calls: &[Call<O>]) -> Self {
        let mut ends: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * calls.len());
        for (index, call) in calls.iter().enumerate() {
            ends.push((call.invoked, false, index));
            if let Some(returned) = call.returned {
                ends.push((returned, true, index));
            }
        }
        // At the same instant calls come before returns: that allows more orders, never fewer.
        ends.sort_unstable();
        let mut entries = vec![(usize::MAX, false)];
        let mut returns = vec![0; calls.len()];
        for (_, is_return, call) in ends {
            if is_return {
                returns[call] = entries.len();
            }
            entries.push((call, is_return));
        }
        let count = entries.len();
        Self {
            entries,
            next: (1..=count).collect(),
            previous: (0..=count).map(|entry| entry.saturating_sub(1)).collect(),
            returns,
        }
    }

    fn unlink(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = after;
        self.previous[after] = before;
    }

    fn relink(&mut self, entry: usize) {
        let (before, after) = (self.previous[entry], self.next[entry]);
        self.next[before] = entry;
        self.previous[after] = entry;
    }

    /// Takes the call at `entry`; whether it had a return.
    fn lift(&mut self, entry: usize) -> bool {
        self.unlink(entry);
        let back = self.returns[self.entries[entry].0];
        if back != 0 {
            self.unlink(back);
        }
        back != 0
    }

    fn put_back(&mut self, entry: usize) -> bool {
        let back = self.returns[self.entries[entry].0];
        if back != 0 {
            self.relink(back);
        }
        self.relink(entry);
        back != 0
    }
}

/// Searches an order of `calls` from `initial`, looking at no more than `bound` states.
pub fn linearizable<M: Model>(
    model: &M,
    initial: M::State,
    calls: &[Call<M::Operation>],
    bound: usize,
) -> Verdict {
    let mut list = Entries::new(calls);
    let end = list.entries.len();
    let mut taken = vec![0u64; calls.len().div_ceil(64)];
    let mut seen: HashSet<(Vec<u64>, M::State)> = HashSet::new();
    let mut steps: Vec<(usize, M::State)> = Vec::new();
    let mut state = initial;
    let mut unreturned = calls.iter().filter(|call| call.returned.is_some()).count();
    let mut best = (0, 0);
    let mut entry = list.next[0];
    while unreturned > 0 {
        let (call, is_return) = if entry < end {
            list.entries[entry]
        } else {
            (0, true)
        };
        if !is_return {
            let after = model.step(&state, &calls[call].operation);
            // An unanswered call that changes nothing need not be taken.
            let useful = |after: &M::State| calls[call].returned.is_some() || *after != state;
            if let Some(after) = after.filter(useful) {
                taken[call / 64] |= 1 << (call % 64);
                if seen.insert((taken.clone(), after.clone())) {
                    if seen.len() > bound {
                        return Verdict::Undecided;
                    }
                    steps.push((entry, std::mem::replace(&mut state, after)));
                    unreturned -= usize::from(list.lift(entry));
                    entry = list.next[0];
                    continue;
                }
                taken[call / 64] &= !(1 << (call % 64));
            }
            entry = list.next[entry];
            continue;
        }
        if steps.len() >= best.0 {
            best = (steps.len(), call);
        }
        let Some((last, before)) = steps.pop() else {
            return Verdict::Violation {
                ordered: best.0,
                stuck: best.1,
            };
        };
        let call = list.entries[last].0;
        taken[call / 64] &= !(1 << (call % 64));
        unreturned += usize::from(list.put_back(last));
        state = before;
        entry = list.next[last];
    }
    Verdict::Linearizable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register of numbers: `(written, read)`.
    struct Register;

    impl Model for Register {
        type State = u64;
        type Operation = (Option<u64>, Option<u64>);
        fn step(&self, state: &u64, operation: &Self::Operation) -> Option<u64> {
            match *operation {
                (_, Some(read)) if read != *state => None,
                (write, _) => Some(write.unwrap_or(*state)),
            }
        }
    }

    /// `w1 0-5` writes 1 from 0 to 5; `r1 2-` reads 1 from 2 and never returned.
    fn check(history: &str) -> Verdict {
        let calls: Vec<_> = history
            .split(", ")
            .map(|call| {
                let (what, when) = call.split_once(' ').unwrap();
                let (invoked, returned) = when.split_once('-').unwrap();
                let value: u64 = what[1..].parse().unwrap();
                Call {
                    invoked: invoked.parse().unwrap(),
                    returned: returned.parse().ok(),
                    operation: if what.starts_with('w') {
                        (Some(value), None)
                    } else {
                        (None, Some(value))
                    },
                }
            })
            .collect();
        linearizable(&Register, 0, &calls, 1_000_000)
    }

    #[test]
    fn good_histories_pass() {
        for history in [
            "w1 0-5, r1 6-7",
            "w1 0-9, r0 1-2, r1 3-4",
            "w1 0-9, w2 0-9, r2 10-11, r2 12-13",
            "w1 0-9, w2 0-9, r1 10-11",
            // The write never returned: it may be seen late, or never.
            "w1 0-, r0 1-2, r1 5-6",
            "w1 0-, r0 1-2, r0 5-6",
            "w1 0-, w2 3-4, r2 5-6, r1 7-8",
        ] {
            assert_eq!(check(history), Verdict::Linearizable, "{history}");
        }
    }

    #[test]
    fn bad_histories_do_not() {
        for history in [
            "w1 0-5, r0 6-7",
            "w1 0-9, r1 1-2, r0 3-4",
            "r1 0-1, w1 2-3",
            "w1 0-9, w2 0-9, r1 10-11, r2 12-13",
            "w1 0-, r1 1-2, r0 5-6",
            "w1 0-1, w2 2-3, r1 4-5",
        ] {
            assert!(matches!(check(history), Verdict::Violation { .. }), "{history}");
        }
    }

    #[test]
    fn the_call_in_the_way_is_named() {
        assert_eq!(
            check("w1 0-1, w2 2-3, r1 4-5"),
            Verdict::Violation { ordered: 2, stuck: 2 }
        );
    }

    /// Twelve clients whose calls overlap, made from a real register, with every fortieth answer lost.
    fn history(seed: u64, count: usize, lie: bool) -> Vec<Call<(Option<u64>, Option<u64>)>> {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut free, mut state) = ([0u64; 12], 0);
        let mut calls = Vec::new();
        for at in 0..count as u64 {
            // The call takes effect at its own instant, somewhere between being asked and answered.
            let effect = (at + 1) * 10;
            let client = random.usize(..12);
            if free[client] >= effect {
                continue;
            }
            let invoked = free[client].max(effect.saturating_sub(random.u64(1..100))) + 1;
            let returned = effect + random.u64(1..100);
            free[client] = returned;
            let operation = if random.bool() {
                state = at + 1;
                (Some(state), None)
            } else {
                (None, Some(state))
            };
            let lost = random.u8(..40) == 0 && operation.0.is_some();
            calls.push(Call {
                invoked,
                returned: (!lost).then_some(returned),
                operation,
            });
        }
        if lie {
            let late = calls.iter().rposition(|call| call.operation.1.is_some()).unwrap();
            calls[late].operation.1 = Some(0);
        }
        calls
    }

    #[test]
    fn long_histories_are_decided() {
        for seed in 0..5 {
            let calls = history(seed, 2_000, false);
            assert_eq!(
                linearizable(&Register, 0, &calls, 2_000_000),
                Verdict::Linearizable,
                "seed {seed}"
            );
        }
        let verdict = linearizable(&Register, 0, &history(1, 2_000, true), 200_000);
        assert_ne!(verdict, Verdict::Linearizable);
    }

    #[test]
    fn the_bound_is_kept() {
        let calls: Vec<_> = (0..40)
            .map(|at| Call {
                invoked: at,
                returned: Some(100),
                operation: (Some(at), None),
            })
            .chain([Call {
                invoked: 101,
                returned: Some(102),
                operation: (None, Some(99)),
            }])
            .collect();
        assert_eq!(linearizable(&Register, 0, &calls, 1_000), Verdict::Undecided);
    }
}
