//! Scheduler policies (`capstan:scheduler`): which nodes can take a pod, which is best, and what stands around
//! that choice.
//!
//! A [`Policy`] keeps its own copy of the cluster, fed by [`Delta`]s; the scheduler keeps it level by
//! [`Policy::epoch`]. Not here: the order in which policies are asked, which is the scheduler's.

mod answers;
mod facts;

pub use answers::*;
pub use facts::*;

use crate::{Bits, Fault};

/// Counts batches of deltas since the scheduler started; 0 is "knows nothing".
pub type Epoch = u64;

/// What a policy exports, so that it is asked nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Asks {
    pub view: bool,
    pub enqueue: bool,
    pub queue_sort: bool,
    pub pre_filter: bool,
    pub filter: bool,
    pub what_if: bool,
    pub post_filter: bool,
    pub pre_score: bool,
    pub score: bool,
    pub reserve: bool,
    pub permit: bool,
    pub pre_bind: bool,
    pub bind: bool,
    pub post_bind: bool,
    pub hints: bool,
}

/// Of what a policy is told, beside symbols and nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Topics {
    pub pods: bool,
    pub starts: bool,
    pub namespaces: bool,
    pub budgets: bool,
}

impl Topics {
    /// Everything.
    pub const ALL: Self = Self {
        pods: true,
        starts: true,
        namespaces: true,
        budgets: true,
    };

    /// Whether a policy with these topics is told of it.
    pub fn include(&self, delta: &Delta) -> bool {
        match delta {
            Delta::Symbols { .. } | Delta::NodeUpserted(_) | Delta::NodeRemoved(_) => true,
            Delta::PodUpserted { .. } | Delta::PodRemoved(_) => self.pods,
            Delta::PodStarted(..) => self.starts,
            Delta::NamespaceUpserted { .. } | Delta::NamespaceRemoved(_) => self.namespaces,
            Delta::BudgetUpserted(_) | Delta::BudgetRemoved { .. } => self.budgets,
        }
    }
}

/// A scheduler policy. Called from the scheduler's own thread, one call at a time; nothing is asked that is not
/// in [`Policy::asks`], so that what is left out needs no answer.
pub trait Policy: Send + Sync {
    /// Which questions it answers.
    fn asks(&self) -> Asks;

    /// Weight of its score column, at least 1.
    fn weight(&self) -> i64;

    /// `schedulerName`s of the profiles that it serves.
    fn profiles(&self) -> &[String];

    /// Where it stands in its profiles: lower is asked first, equals by name.
    fn order(&self) -> i32 {
        0
    }

    /// The epoch that it last applied; 0 when its instance is new (also after a trap).
    fn epoch(&self) -> Epoch;

    /// Tells it what happened up to `epoch`. With `reset`, all earlier state is void. It keeps to its own topics.
    fn apply(&self, epoch: Epoch, reset: bool, deltas: &[Delta]) -> Result<(), Fault>;

    /// Whether the pod may enter the queue.
    fn enqueue(&self, _pod: &Pod) -> Result<Readiness, Fault> {
        Ok(Readiness::Ready)
    }

    /// Where the pod stands in the queue; lower is first.
    fn rank(&self, _pod: &Pod, _queued_ms: u64) -> Result<Vec<i64>, Fault> {
        Ok(Vec::new())
    }

    /// Which nodes are worth asking its filter about.
    fn pre_filter(&self, _pod: &Pod) -> Result<Narrowing, Fault> {
        Ok(Narrowing::All)
    }

    /// Which candidates cannot take the pod. Candidates in no row are feasible.
    fn filter(&self, _pod: &Pod, _candidates: &Bits) -> Result<Vec<Rejection>, Fault> {
        Ok(Vec::new())
    }

    /// Which hypotheses, by number, leave their node unable to take the pod.
    fn what_if(
        &self,
        _pod: &Pod,
        _others: &[Pod],
        _hypotheses: &[Hypothesis],
    ) -> Result<Vec<Rejection>, Fault> {
        Ok(Vec::new())
    }

    /// The first step of a dialogue about a pod that no node can take.
    fn post_filter(&self, _unplaced: &Unplaced<'_>, _now_ms: u64) -> Result<Step, Fault> {
        Ok(Step::GiveUp {
            reason: String::new(),
            clear: false,
        })
    }

    /// The next step, knowing which hypotheses leave a node that can take the pod.
    fn proceed(&self, _feasible: &Bits) -> Result<Step, Fault> {
        Ok(Step::GiveUp {
            reason: String::new(),
            clear: false,
        })
    }

    /// Whether its score is worth asking for.
    fn pre_score(&self, _pod: &Pod, _candidates: &Bits) -> Result<bool, Fault> {
        Ok(true)
    }

    /// One score from 0 to 100 for each candidate in ascending order; the implementation has checked
    /// length and range.
    fn score(&self, _pod: &Pod, candidates: &Bits) -> Result<Vec<i32>, Fault> {
        Ok(vec![0; candidates.count()])
    }

    /// The pod is assumed on the node.
    fn reserve(&self, _pod: &Pod, _node: NodeId) -> Result<Verdict, Fault> {
        Ok(Verdict::Accepted)
    }

    /// It does not go there after all.
    fn unreserve(&self, _pod: &Pod, _node: NodeId) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether it may be bound, and what that means for others that wait.
    fn permit(&self, _pod: &Pod, _node: NodeId) -> Result<(Permit, Vec<Release>), Fault> {
        Ok((Permit::Allow, Vec::new()))
    }

    /// A pod that it was asked to permit is not bound after all.
    fn withdrawn(&self, _pod: &Pod, _node: NodeId) -> Result<Vec<Release>, Fault> {
        Ok(Vec::new())
    }

    /// Makes the pod ready for its node.
    fn pre_bind(&self, _pod: &Pod, _node: NodeId) -> Result<Preparation, Fault> {
        Ok(Preparation::Proceed(Vec::new()))
    }

    /// Binds the pod, or leaves that to others.
    fn bind(&self, _pod: &Pod, _node: NodeId) -> Result<Binding, Fault> {
        Ok(Binding::Pass)
    }

    /// The pod is bound.
    fn post_bind(&self, _pod: &Pod, _node: NodeId) -> Result<(), Fault> {
        Ok(())
    }

    /// Which changes could make a pod schedulable that it rejected.
    fn interests(&self) -> EventKinds {
        EventKinds::ALL
    }

    /// Which of the pods, by position, are worth another try after the events.
    fn hint(&self, _events: &[Event], pods: &[&Pod]) -> Result<Bits, Fault> {
        Ok(Bits::all_below(pods.len()))
    }
}

/// The cluster as the scheduler knows it now, for a policy that is about to take its seat.
pub trait Cluster: Send + Sync {
    /// All that a fresh policy must be told, and the epoch that it then stands at.
    fn snapshot(&self) -> (Epoch, Vec<Delta>);
}
