//! Answers of policies that judge a node by itself, kept until the node changes.
//!
//! A cluster's pods come in few kinds, and between two of them one node changed: only that one is judged anew.
//! An answer stands as long as the node, its pods, the texts, resources and namespaces known are the same; whatever
//! else changes makes all answers void. At most [`KINDS_MAX`] kinds of pods are remembered, the ones asked last.
//! Called by the loops of `runner`. Not here: answers that depend on other nodes, which are `counts`'.

use super::{NodeId, NodeSet, Pod, Rejection, verdict::Rows};

/// Kinds of pods whose answers are kept.
const KINDS_MAX: usize = 16;
/// Changes of nodes that are kept; when there are more, all answers are void, which is then cheaper.
const CHANGES_MAX: usize = 4096;

/// Which nodes changed, in order.
#[derive(Debug, Default)]
pub(super) struct Changes {
    nodes: Vec<NodeId>,
    /// Answers of an earlier era are void.
    era: u64,
}

impl Changes {
    pub(super) fn node(&mut self, node: NodeId) {
        if self.nodes.len() >= CHANGES_MAX {
            self.all();
        }
        self.nodes.push(node);
    }

    pub(super) fn all(&mut self) {
        self.nodes.clear();
        self.era += 1;
    }
}

/// Answers by node that can be taken back one by one.
pub(super) trait Answers: Default {
    fn forget(&mut self, node: NodeId);
}

/// What was answered about one kind of pod.
#[derive(Debug)]
pub(super) struct Remembered<A> {
    pod: Pod,
    era: u64,
    /// How many of the era's changes are taken in.
    seen: usize,
    /// Nodes whose answer stands.
    pub(super) known: NodeSet,
    pub(super) answers: A,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memo<A> {
    kinds: Vec<Remembered<A>>,
}

impl<A> Default for Memo<A> {
    fn default() -> Self {
        Self { kinds: Vec::new() }
    }
}

impl<A: Answers> Memo<A> {
    /// What still stands of the answers about pods like this one.
    pub(super) fn about(&mut self, pod: &Pod, changes: &Changes) -> &mut Remembered<A> {
        match self.kinds.iter().position(|kind| are_alike(&kind.pod, pod)) {
            Some(at) => self.kinds[at..].rotate_left(1),
            None => {
                if self.kinds.len() == KINDS_MAX {
                    self.kinds.remove(0);
                }
                self.kinds.push(Remembered {
                    pod: pod.clone(),
                    era: changes.era,
                    seen: changes.nodes.len(),
                    known: NodeSet::default(),
                    answers: A::default(),
                });
            }
        }
        let last = self.kinds.len() - 1;
        let kind = &mut self.kinds[last];
        kind.catch_up(changes);
        kind
    }
}

impl<A: Answers> Remembered<A> {
    fn catch_up(&mut self, changes: &Changes) {
        if self.era != changes.era {
            self.known = NodeSet::default();
            self.answers = A::default();
            (self.era, self.seen) = (changes.era, 0);
        }
        for &node in &changes.nodes[self.seen..] {
            if self.known.remove(node) {
                self.answers.forget(node);
            }
        }
        self.seen = changes.nodes.len();
    }
}

impl Answers for Rows {
    fn forget(&mut self, node: NodeId) {
        self.remove(node);
    }
}

/// Raw scores by node number.
#[derive(Debug, Default)]
pub(super) struct Scores(Vec<i64>);

impl Scores {
    pub(super) fn set(&mut self, node: NodeId, score: i64) {
        let at = node as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = score;
    }

    /// The scores of these nodes, all of which are known, in their order.
    pub(super) fn of(&self, nodes: &NodeSet) -> Vec<i64> {
        nodes
            .iter()
            .filter_map(|node| self.0.get(node as usize).copied())
            .collect()
    }
}

impl Answers for Scores {
    fn forget(&mut self, _: NodeId) {}
}

/// Whether a policy must judge the two alike: they differ in name, uid and age alone.
fn are_alike(a: &Pod, b: &Pod) -> bool {
    a.namespace == b.namespace
        && a.labels == b.labels
        && a.requests == b.requests
        && a.requests_or_default == b.requests_or_default
        && a.annotations == b.annotations
        && a.priority == b.priority
        && a.preempts == b.preempts
        && a.terminating == b.terminating
        && a.preempted == b.preempted
        && a.node_name == b.node_name
        && a.node_selector == b.node_selector
        && a.node_required == b.node_required
        && a.node_preferred == b.node_preferred
        && a.affinity_required == b.affinity_required
        && a.affinity_preferred == b.affinity_preferred
        && a.anti_affinity_required == b.anti_affinity_required
        && a.anti_affinity_preferred == b.anti_affinity_preferred
        && a.tolerations == b.tolerations
        && a.spread == b.spread
        && a.host_ports == b.host_ports
        && a.images == b.images
}

/// Takes a verdict in.
pub(super) fn note(kind: &mut Remembered<Rows>, node: NodeId, verdict: Result<(), Rejection>) {
    kind.known.insert(node);
    if let Err(rejection) = verdict {
        kind.answers.add(node, &rejection);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::empty_pod;

    #[test]
    fn what_stands_is_what_did_not_change_since() {
        let (mut memo, mut changes) = (Memo::<Scores>::default(), Changes::default());
        let pod = empty_pod();
        memo.about(&pod, &changes).known = NodeSet::from_iter([1, 2, 3]);
        changes.node(2);
        let named = Pod {
            name: "other".to_owned(),
            ..empty_pod()
        };
        assert_eq!(memo.about(&named, &changes).known, NodeSet::from_iter([1, 3]));
        let prior = Pod {
            priority: 1,
            ..empty_pod()
        };
        assert!(memo.about(&prior, &changes).known.is_empty(), "another kind");
        (0..=CHANGES_MAX as NodeId).for_each(|node| changes.node(node + 10));
        assert!(memo.about(&pod, &changes).known.is_empty(), "too much changed");
    }

    #[test]
    fn the_kind_asked_longest_ago_makes_room() {
        let (mut memo, changes) = (Memo::<Scores>::default(), Changes::default());
        let kind = |priority| Pod {
            priority,
            ..empty_pod()
        };
        for priority in 0..=KINDS_MAX as i32 {
            memo.about(&kind(priority), &changes).known.insert(1);
        }
        assert!(memo.about(&kind(1), &changes).known.contains(1));
        assert!(memo.about(&kind(0), &changes).known.is_empty());
    }
}
