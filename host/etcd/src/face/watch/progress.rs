//! A manual progress request: answered once for the whole stream, when every watch has said how far it is.
//! Pure.

use std::collections::HashSet;

use capstan_store::Revision;

/// The request that is being answered, if any.
#[derive(Debug, Default)]
pub(super) struct Round {
    waiting: HashSet<i64>,
    /// The least that any watch has said.
    reached: Option<Revision>,
    /// It was asked for again meanwhile.
    again: bool,
}

impl Round {
    /// Asks; returns the watches that must say how far they are.
    pub(super) fn ask(&mut self, watches: impl Iterator<Item = i64>) -> Vec<i64> {
        if !self.waiting.is_empty() {
            self.again = true;
            return Vec::new();
        }
        self.again = false;
        self.reached = None;
        self.waiting = watches.collect();
        self.waiting.iter().copied().collect()
    }

    /// Whether a watch that begins now must say how far it is: the answer is about it too.
    pub(super) fn joined(&mut self, watch: i64) -> bool {
        let is_running = !self.waiting.is_empty();
        if is_running {
            self.waiting.insert(watch);
        }
        is_running
    }

    /// A watch said how far it is; returns the stream's answer when it was the last.
    pub(super) fn said(&mut self, watch: i64, revision: Revision) -> Option<Revision> {
        if !self.waiting.remove(&watch) {
            return None;
        }
        self.reached = Some(self.reached.map_or(revision, |reached| reached.min(revision)));
        self.answer()
    }

    /// A watch ended; likewise.
    pub(super) fn left(&mut self, watch: i64) -> Option<Revision> {
        self.waiting.remove(&watch).then(|| self.answer()).flatten()
    }

    fn answer(&mut self) -> Option<Revision> {
        if self.waiting.is_empty() {
            self.reached.take()
        } else {
            None
        }
    }

    /// Whether to ask once more, after an answer.
    pub(super) fn is_due_again(&mut self) -> bool {
        self.waiting.is_empty() && std::mem::take(&mut self.again)
    }

    /// Whether the watch is waited for.
    pub(super) fn waits_for(&self, watch: i64) -> bool {
        self.waiting.contains(&watch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_last_and_is_the_least() {
        let mut round = Round::default();
        assert_eq!(round.ask([1, 2].into_iter()).len(), 2);
        assert_eq!(round.said(1, 9), None);
        assert!(round.joined(3));
        assert_eq!(round.said(1, 10), None);
        assert!(round.ask([1, 2, 3].into_iter()).is_empty());
        assert_eq!(round.said(3, 8), None);
        assert_eq!(round.left(2), Some(8));
        assert!(round.is_due_again());
        assert!(!round.is_due_again());
        assert!(!round.joined(4));
        assert_eq!(round.left(4), None);
        assert!(round.ask(std::iter::empty()).is_empty());
    }
}
