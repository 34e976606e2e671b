//! Matching of selectors and tolerations on symbols, with the original's rules.

use super::{
    Cluster, Label, LabelColumn, Node, NodeTerm, Operator, Pod, Requirement, Symbol, Taint, Toleration,
    column,
};
use std::sync::Arc;

/// Whether labels satisfy every requirement of a selector; the empty selector is always satisfied.
pub fn matches(cluster: &Cluster, selector: &[Requirement], labels: &[Label]) -> bool {
    selector
        .iter()
        .all(|requirement| holds(cluster, requirement, column::find(labels, requirement.key)))
}

/// Whether one requirement holds of a value that may be absent.
fn holds(cluster: &Cluster, requirement: &Requirement, value: Option<Symbol>) -> bool {
    let values = &requirement.values;
    match requirement.operator {
        Operator::In => value.is_some_and(|value| values.contains(&value)),
        Operator::NotIn => !value.is_some_and(|value| values.contains(&value)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::GreaterThan => compare(cluster, value, values).is_some_and(|(value, than)| value > than),
        Operator::LessThan => compare(cluster, value, values).is_some_and(|(value, than)| value < than),
    }
}

fn compare(cluster: &Cluster, value: Option<Symbol>, values: &[Symbol]) -> Option<(i64, i64)> {
    let [than] = values else { return None };
    Some((
        cluster.text(value?).parse().ok()?,
        cluster.text(*than).parse().ok()?,
    ))
}

/// Whether a toleration covers a taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.is_none_or(|effect| effect == taint.effect);
    let key = toleration.key == taint.key || (toleration.key == 0 && toleration.exists);
    effect && key && (toleration.exists || toleration.value == taint.value)
}

/// A pod's node selector and required node affinity, made ready to be asked of many nodes.
pub struct NodeSelector {
    all: Vec<(Arc<LabelColumn>, Symbol)>,
    any: Option<Vec<ReadyTerm>>,
}

impl NodeSelector {
    /// What the pod demands of nodes; none where it demands nothing.
    pub fn of(cluster: &Cluster, pod: &Pod) -> Option<Self> {
        if pod.node_selector.is_empty() && pod.node_required.is_none() {
            return None;
        }
        let all = pod
            .node_selector
            .iter()
            .map(|label| (cluster.column(label.key), label.value))
            .collect();
        let any = pod
            .node_required
            .as_ref()
            .map(|terms| terms.iter().map(|term| ReadyTerm::new(cluster, term)).collect());
        Some(Self { all, any })
    }

    /// Whether the node is one that the pod asks for.
    pub fn matches(&self, cluster: &Cluster, node: Node<'_>) -> bool {
        self.all
            .iter()
            .all(|(column, value)| column.value(node.id) == *value)
            && self
                .any
                .as_ref()
                .is_none_or(|terms| terms.iter().any(|term| term.matches(cluster, node)))
    }
}

/// A node selector term whose keys were turned into columns.
pub struct ReadyTerm {
    labels: Vec<(Arc<LabelColumn>, Requirement)>,
    fields: Vec<Requirement>,
}

impl ReadyTerm {
    /// Makes a term ready.
    pub fn new(cluster: &Cluster, term: &NodeTerm) -> Self {
        let labels = term
            .labels
            .iter()
            .map(|requirement| (cluster.column(requirement.key), requirement.clone()));
        Self {
            labels: labels.collect(),
            fields: term.fields.clone(),
        }
    }

    /// Whether the node fulfils the term. A term without requirements holds of no node.
    pub fn matches(&self, cluster: &Cluster, node: Node<'_>) -> bool {
        let label = |(column, requirement): &(Arc<LabelColumn>, Requirement)| {
            let value = column.value(node.id);
            holds(cluster, requirement, (value != super::ABSENT).then_some(value))
        };
        let field = |requirement: &Requirement| holds(cluster, requirement, Some(node.name));
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(label)
            && self.fields.iter().all(field)
    }
}
