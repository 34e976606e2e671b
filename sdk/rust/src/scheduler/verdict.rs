//! Why a node was ruled out, without a string until the answer is written.
//!
//! A policy says a reason as a fixed template and up to two symbols; the loop collects nodes by reason.
//! Every distinct reason is one row of the answer, whatever the number of nodes.

use super::{Cluster, NodeId, NodeSet, Row, Symbol};

/// How many reasons one node can be given at once; more are dropped, the first ones stand.
const REASONS_PER_NODE_MAX: usize = 4;
/// How many distinct reasons one answer holds; nodes with others share [`OTHER`].
const ROWS_MAX: usize = 256;
/// The reason of nodes beyond [`ROWS_MAX`].
const OTHER: &str = "node(s) were ruled out for further reasons";

/// A reason, such as `Insufficient $1` and a symbol for `$1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    template: &'static str,
    arguments: [Symbol; 2],
}

impl Reason {
    /// A reason that is the same for all nodes.
    pub const fn new(text: &'static str) -> Self {
        Self {
            template: text,
            arguments: [0; 2],
        }
    }

    /// A reason in which `$1` and `$2` stand for the texts of symbols.
    pub const fn with(template: &'static str, first: Symbol, second: Symbol) -> Self {
        Self {
            template,
            arguments: [first, second],
        }
    }

    fn same(&self, other: &Self) -> bool {
        self.arguments == other.arguments
            && (std::ptr::eq(self.template, other.template) || self.template == other.template)
    }

    pub(super) fn text(&self, cluster: &Cluster) -> String {
        let mut text = self.template.to_string();
        for (place, &symbol) in ["$1", "$2"].into_iter().zip(&self.arguments) {
            if text.contains(place) {
                text = text.replace(place, cluster.text(symbol));
            }
        }
        text
    }
}

/// The verdict against one node: why, and whether evicting pods from it could change that.
#[derive(Debug, Clone, Copy)]
pub struct Rejection {
    reasons: [Reason; REASONS_PER_NODE_MAX],
    len: u8,
    resolvable: bool,
}

impl From<Reason> for Rejection {
    fn from(reason: Reason) -> Self {
        Self {
            reasons: [reason; REASONS_PER_NODE_MAX],
            len: 1,
            resolvable: true,
        }
    }
}

impl Rejection {
    /// A rejection that evicting pods from the node could lift.
    pub fn new(text: &'static str) -> Self {
        Reason::new(text).into()
    }

    /// A rejection that no eviction could lift.
    pub fn permanent(reason: impl Into<Self>) -> Self {
        Self {
            resolvable: false,
            ..reason.into()
        }
    }

    /// Gives one more reason.
    pub fn also(mut self, reason: Reason) -> Self {
        if let Some(place) = self.reasons.get_mut(usize::from(self.len)) {
            *place = reason;
            self.len += 1;
        }
        self
    }
}

/// Nodes by reason, as they are found.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: Vec<(Reason, bool, NodeSet)>,
    last: usize,
}

impl Rows {
    pub(super) fn add(&mut self, node: NodeId, rejection: &Rejection) {
        for reason in &rejection.reasons[..usize::from(rejection.len)] {
            let at = self.row(*reason, rejection.resolvable);
            self.rows[at].2.insert(node);
            self.last = at;
        }
    }

    /// The node is not ruled out any more.
    pub(super) fn remove(&mut self, node: NodeId) {
        self.rows.iter_mut().for_each(|row| _ = row.2.remove(node));
    }

    /// Makes room for other reasons.
    pub(super) fn drop_empty(&mut self) {
        self.rows.retain(|row| !row.2.is_empty());
    }

    /// Those rows that hold any of the nodes, with these alone.
    pub(super) fn within(&self, nodes: &NodeSet, cluster: &Cluster) -> Vec<Row> {
        let row = |(reason, resolvable, ruled_out): &(Reason, bool, NodeSet)| {
            let here = ruled_out.intersection(nodes);
            (!here.is_empty()).then(|| Row {
                reason: reason.text(cluster),
                resolvable: *resolvable,
                nodes: here.into_words(),
            })
        };
        self.rows.iter().filter_map(row).collect()
    }

    fn row(&mut self, reason: Reason, resolvable: bool) -> usize {
        let is = |row: &(Reason, bool, NodeSet), reason: &Reason| row.1 == resolvable && row.0.same(reason);
        if self.rows.get(self.last).is_some_and(|row| is(row, &reason)) {
            return self.last;
        }
        let full = self.rows.len() >= ROWS_MAX;
        let other = Reason::new(OTHER);
        if let Some(at) = self
            .rows
            .iter()
            .position(|row| is(row, &reason) || (full && is(row, &other)))
        {
            return at;
        }
        self.rows
            .push((if full { other } else { reason }, resolvable, NodeSet::default()));
        self.rows.len() - 1
    }

    pub(super) fn into_answer(self, cluster: &Cluster) -> Vec<Row> {
        let row = |(reason, resolvable, nodes): (Reason, bool, NodeSet)| Row {
            reason: reason.text(cluster),
            resolvable,
            nodes: nodes.into_words(),
        };
        self.rows.into_iter().map(row).collect()
    }
}
