//! The work queue of a controller: keys, each at most once, with back-off after failure.
//!
//! Pure: the caller passes the time. Invariants: a key is never worked on twice at the same time; a key that
//! is added while it is worked on runs once more afterwards; at most [`KEYS_MAX`] keys are held. Called by
//! [`crate::work`]. Not here: tasks, clocks, what a key means.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Keys that a queue may hold; objects beyond it wait for the next relist.
pub(crate) const KEYS_MAX: usize = 200_000;

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What became of the work on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing more to do until something changes.
    Done,
    /// Done for now, look again after this long.
    Again(Duration),
    /// Failed: try again with back-off.
    Failed,
}

#[derive(Debug)]
pub(crate) struct Queue<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    running: HashSet<K>,
    delayed: BTreeSet<(Instant, u64)>,
    delayed_keys: HashMap<u64, K>,
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    sequence: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashSet::new(),
            delayed: BTreeSet::new(),
            delayed_keys: HashMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            sequence: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Asks for work on `key`. Returns `false` when the queue is full and the key was not taken.
    pub(crate) fn add(&mut self, key: K) -> bool {
        if self.queued.contains(&key) {
            return true;
        }
        if self.queued.len() >= KEYS_MAX {
            return false;
        }
        self.queued.insert(key.clone());
        if !self.running.contains(&key) {
            self.ready.push_back(key);
        }
        true
    }

    /// Asks for work on `key` at `due` at the latest.
    pub(crate) fn add_at(&mut self, key: K, due: Instant) {
        if let Some(&(earlier, number)) = self.due.get(&key) {
            if earlier <= due {
                return;
            }
            self.delayed.remove(&(earlier, number));
            self.delayed_keys.remove(&number);
        }
        if self.delayed.len() >= KEYS_MAX {
            return;
        }
        self.sequence += 1;
        self.delayed.insert((due, self.sequence));
        self.delayed_keys.insert(self.sequence, key.clone());
        self.due.insert(key, (due, self.sequence));
    }

    /// When the next delayed key is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.delayed.first().map(|(due, _)| *due)
    }

    /// Makes the keys that are due ready.
    pub(crate) fn promote(&mut self, now: Instant) {
        while let Some(&(due, number)) = self.delayed.first() {
            if due > now {
                break;
            }
            self.delayed.remove(&(due, number));
            if let Some(key) = self.delayed_keys.remove(&number) {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }

    /// The next key to work on; it counts as running until [`Queue::done`].
    pub(crate) fn pop(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.running.insert(key.clone());
        Some(key)
    }

    /// Ends the work on `key`.
    pub(crate) fn done(&mut self, key: K, outcome: Outcome, now: Instant) {
        self.running.remove(&key);
        if self.queued.contains(&key) {
            self.ready.push_back(key.clone());
        }
        match outcome {
            Outcome::Done => {
                self.failures.remove(&key);
            }
            Outcome::Again(after) => {
                self.failures.remove(&key);
                self.add_at(key, now + after);
            }
            Outcome::Failed => {
                let failures = self.failures.entry(key.clone()).or_insert(0);
                let pause = BACKOFF_MIN
                    .saturating_mul(1u32 << (*failures).min(16))
                    .min(BACKOFF_MAX);
                *failures += 1;
                self.add_at(key, now + pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_added_while_running_runs_once_more() {
        let now = Instant::now();
        let mut queue = Queue::default();
        assert!(queue.add("a"));
        assert!(queue.add("a"));
        assert_eq!(queue.pop(), Some("a"));
        assert_eq!(queue.pop(), None);
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.pop(), None, "never twice at the same time");
        queue.done("a", Outcome::Done, now);
        assert_eq!(queue.pop(), Some("a"));
        queue.done("a", Outcome::Done, now);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn failures_back_off_and_success_forgets_them() {
        let now = Instant::now();
        let mut queue = Queue::default();
        let mut pauses = Vec::new();
        for _ in 0..3 {
            queue.add("a");
            queue.pop();
            queue.done("a", Outcome::Failed, now);
            let due = queue.next_due().expect("delayed");
            pauses.push((due - now).as_millis());
            queue.promote(due);
            queue.pop();
            queue.running.clear();
        }
        assert_eq!(pauses, [5, 10, 20]);
        queue.done("a", Outcome::Done, now);
        queue.done("a", Outcome::Failed, now);
        assert_eq!(queue.next_due(), Some(now + BACKOFF_MIN));
    }

    #[test]
    fn the_earliest_wish_wins() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.add_at("a", now + Duration::from_secs(9));
        queue.add_at("a", now + Duration::from_secs(3));
        queue.add_at("a", now + Duration::from_secs(5));
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(3)));
        queue.promote(now + Duration::from_secs(3));
        assert_eq!(queue.pop(), Some("a"));
        assert_eq!(queue.next_due(), None);
    }
}
