//! Placed pods that policies hold back before they are bound, each until all of those have let it go. Pure.
//!
//! Invariants: a pod leaves once, with one word: go, or why not; a policy's time is over at its own deadline. At
//! most [`WAITING_MAX`] wait; the next is rejected.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use capstan_points::scheduler::Release;

use crate::placement::Placement;

/// Pods that wait at once.
pub(crate) const WAITING_MAX: usize = 16_384;

/// The original's `maxTimeout`: what a policy may ask for at most.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

struct Waits {
    placement: Placement,
    /// Who holds it back, and until when.
    on: Vec<(String, Instant)>,
}

#[derive(Default)]
pub(crate) struct Waiting {
    pods: HashMap<String, Waits>,
    timed: BTreeSet<(Instant, String)>,
}

/// What becomes of a pod that waited.
pub(crate) enum Word {
    Go(Placement),
    /// The policy that stopped it, and why.
    Stop(Placement, String, String),
}

impl Waiting {
    /// The pod waits for the policies; none is in vain. Gives it back where there is no room.
    pub(crate) fn add(&mut self, placement: Placement, on: Vec<(String, Instant)>) -> Result<(), Placement> {
        if self.pods.len() >= WAITING_MAX {
            return Err(placement);
        }
        let uid = placement.pending.uid.clone();
        for (_, until) in &on {
            self.timed.insert((*until, uid.clone()));
        }
        self.pods.insert(uid, Waits { placement, on });
        Ok(())
    }

    /// A policy's word about a pod; none where the pod waits on, or never waited for it.
    pub(crate) fn release(&mut self, plugin: &str, release: &Release) -> Option<Word> {
        let waits = self.pods.get_mut(&release.uid)?;
        if !waits.on.iter().any(|(other, _)| other == plugin) {
            return None;
        }
        if let Some(why) = &release.rejected {
            let placement = self.take(&release.uid)?;
            return Some(Word::Stop(placement, plugin.to_owned(), why.clone()));
        }
        let (released, held): (Vec<_>, Vec<_>) = std::mem::take(&mut waits.on)
            .into_iter()
            .partition(|(other, _)| other == plugin);
        waits.on = held;
        for (_, until) in released {
            if !waits.on.iter().any(|(_, other)| *other == until) {
                self.timed.remove(&(until, release.uid.clone()));
            }
        }
        if !waits.on.is_empty() {
            return None;
        }
        self.take(&release.uid).map(Word::Go)
    }

    /// The next pod whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Word> {
        while let Some((due, uid)) = self.timed.first().filter(|(due, _)| *due <= now).cloned() {
            self.timed.pop_first();
            let waits = self.pods.get(&uid);
            let late = waits.and_then(|waits| waits.on.iter().find(|(_, until)| *until == due));
            if let Some((plugin, _)) = late.cloned() {
                let placement = self.take(&uid)?;
                let why = format!("timed out waiting for {plugin}");
                return Some(Word::Stop(placement, plugin, why));
            }
        }
        None
    }

    /// When `expire` has something to do next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.timed.first().map(|(due, _)| *due)
    }

    /// Nobody waits any more.
    pub(crate) fn take_all(&mut self) -> Vec<Placement> {
        self.timed.clear();
        self.pods.drain().map(|(_, waits)| waits.placement).collect()
    }

    /// The pod waits no more.
    pub(crate) fn take(&mut self, uid: &str) -> Option<Placement> {
        let waits = self.pods.remove(uid)?;
        for (_, until) in &waits.on {
            self.timed.remove(&(*until, uid.to_owned()));
        }
        Some(waits.placement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_points::scheduler::Pod;

    fn placement(uid: &str) -> Placement {
        Placement {
            key: format!("default/{uid}"),
            pod: Default::default(),
            pending: Pod {
                uid: uid.to_owned(),
                ..Pod::default()
            },
            node: 0,
            node_name: "n".into(),
            seats: [].into(),
        }
    }

    fn let_go(uid: &str) -> Release {
        Release {
            uid: uid.to_owned(),
            rejected: None,
        }
    }

    #[test]
    fn a_pod_goes_when_all_have_let_it_go_and_stops_at_the_first_refusal() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let until = now + Duration::from_secs(5);
        let on = || vec![("a".to_owned(), until), ("b".to_owned(), until)];
        assert!(waiting.add(placement("p"), on()).is_ok());
        assert!(waiting.add(placement("q"), on()).is_ok());
        assert!(
            waiting.release("c", &let_go("p")).is_none(),
            "it does not wait for that one"
        );
        assert!(waiting.release("a", &let_go("p")).is_none());
        assert!(matches!(waiting.release("b", &let_go("p")), Some(Word::Go(_))));
        assert!(waiting.release("b", &let_go("p")).is_none(), "once");
        let refused = Release {
            uid: "q".to_owned(),
            rejected: Some("no quorum".to_owned()),
        };
        let Some(Word::Stop(_, plugin, why)) = waiting.release("b", &refused) else {
            panic!("it waits on")
        };
        assert_eq!((plugin.as_str(), why.as_str()), ("b", "no quorum"));
        assert!(waiting.next_due().is_none());
    }

    #[test]
    fn time_is_over_at_the_deadline_of_whoever_still_holds_the_pod() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let on = vec![("a".into(), at(1)), ("b".into(), at(9))];
        assert!(waiting.add(placement("p"), on).is_ok());
        waiting.release("a", &let_go("p"));
        assert!(waiting.expire(at(5)).is_none(), "the first let it go in time");
        let Some(Word::Stop(_, plugin, _)) = waiting.expire(at(9)) else {
            panic!("it waits on")
        };
        assert_eq!(plugin, "b");
        assert!(waiting.expire(at(99)).is_none());
    }
}
