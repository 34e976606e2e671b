//! Who owns whom: the metadata of all objects as a graph, and what follows for one of them. Pure.
//!
//! Invariants: an edge exists for every owner reference, whether or not the owner is known; an owner is absent
//! only when a live read said so, never because the graph lacks it. Objects owned in a circle are collected
//! when deletion reaches them: no decision waits on a dependent that itself waits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::catalog::Entry;

pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

/// Objects that the graph may hold.
const NODES_MAX: usize = 500_000;

/// One object.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) entry: Arc<Entry>,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    pub(crate) foreground: bool,
    pub(crate) orphan: bool,
}

impl Node {
    /// `None` for what has no uid, which no real object lacks.
    pub(crate) fn of(entry: &Arc<Entry>, meta: &ObjectMeta) -> Option<Self> {
        let has = |finalizer: &str| meta.finalizers.iter().flatten().any(|name| name == finalizer);
        Some(Self {
            entry: Arc::clone(entry),
            namespace: meta.namespace.clone(),
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
        })
    }

    /// It goes only after what depends on it.
    pub(crate) fn waits_for_dependents(&self) -> bool {
        self.deleting && self.foreground
    }

    /// It lets go of what depends on it, then goes.
    pub(crate) fn lets_go_of_dependents(&self) -> bool {
        self.deleting && self.orphan
    }
}

/// All objects by uid, and by the uid of their owners.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<String, Node>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// What names `uid` as an owner.
    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|dependent| self.nodes.get(dependent))
    }

    /// Uids of one resource, to find what a new list lacks.
    pub(crate) fn uids_of(&self, entry: &Arc<Entry>) -> Vec<String> {
        let of_entry = self
            .nodes
            .values()
            .filter(|node| node.entry.resource == entry.resource);
        of_entry.map(|node| node.uid.clone()).collect()
    }

    /// Takes an object in; answers with the uids that deserve a look because of it.
    pub(crate) fn upsert(&mut self, node: Node) -> Vec<String> {
        let before = self.nodes.get(&node.uid).cloned();
        if before.is_none() && self.nodes.len() >= NODES_MAX {
            tracing::warn!(
                name = node.name,
                "too many objects: this one will not be garbage collected"
            );
            return Vec::new();
        }
        let mut look = BTreeSet::new();
        let old_owners: BTreeSet<&str> = before
            .iter()
            .flat_map(|before| &before.owners)
            .map(|owner| owner.uid.as_str())
            .collect();
        let new_owners: BTreeSet<&str> = node.owners.iter().map(|owner| owner.uid.as_str()).collect();
        for gone in old_owners.difference(&new_owners) {
            self.unlink(gone, &node.uid);
        }
        // An owner that waits may have waited for just this.
        for owner in old_owners.union(&new_owners) {
            if self.nodes.get(*owner).is_some_and(Node::waits_for_dependents) {
                look.insert((*owner).to_owned());
            }
        }
        for owner in &new_owners {
            self.dependents
                .entry((*owner).to_owned())
                .or_default()
                .insert(node.uid.clone());
        }
        let unsure = |owner: &&str| self.nodes.get(*owner).is_none_or(Node::waits_for_dependents);
        if (before.is_none() || old_owners != new_owners) && new_owners.iter().any(unsure) {
            look.insert(node.uid.clone());
        }
        if node.waits_for_dependents() || node.lets_go_of_dependents() {
            look.insert(node.uid.clone());
            if before
                .as_ref()
                .is_none_or(|before| !before.waits_for_dependents())
            {
                look.extend(self.dependents.get(&node.uid).into_iter().flatten().cloned());
            }
        }
        self.nodes.insert(node.uid.clone(), node);
        look.into_iter().collect()
    }

    /// Lets an object go; answers with the uids that deserve a look because of it.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut look: BTreeSet<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            if self.nodes.get(&owner.uid).is_some_and(Node::waits_for_dependents) {
                look.insert(owner.uid.clone());
            }
        }
        look.into_iter().collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(all) = self.dependents.get_mut(owner) {
            all.remove(dependent);
            if all.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}

/// What a live read said of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Present,
    /// Present, and waiting for its dependents to go.
    Waiting,
    Absent,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Delete it, with the propagation that its finalizers ask for.
    Delete(Propagation),
    /// These owners are gone or going and others are not: drop the references.
    DropOwners(Vec<String>),
    /// Its owners in foreground deletion need wait for it no longer.
    Unblock,
    RemoveFinalizer(&'static str),
    /// Look at these.
    Look(Vec<String>),
    /// Make this dependent let go of us.
    Release(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Decides for one object, freshly read. `owners` tells about each of its owners, in their order.
pub(crate) fn plan(graph: &Graph, node: &Node, owners: &[Owner]) -> Vec<Change> {
    if node.lets_go_of_dependents() {
        let releases: Vec<_> = graph
            .dependents(&node.uid)
            .map(|dependent| Change::Release(dependent.uid.clone()))
            .collect();
        return if releases.is_empty() {
            vec![Change::RemoveFinalizer(ORPHAN)]
        } else {
            releases
        };
    }
    if node.waits_for_dependents() {
        let blocking: Vec<&Node> = graph
            .dependents(&node.uid)
            .filter(|dependent| {
                let blocks = |owner: &OwnerReference| {
                    owner.uid == node.uid && owner.block_owner_deletion == Some(true)
                };
                dependent.owners.iter().any(blocks)
            })
            .collect();
        if blocking.is_empty() {
            return vec![Change::RemoveFinalizer(FOREGROUND)];
        }
        let idle = blocking
            .iter()
            .filter(|dependent| !dependent.deleting)
            .map(|dependent| dependent.uid.clone());
        return vec![Change::Look(idle.collect())];
    }
    if node.deleting || node.owners.is_empty() {
        return Vec::new();
    }
    let which = |state: Owner| {
        node.owners
            .iter()
            .zip(owners)
            .filter(move |(_, owner)| **owner == state)
            .map(|(owner, _)| owner.uid.clone())
    };
    let (absent, waiting): (Vec<_>, Vec<_>) =
        (which(Owner::Absent).collect(), which(Owner::Waiting).collect());
    if which(Owner::Present).next().is_some() {
        let gone: Vec<_> = absent.into_iter().chain(waiting).collect();
        return if gone.is_empty() {
            Vec::new()
        } else {
            vec![Change::DropOwners(gone)]
        };
    }
    if !waiting.is_empty() && graph.dependents(&node.uid).next().is_some() {
        // A dependent of ours that waits for its own dependents may wait for us: a circle must not block.
        let circle = graph.dependents(&node.uid).any(Node::waits_for_dependents);
        let mut changes = if circle { vec![Change::Unblock] } else { Vec::new() };
        changes.push(Change::Delete(Propagation::Foreground));
        return changes;
    }
    let propagation = match node {
        Node { orphan: true, .. } => Propagation::Orphan,
        Node { foreground: true, .. } => Propagation::Foreground,
        _ => Propagation::Background,
    };
    vec![Change::Delete(propagation)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::discovery::ApiResource;

    fn node(uid: &str, owners: &[(&str, bool)], state: &str) -> Node {
        let entry = Entry {
            resource: ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: "Thing".into(),
                plural: "things".into(),
            },
            namespaced: true,
            watchable: true,
            deletable: true,
            deletes_collection: true,
        };
        Node {
            entry: Arc::new(entry),
            namespace: Some("a".into()),
            name: uid.into(),
            uid: uid.into(),
            owners: owners
                .iter()
                .map(|(uid, block)| OwnerReference {
                    uid: (*uid).into(),
                    block_owner_deletion: Some(*block),
                    ..Default::default()
                })
                .collect(),
            deleting: !state.is_empty(),
            foreground: state == "foreground",
            orphan: state == "orphan",
        }
    }

    fn graph(nodes: &[Node]) -> Graph {
        let mut graph = Graph::default();
        for node in nodes {
            graph.upsert(node.clone());
        }
        graph
    }

    #[test]
    fn decisions() {
        use Owner::*;
        use Propagation::*;
        let strings = |all: &[&str]| all.iter().map(|uid| (*uid).to_owned()).collect::<Vec<_>>();
        type Row<'a> = (&'a str, Vec<Node>, &'a [Owner], Vec<Change>);
        let cases: Vec<Row<'_>> = vec![
            (
                "owner present",
                vec![node("pod", &[("set", true)], "")],
                &[Present],
                vec![],
            ),
            (
                "owner gone",
                vec![node("pod", &[("set", true)], "")],
                &[Absent],
                vec![Change::Delete(Background)],
            ),
            (
                "one owner gone",
                vec![node("pod", &[("a", true), ("b", true)], "")],
                &[Absent, Present],
                vec![Change::DropOwners(strings(&["a"]))],
            ),
            (
                "already going",
                vec![node("pod", &[("set", true)], "yes")],
                &[Absent],
                vec![],
            ),
            (
                "foreground waits",
                vec![node("set", &[], "foreground"), node("pod", &[("set", true)], "")],
                &[],
                vec![Change::Look(strings(&["pod"]))],
            ),
            (
                "foreground does not wait for who does not block",
                vec![node("set", &[], "foreground"), node("pod", &[("set", false)], "")],
                &[],
                vec![Change::RemoveFinalizer(FOREGROUND)],
            ),
            (
                "foreground goes down the tree",
                vec![
                    node("set", &[("deploy", true)], ""),
                    node("pod", &[("set", true)], ""),
                ],
                &[Waiting],
                vec![Change::Delete(Foreground)],
            ),
            (
                "a leaf",
                vec![node("pod", &[("set", true)], "")],
                &[Waiting],
                vec![Change::Delete(Background)],
            ),
            (
                "a circle",
                vec![
                    node("b", &[("a", true)], ""),
                    node("a", &[("b", true)], "foreground"),
                ],
                &[Waiting],
                vec![Change::Unblock, Change::Delete(Foreground)],
            ),
            (
                "orphan",
                vec![node("set", &[], "orphan"), node("pod", &[("set", true)], "")],
                &[],
                vec![Change::Release("pod".into())],
            ),
            (
                "orphan done",
                vec![node("set", &[], "orphan")],
                &[],
                vec![Change::RemoveFinalizer(ORPHAN)],
            ),
        ];
        for (name, nodes, owners, want) in cases {
            assert_eq!(plan(&graph(&nodes), &nodes[0], owners), want, "{name}");
        }
    }

    #[test]
    fn a_change_says_who_deserves_a_look() {
        let mut graph = Graph::default();
        assert_eq!(
            graph.upsert(node("pod", &[("set", true)], "")),
            ["pod"],
            "owner unknown"
        );
        assert_eq!(graph.upsert(node("set", &[], "")), [] as [&str; 0]);
        assert_eq!(graph.upsert(node("set", &[], "foreground")), ["pod", "set"]);
        assert_eq!(graph.upsert(node("pod", &[("set", true)], "yes")), ["set"]);
        assert_eq!(graph.remove("pod"), ["set"]);
        assert_eq!(graph.remove("set"), [] as [&str; 0]);
        graph.upsert(node("set", &[], ""));
        graph.upsert(node("pod", &[("set", true)], ""));
        assert_eq!(graph.remove("set"), ["pod"]);
        graph.upsert(node("pod", &[], ""));
        assert_eq!(graph.dependents("set").count(), 0);
    }
}
