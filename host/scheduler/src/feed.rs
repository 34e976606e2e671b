//! The news that policies have yet to hear: a bounded log of deltas, and how to bring one policy level.
//!
//! An epoch is the count of deltas since the start, so that "what is new since" is a slice.

use capstan_points::Fault;
use capstan_points::scheduler::{Delta, Epoch, Policy};

/// Deltas kept. A policy that is further behind is told everything anew, which is then cheaper.
const LOG_MAX: usize = 65_536;

#[derive(Default)]
pub(crate) struct Feed {
    log: Vec<Delta>,
    /// Epoch before the first delta of the log.
    base: Epoch,
}

impl Feed {
    pub(crate) fn push(&mut self, delta: Delta) {
        if self.log.len() >= LOG_MAX {
            let half = LOG_MAX / 2;
            self.log.drain(..half);
            self.base += half as Epoch;
        }
        self.log.push(delta);
    }

    /// Epoch after the last delta; never 0, which is "knows nothing".
    pub(crate) fn epoch(&self) -> Epoch {
        self.base + self.log.len() as Epoch + 1
    }

    /// Makes every epoch so far too old, so that all policies start over.
    pub(crate) fn start_over(&mut self) {
        self.base += self.log.len() as Epoch + 1;
        self.log.clear();
    }

    /// What is new since `epoch`; none when that is too old.
    fn since(&self, epoch: Epoch) -> Option<&[Delta]> {
        let index = epoch.checked_sub(self.base + 1)?;
        self.log.get(index as usize..)
    }

    /// Tells the policy what it does not know. `everything` is asked only when it must start over.
    pub(crate) fn level(
        &self,
        policy: &dyn Policy,
        everything: impl FnOnce() -> Vec<Delta>,
    ) -> Result<(), Fault> {
        let (known, now) = (policy.epoch(), self.epoch());
        if known == now || !policy.asks().view {
            return Ok(());
        }
        match self.since(known) {
            Some(news) => policy.apply(now, false, news),
            None => policy.apply(now, true, &everything()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_those_since_the_epoch_or_none_when_it_is_too_old() {
        let mut feed = Feed::default();
        assert!(feed.since(0).is_none());
        let start = feed.epoch();
        feed.push(Delta::PodRemoved(1));
        feed.push(Delta::PodRemoved(2));
        assert_eq!(feed.since(start).map(<[_]>::len), Some(2));
        assert_eq!(feed.since(feed.epoch()).map(<[_]>::len), Some(0));
        for _ in 0..LOG_MAX {
            feed.push(Delta::PodRemoved(3));
        }
        assert!(feed.since(start).is_none());
        feed.start_over();
        assert!(feed.since(feed.epoch() - 1).is_none());
    }
}
