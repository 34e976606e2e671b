//! Who is asked again: what changed an object makes those look again that were asked before it and wish to.
//!
//! At most one second round is made of each request. Pure.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

/// A webhook by configuration and name, or a policy by name, binding and parameters.
pub(super) type Asked = (Box<str>, Box<str>, Box<str>);

/// See the module.
#[derive(Default)]
pub(in crate::admission) struct Rounds {
    /// 0, and 1 in the second round.
    pub(in crate::admission) round: usize,
    /// Whether a second round is due.
    pub(in crate::admission) again: bool,
    pub(super) policies: Memory,
    pub(super) webhooks: Memory,
}

/// What one part of the chain remembers.
#[derive(Default)]
pub(super) struct Memory {
    before: HashSet<Asked>,
    due: HashSet<Asked>,
    left: Option<Arc<Value>>,
}

impl Memory {
    /// Before the part's turn.
    pub(super) fn enter(&mut self, round: usize, object: Option<&Arc<Value>>) {
        if round > 0 && self.left.as_deref() != object.map(|object| &**object) {
            self.changed();
        }
    }

    /// After the part's turn.
    pub(super) fn leave(&mut self, object: Option<&Arc<Value>>) {
        self.left = object.cloned();
    }

    /// Whether this one has its turn in the round.
    pub(super) fn has_turn(&self, round: usize, asked: &Asked) -> bool {
        round == 0 || self.due.contains(asked)
    }

    /// The object changed: all that were asked so far are due.
    pub(super) fn changed(&mut self) {
        self.due.extend(self.before.drain());
    }

    /// It was asked, and wishes to be asked again.
    pub(super) fn remember(&mut self, asked: Asked) {
        self.before.insert(asked);
    }
}
