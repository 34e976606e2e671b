//! One node on which pods could be evicted: all are thought away, then each may stay whose staying leaves room.

use crate::budgets::Budgets;
use capstan_sdk::scheduler::{AssignedPod, Cluster, NodeId, PodId};

/// A pod that may be evicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) id: PodId,
    pub(crate) priority: i32,
    /// Milliseconds since the Unix epoch; none where it has not started, which counts as now.
    pub(crate) started_ms: Option<u64>,
}

impl Victim {
    pub(crate) fn of(cluster: &Cluster, pod: &AssignedPod) -> Self {
        Self {
            id: pod.id,
            priority: pod.pod.priority,
            started_ms: cluster.started_ms(pod.id),
        }
    }

    /// Sorts the more important first: by priority, then who runs for longer.
    fn importance(&self) -> (std::cmp::Reverse<i32>, u64, PodId) {
        let started_ms = self.started_ms.unwrap_or(u64::MAX);
        (std::cmp::Reverse(self.priority), started_ms, self.id)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Thought away so far.
    Away,
    Stays,
    Victim,
}

/// What is known of a candidate after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The pod does not fit even without all of them.
    Hopeless,
    /// There is more to ask.
    Open,
    /// All victims are known.
    Settled,
}

/// A node and the pods that might go.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    /// In the order in which they are let stay: those that a budget protects first, then by importance.
    pods: Vec<(Victim, Fate)>,
    /// How many of them, from the first on, a budget protects.
    protected: usize,
    /// Whose staying was asked about; none: whether the pod fits without all.
    asked: Option<usize>,
}

impl Candidate {
    pub(crate) fn new(node: NodeId, mut pods: Vec<Victim>, budgets: &Budgets<'_>, cluster: &Cluster) -> Self {
        pods.sort_by_key(Victim::importance);
        let (protected, free) = budgets.split(cluster, pods);
        let count = protected.len();
        let away = |victim| (victim, Fate::Away);
        Self {
            node,
            pods: protected.into_iter().chain(free).map(away).collect(),
            protected: count,
            asked: None,
        }
    }

    /// The pods without which the host is asked whether the node will do.
    pub(crate) fn thought_away(&self) -> impl Iterator<Item = PodId> {
        let stays = |at: usize, fate| fate == Fate::Stays || self.asked == Some(at);
        let pods = self.pods.iter().enumerate();
        pods.filter(move |(at, (_, fate))| !stays(*at, *fate))
            .map(|(_, (victim, _))| victim.id)
    }

    /// Takes the answer in, and turns to the next question.
    pub(crate) fn learn(&mut self, feasible: bool) -> State {
        let next = match self.asked {
            None if !feasible => return State::Hopeless,
            None => 0,
            Some(at) => {
                self.pods[at].1 = if feasible { Fate::Stays } else { Fate::Victim };
                at + 1
            }
        };
        self.asked = (next < self.pods.len()).then_some(next);
        match self.asked {
            Some(_) => State::Open,
            None => State::Settled,
        }
    }

    /// Those who must go, the most important first.
    pub(crate) fn victims(&self) -> impl Iterator<Item = &Victim> {
        let mut victims: Vec<&Victim> = self.fated(0..self.pods.len()).collect();
        victims.sort_by_key(|victim| victim.importance());
        victims.into_iter()
    }

    /// How many of them a budget protects.
    pub(crate) fn violations(&self) -> usize {
        self.fated(0..self.protected).count()
    }

    fn fated(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = &Victim> {
        let gone = self.pods[range].iter().filter(|(_, fate)| *fate == Fate::Victim);
        gone.map(|(victim, _)| victim)
    }
}
