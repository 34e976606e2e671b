//! What a remedy puts on a node: a cordon or a taint.

use crate::config;
use capstan_sdk::remedy::{Action, Case, NodeFacts, PastAction, Taint, TaintEffect};

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mark {
    Cordon,
    Taint(Taint),
}

impl Mark {
    pub(crate) fn of(action: &config::Action) -> Self {
        match action {
            config::Action::Cordon | config::Action::Drain => Self::Cordon,
            config::Action::Taint(taint) => Self::Taint(Taint {
                key: taint.key.clone(),
                value: taint.value.clone(),
                effect: taint.effect(),
            }),
        }
    }

    /// Whether both cannot be on a node at once: the same key and effect.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cordon, Self::Cordon) => true,
            (Self::Taint(a), Self::Taint(b)) => a.key == b.key && a.effect == b.effect,
            _ => false,
        }
    }

    /// Whether the node has exactly this.
    pub(crate) fn is_on(&self, node: &NodeFacts) -> bool {
        match self {
            Self::Cordon => node.unschedulable,
            Self::Taint(taint) => node.taints.contains(taint),
        }
    }

    pub(crate) fn takes_out_of_service(&self) -> bool {
        !matches!(self, Self::Taint(taint) if taint.effect == TaintEffect::PreferNoSchedule)
    }

    pub(crate) fn put(&self) -> Action {
        match self {
            Self::Cordon => Action::Cordon,
            Self::Taint(taint) => Action::Taint(taint.clone()),
        }
    }

    pub(crate) fn lift(&self) -> Action {
        match self {
            Self::Cordon => Action::Uncordon,
            Self::Taint(taint) => Action::Untaint(taint.clone()),
        }
    }

    /// Whether the last action here failed less than `wait_ms` ago.
    pub(crate) fn failed_lately(&self, case: &Case, wait_ms: u64) -> bool {
        let last = case
            .history
            .iter()
            .rev()
            .find(|past| touched(&past.action).is_some_and(|(mark, _)| mark.same_place(self)));
        last.is_some_and(|past| !past.succeeded && past.at_ms.saturating_add(wait_ms) > case.now_ms)
    }
}

/// The mark that an action puts (true) or lifts (false).
fn touched(action: &Action) -> Option<(Mark, bool)> {
    match action {
        Action::Cordon => Some((Mark::Cordon, true)),
        Action::Uncordon => Some((Mark::Cordon, false)),
        Action::Taint(taint) => Some((Mark::Taint(taint.clone()), true)),
        Action::Untaint(taint) => Some((Mark::Taint(taint.clone()), false)),
        Action::Drain => None,
    }
}

/// What the history says was put and not lifted since.
pub(crate) fn owned(history: &[PastAction]) -> Vec<Mark> {
    let mut owned: Vec<Mark> = Vec::new();
    for (mark, put) in history
        .iter()
        .filter(|past| past.succeeded)
        .filter_map(|past| touched(&past.action))
    {
        owned.retain(|other| !other.same_place(&mark));
        if put {
            owned.push(mark);
        }
    }
    owned
}
