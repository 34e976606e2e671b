//! One label of every node, as a column: what label selectors and topology keys read in the loop.
//!
//! A column also numbers its distinct values (domains) densely from 0, so that counts by topology domain
//! are arrays. Columns are made when first asked for and kept level by each delta.

use super::{Label, NodeId, Symbol};
use std::collections::BTreeMap;

/// Stands for "no such label" in both parts of a column.
pub const ABSENT: u32 = u32::MAX;

/// The value of one label on every node.
#[derive(Debug, Clone)]
pub struct LabelColumn {
    key: Symbol,
    values: Vec<Symbol>,
    domains: Vec<u32>,
    numbers: BTreeMap<Symbol, u32>,
    /// Nodes with each value, by its number.
    nodes: Vec<u32>,
    nodes_len: usize,
}

impl LabelColumn {
    pub(super) fn new(key: Symbol) -> Self {
        Self {
            key,
            values: Vec::new(),
            domains: Vec::new(),
            numbers: BTreeMap::new(),
            nodes: Vec::new(),
            nodes_len: 0,
        }
    }

    /// The label's key.
    pub fn key(&self) -> Symbol {
        self.key
    }

    /// The label's value on a node, or [`ABSENT`].
    #[inline]
    pub fn value(&self, node: NodeId) -> Symbol {
        self.values.get(node as usize).copied().unwrap_or(ABSENT)
    }

    /// The dense number of the node's value, or [`ABSENT`].
    #[inline]
    pub fn domain(&self, node: NodeId) -> u32 {
        self.domains.get(node as usize).copied().unwrap_or(ABSENT)
    }

    /// How many numbers for values were given out; some may be on no node any more.
    pub fn domains_len(&self) -> usize {
        self.numbers.len()
    }

    /// How many nodes have the value of this number.
    #[inline]
    pub fn nodes_in(&self, domain: u32) -> u32 {
        self.nodes.get(domain as usize).copied().unwrap_or(0)
    }

    /// How many nodes have the label.
    pub fn nodes_len(&self) -> usize {
        self.nodes_len
    }

    fn count(&mut self, domain: u32, step: i32) {
        let at = domain as usize;
        if domain == ABSENT {
            return;
        }
        if at >= self.nodes.len() {
            self.nodes.resize(at + 1, 0);
        }
        self.nodes[at] = self.nodes[at].saturating_add_signed(step);
        self.nodes_len = self.nodes_len.saturating_add_signed(step as isize);
    }

    pub(super) fn set(&mut self, node: NodeId, labels: &[Label]) {
        let at = node as usize;
        if at >= self.values.len() {
            self.values.resize(at + 1, ABSENT);
            self.domains.resize(at + 1, ABSENT);
        }
        self.count(self.domains[at], -1);
        let value = find(labels, self.key);
        self.values[at] = value.unwrap_or(ABSENT);
        self.domains[at] = match value {
            None => ABSENT,
            Some(value) => {
                let next = self.numbers.len() as u32;
                *self.numbers.entry(value).or_insert(next)
            }
        };
        self.count(self.domains[at], 1);
    }
}

/// The value of a label.
#[inline]
pub(super) fn find(labels: &[Label], key: Symbol) -> Option<Symbol> {
    labels
        .iter()
        .find(|label| label.key == key)
        .map(|label| label.value)
}
