//! What an admission policy's verdicts do, which requests it is asked about, and how verdicts are counted and kept.

use serde::{Deserialize, Serialize};

/// What a denial does to the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It is refused.
    #[default]
    Enforce,
    /// It passes, with a warning for the client.
    Warn,
    /// It passes, with an annotation in the audit log.
    Audit,
}

impl Mode {
    /// Serde's `skip_serializing_if` takes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn is_enforce(&self) -> bool {
        *self == Self::Enforce
    }
}

/// One of `matchConditions`, as in a ValidatingWebhookConfiguration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchCondition {
    /// What it is called in messages.
    pub name: String,
    /// CEL over `request`, `object`, `oldObject`, `namespaceObject` and `params`, the plugin's configuration.
    pub expression: String,
}

/// What an admission policy said, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Verdicts {
    /// Requests that it had nothing against.
    pub allowed: u64,
    /// Requests that it refused.
    pub denied: u64,
    /// Requests that it would have refused, in mode `Warn`.
    pub warned: u64,
    /// Requests that it would have refused, in mode `Audit`.
    pub audited: u64,
    /// Requests that a PolicyException kept from it.
    pub excepted: u64,
}

impl Verdicts {
    /// Whether nothing was said.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Verdicts {
    fn add_assign(&mut self, more: Self) {
        self.allowed += more.allowed;
        self.denied += more.denied;
        self.warned += more.warned;
        self.audited += more.audited;
        self.excepted += more.excepted;
    }
}

/// `spec.decisionLog`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionLog {
    /// Of so many requests that it had nothing against, one is kept; 0 for none. All others are kept.
    pub allowed_one_of: u64,
}

impl Default for DecisionLog {
    fn default() -> Self {
        Self { allowed_one_of: 100 }
    }
}
