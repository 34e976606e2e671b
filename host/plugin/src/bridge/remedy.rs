//! `capstan:remedy` as [`remedy::Remedy`]: one resident instance that decides by what the call holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::plugin::NodesBind;
use capstan_kinds::selector::LabelSelector;
use capstan_points::Fault;
use capstan_points::remedy::{self, Action, Case, Decision, Taint, TaintEffect};

use super::Ring;
use crate::bindings::remedy::exports::capstan::remedy::decide as wit;
use crate::bindings::types;
use crate::error::LoadError;
use crate::health::Health;
use crate::live::Live;
use crate::program::Program;
use crate::resident::Resident;

/// Decisions of one call.
const DECISIONS_MAX: usize = 64;

pub(crate) type Recorded = Ring<Arc<Case>>;

pub(crate) struct Remedy {
    resident: Resident<wit::Guest>,
    nodes: LabelSelector,
    budget: u32,
    recorded: Arc<Recorded>,
}

impl Remedy {
    pub(crate) fn new(
        program: &Arc<Program>,
        health: &Arc<Health>,
        bind: &NodesBind,
        recorded: Arc<Recorded>,
    ) -> Result<Self, LoadError> {
        let indices = wit::GuestIndices::new(&program.pre)
            .map_err(|error| LoadError::Link(crate::cache::chain(&error)))?;
        let bind_exports = move |live: &mut Live| {
            let instance = live.instance;
            live.initialize(|store| indices.load(store, &instance))
        };
        Ok(Self {
            resident: Resident::new(Arc::clone(program), Arc::clone(health), Box::new(bind_exports)),
            nodes: super::selector("spec.bind.nodes.selector", bind.selector.as_ref())?,
            budget: bind.budget,
            recorded,
        })
    }

    pub(crate) fn warm(&self) -> Result<(), Fault> {
        self.resident.warm()
    }

    pub(crate) fn rehearse(&self) -> Result<(), (String, Fault)> {
        self.recorded.recorded().iter().try_for_each(|case| {
            self.ask(case)
                .map(drop)
                .map_err(|fault| (format!("decide for node {}", case.node.name), fault))
        })
    }

    fn ask(&self, case: &Case) -> Result<Vec<Decision>, Fault> {
        let node = node(&case.node);
        let conditions: Vec<wit::Condition> = case.conditions.iter().map(condition).collect();
        let history: Vec<wit::PastAction> = case
            .history
            .iter()
            .map(|past| wit::PastAction {
                action: to_action(&past.action),
                at_ms: past.at_ms,
                succeeded: past.succeeded,
            })
            .collect();
        let decisions = self.resident.call(
            Duration::ZERO,
            || {},
            |guest, store| guest.call_decide(store, &node, &conditions, &history, case.budget, case.now_ms),
        )?;
        if decisions.len() > DECISIONS_MAX {
            let message = format!(
                "{} decisions at once; at most {DECISIONS_MAX} make sense",
                decisions.len()
            );
            return Err(self.resident.health.garbage(message));
        }
        Ok(decisions
            .into_iter()
            .map(|d| Decision {
                action: from_action(d.action),
                reason: d.reason,
            })
            .collect())
    }
}

fn node(node: &remedy::NodeFacts) -> wit::NodeFacts {
    wit::NodeFacts {
        name: node.name.clone(),
        labels: node
            .labels
            .iter()
            .map(|(key, value)| types::Pair {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        unschedulable: node.unschedulable,
        taints: node.taints.iter().map(to_taint).collect(),
    }
}

fn condition(condition: &remedy::Condition) -> wit::Condition {
    wit::Condition {
        type_name: condition.type_name.clone(),
        status: match condition.status {
            remedy::ConditionStatus::True => types::ConditionStatus::Yes,
            remedy::ConditionStatus::False => types::ConditionStatus::No,
            remedy::ConditionStatus::Unknown => types::ConditionStatus::Unknown,
        },
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        since_ms: condition.since_ms,
    }
}

fn to_taint(taint: &Taint) -> wit::Taint {
    wit::Taint {
        key: taint.key.clone(),
        value: taint.value.clone(),
        effect: match taint.effect {
            TaintEffect::NoSchedule => wit::TaintEffect::NoSchedule,
            TaintEffect::PreferNoSchedule => wit::TaintEffect::PreferNoSchedule,
            TaintEffect::NoExecute => wit::TaintEffect::NoExecute,
        },
    }
}

fn from_taint(taint: wit::Taint) -> Taint {
    Taint {
        key: taint.key,
        value: taint.value,
        effect: match taint.effect {
            wit::TaintEffect::NoSchedule => TaintEffect::NoSchedule,
            wit::TaintEffect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
            wit::TaintEffect::NoExecute => TaintEffect::NoExecute,
        },
    }
}

fn to_action(action: &Action) -> wit::Action {
    match action {
        Action::Cordon => wit::Action::Cordon,
        Action::Uncordon => wit::Action::Uncordon,
        Action::Taint(taint) => wit::Action::Taint(to_taint(taint)),
        Action::Untaint(taint) => wit::Action::Untaint(to_taint(taint)),
        Action::Drain => wit::Action::Drain,
    }
}

fn from_action(action: wit::Action) -> Action {
    match action {
        wit::Action::Cordon => Action::Cordon,
        wit::Action::Uncordon => Action::Uncordon,
        wit::Action::Taint(taint) => Action::Taint(from_taint(taint)),
        wit::Action::Untaint(taint) => Action::Untaint(from_taint(taint)),
        wit::Action::Drain => Action::Drain,
    }
}

impl remedy::Remedy for Remedy {
    fn selects(&self, node_labels: &BTreeMap<String, String>) -> bool {
        self.nodes.matches_labels(node_labels)
    }

    fn budget(&self) -> u32 {
        self.budget
    }

    fn decide(&self, case: &Case) -> Result<Vec<Decision>, Fault> {
        let decisions = self.ask(case)?;
        self.recorded.record(Arc::new(case.clone()));
        Ok(decisions)
    }
}
