//! What can be configured.

use capstan_sdk::{Millis, remedy::TaintEffect};
use serde::Deserialize;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub(crate) rules: Vec<Rule>,
}

/// What to do while a condition is true.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) condition: String,
    pub(crate) reason: Option<String>,
    #[serde(default)]
    pub(crate) after: Millis,
    #[serde(default)]
    pub(crate) lift_after: Millis,
    pub(crate) action: Action,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    Cordon,
    /// Cordons the node, then asks its pods to go.
    Drain,
    Taint(Taint),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Taint {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) value: String,
    effect: Effect,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Taint {
    pub(crate) fn effect(&self) -> TaintEffect {
        match self.effect {
            Effect::NoSchedule => TaintEffect::NoSchedule,
            Effect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
            Effect::NoExecute => TaintEffect::NoExecute,
        }
    }
}
