//! How a new revision takes over: at once, or on trial beside the one that serves.
//!
//! Plain shapes; what a trial is and how it is judged is the plugin host's (`capstan-plugin`).

use serde::{Deserialize, Serialize};

/// `spec.rollout`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// What a new revision does before it serves.
    pub strategy: Strategy,
    /// For `Canary`: of a hundred calls, how many the candidate decides; 10 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// When the candidate takes over, and when it is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub promotion: Option<Promotion>,
}

/// What a new revision does before it serves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Strategy {
    /// It serves at once.
    #[default]
    Replace,
    /// It sees all calls and decides none.
    Shadow,
    /// It decides some calls.
    Canary,
}

/// When a candidate takes over; beyond a bound it is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Promotion {
    /// Calls that it must have answered.
    pub min_calls: u64,
    /// Of a hundred calls, how many may be faults.
    pub max_error_percent: u32,
    /// Of a hundred calls, how many may be decided otherwise than by the serving revision.
    pub max_difference_percent: u32,
    /// Its 99th percentile at most, as a percentage of the serving revision's.
    pub max_latency_percent: u32,
    /// Whether somebody promotes it by hand: it is only ever dropped by itself.
    pub manual: bool,
}

impl Default for Promotion {
    fn default() -> Self {
        Self {
            min_calls: 100,
            max_error_percent: 0,
            max_difference_percent: 0,
            max_latency_percent: 300,
            manual: false,
        }
    }
}

/// `status.candidate`: how the revision on trial does, on the host that wrote last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CandidateStatus {
    /// Name and version by its own account.
    pub revision: String,
    /// Its component.
    pub digest: String,
    /// `Shadow` or `Canary`.
    pub strategy: Strategy,
    /// Calls that it answered, well or not.
    pub calls: u64,
    /// Faults among them.
    pub errors: u64,
    /// Calls that it decided otherwise than the serving revision.
    pub differences: u64,
    /// The last such call.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_difference: String,
    /// Its 99th percentile, in microseconds.
    pub p99_micros: u64,
    /// The serving revision's meanwhile.
    pub serving_p99_micros: u64,
}
