//! Prefers nodes with a label, for instance `disk=ssd`: the smallest useful scheduler policy, to start
//! one's own from.

use capstan_sdk::{
    Fault, Plugin,
    scheduler::{
        ABSENT, Cluster, LabelColumn, Node, NodeSet, Pod, Policy, Score, Symbol, normalize::SCORE_MAX,
    },
};
use std::sync::Arc;

/// The label that preferred nodes have.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    key: String,
    value: Option<String>,
}

/// The policy.
pub struct LabelPreference(Config);

impl Plugin for LabelPreference {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

impl Policy for LabelPreference {
    const PODS: bool = false;
    const NAMESPACES: bool = false;
}

impl Score for LabelPreference {
    const NODE_LOCAL: bool = true;

    /// The label on every node, and the value that it should have; none for any.
    type Prepared = (Arc<LabelColumn>, Option<Symbol>);

    fn prepare_score(&mut self, cluster: &Cluster, _: &Pod, _: &NodeSet) -> Option<Self::Prepared> {
        // What the cluster has no symbol for, no node has.
        let key = cluster.find(&self.0.key)?;
        let value = match &self.0.value {
            Some(value) => Some(cluster.find(value)?),
            None => None,
        };
        Some((cluster.column(key), value))
    }

    fn score(&self, _: &Cluster, (label, wanted): &Self::Prepared, _: &Pod, node: Node<'_>) -> i64 {
        let value = label.value(node.id);
        let preferred = value != ABSENT && wanted.is_none_or(|wanted| wanted == value);
        if preferred { SCORE_MAX } else { 0 }
    }
}

capstan_sdk::export!(scheduler: score => LabelPreference);
