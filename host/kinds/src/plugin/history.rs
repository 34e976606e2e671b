//! `status.history`: the revisions of a plugin, and what became of each.

use serde::{Deserialize, Serialize};

use super::PluginSpec;

/// Revisions that one status keeps, as many as a Deployment keeps by default.
pub const HISTORY_MAX: usize = 10;

/// A revision that serves or served, or was tried.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PastRevision {
    /// Rises with each revision; one that comes back gets the newest number.
    pub number: u64,
    /// Stands for spec, component and configuration: the same again is the same revision.
    pub key: String,
    /// Name and version by its own account; empty where it never got to say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// Its component.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it does not serve.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When that was, RFC 3339.
    pub since: String,
    /// What it was made of, for a return to it; absent where it was too large to keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spec: Option<PluginSpec>,
}

/// What became of a revision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It serves.
    #[default]
    Serving,
    /// A newer one took its place.
    Superseded,
    /// It failed too often and gave its place back.
    RolledBack,
    /// It did not pass its trial.
    Dropped,
}
