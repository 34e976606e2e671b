//! Policies of a chaotic cluster: room for so many pods, which is the truth, and three that misbehave at random.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use capstan_points::scheduler::{Asks, Delta, Epoch, NodeId, Permit, Pod, PodId, Policy, Rejection, Release};
use capstan_points::{Bits, FailurePolicy, Fault, FaultKind, Seat};

/// Counts pods by node, as told, and refuses full nodes.
struct Room {
    most: usize,
    epoch: Mutex<Epoch>,
    pods: Mutex<HashMap<PodId, NodeId>>,
}

impl Policy for Room {
    fn asks(&self) -> Asks {
        Asks {
            view: true,
            filter: true,
            ..Asks::default()
        }
    }

    fn weight(&self) -> i64 {
        1
    }

    fn profiles(&self) -> &[String] {
        PROFILES.get_or_init(|| vec!["default-scheduler".to_owned()])
    }

    fn epoch(&self) -> Epoch {
        *self.epoch.lock().unwrap()
    }

    fn apply(&self, epoch: Epoch, reset: bool, deltas: &[Delta]) -> Result<(), Fault> {
        let mut pods = self.pods.lock().unwrap();
        if reset {
            pods.clear();
        }
        for delta in deltas {
            match delta {
                Delta::PodUpserted { id, node, .. } => _ = pods.insert(*id, *node),
                Delta::PodRemoved(id) => _ = pods.remove(id),
                _ => {}
            }
        }
        *self.epoch.lock().unwrap() = epoch;
        Ok(())
    }

    fn filter(&self, _: &Pod, candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        let pods = self.pods.lock().unwrap();
        let is_full = |node: &NodeId| pods.values().filter(|on| *on == node).count() >= self.most;
        let nodes: Bits = candidates.iter().filter(is_full).collect();
        Ok(vec![Rejection {
            reason: "full".to_owned(),
            resolvable: false,
            nodes,
        }])
    }
}

static PROFILES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();

/// Misbehaves at its one point now and then.
struct Moody {
    at: Asks,
    rng: Mutex<fastrand::Rng>,
}

impl Moody {
    /// One time of eight.
    fn mood(&self, fault: FaultKind) -> Result<(), Fault> {
        match self.rng.lock().unwrap().u8(..8) {
            0 => Err(Fault::new(fault, "as it pleases")),
            _ => Ok(()),
        }
    }
}

impl Policy for Moody {
    fn asks(&self) -> Asks {
        self.at
    }

    fn weight(&self) -> i64 {
        1
    }

    fn profiles(&self) -> &[String] {
        PROFILES.get_or_init(|| vec!["default-scheduler".to_owned()])
    }

    fn epoch(&self) -> Epoch {
        0
    }

    fn apply(&self, _: Epoch, _: bool, _: &[Delta]) -> Result<(), Fault> {
        Ok(())
    }

    fn score(&self, _: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        self.mood(FaultKind::Garbage)?;
        Ok(vec![0; candidates.count()])
    }

    fn permit(&self, _: &Pod, _: NodeId) -> Result<(Permit, Vec<Release>), Fault> {
        self.mood(FaultKind::Deadline)?;
        // Nobody ever lets it go: its time must end it.
        let waits = self.rng.lock().unwrap().u8(..8) == 0;
        let decision = if waits { Permit::Wait(50) } else { Permit::Allow };
        Ok((decision, Vec::new()))
    }
}

pub(crate) fn seats(room: usize, seed: u64) -> Vec<Seat<dyn Policy>> {
    let seat = |plugin: &str, policy: Arc<dyn Policy>| Seat {
        plugin: plugin.to_owned(),
        revision: 1,
        failure_policy: FailurePolicy::Fail,
        policy,
    };
    let moody = |at, seed| {
        Arc::new(Moody {
            at,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
        })
    };
    let score = Asks {
        score: true,
        ..Asks::default()
    };
    let permit = Asks {
        permit: true,
        ..Asks::default()
    };
    let room = Room {
        most: room,
        epoch: Mutex::default(),
        pods: Mutex::default(),
    };
    vec![
        seat("room", Arc::new(room)),
        seat("scores", moody(score, seed)),
        seat("permits", moody(permit, !seed)),
    ]
}
