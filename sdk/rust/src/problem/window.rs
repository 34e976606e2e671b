//! How often something happened lately.

use std::collections::VecDeque;

/// The most that a window counts to.
pub const COUNT_MAX: u32 = 1_000;

/// Full once so many things happened within a span of time.
#[derive(Debug, Clone)]
pub struct Window {
    count: usize,
    span_ms: u64,
    times_ms: VecDeque<u64>,
}

impl Window {
    /// Empty at first. A count of 1 is full at once; more than [`COUNT_MAX`] counts as that.
    pub fn new(count: u32, span_ms: u64) -> Self {
        Self {
            count: count.clamp(1, COUNT_MAX) as usize,
            span_ms,
            times_ms: VecDeque::new(),
        }
    }

    /// It happened; returns whether the window is full now. Times may come out of order by a little: one that is
    /// older than the newest counts as that.
    pub fn hit(&mut self, at_ms: u64) -> bool {
        let now_ms = self.times_ms.back().map_or(at_ms, |newest| at_ms.max(*newest));
        self.times_ms.push_back(now_ms);
        if self.times_ms.len() > self.count {
            self.times_ms.pop_front();
        }
        self.is_full(now_ms)
    }

    /// Whether so many of the last things happened within the span that ends now.
    pub fn is_full(&self, now_ms: u64) -> bool {
        let oldest = self
            .times_ms
            .front()
            .filter(|_| self.times_ms.len() == self.count);
        oldest.is_some_and(|oldest| oldest.saturating_add(self.span_ms) >= now_ms)
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.times_ms.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_full_by_count_within_its_span() {
        let mut window = Window::new(3, 100);
        let seen: Vec<bool> = [0, 60, 120, 150, 260, 261, 250, 500]
            .into_iter()
            .map(|at| window.hit(at))
            .collect();
        assert_eq!(seen, [false, false, false, true, false, false, true, false]);
        assert!(Window::new(1, 0).hit(7));
        assert!(!Window::new(2, 10).is_full(0));
        window.clear();
        assert!(!window.hit(501));
    }
}
