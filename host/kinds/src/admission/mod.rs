//! Admission that users write: webhooks, and policies in CEL.
//!
//! Configurations are compiled once (`webhook`, `validating`, `mutating`, `binding`), matched against a
//! request (`rule`), and policies are evaluated here, within a budget; calling webhooks, finding parameters and
//! following the configurations is the API server's work. `check` judges the six kinds themselves. Pure.

mod binding;
mod check;
mod condition;
mod environment;
mod expression;
mod mutating;
mod request;
mod rule;
mod typing;
mod validating;
mod webhook;

pub use binding::{Binding, ParamRef};
pub use condition::{Conditions, Matched};
pub use environment::Environment;
pub use expression::{Expression, Input};
pub use mutating::{MutatingPolicy, Unmutated};
pub use request::{Request, exempt};
pub use rule::{MatchResources, Rule};
pub use typing::{typed, warnings as type_warnings};
pub use validating::{AuditAnnotation, Decision, Judgement, ParamKind, ValidatingPolicy};
pub use webhook::{ClientConfig, Place, Webhook};

pub(crate) use check::check;

/// Units that the match conditions of one webhook or policy may cost together, as in the original.
pub const CONDITIONS_COST_MAX: u64 = 2_500_000;

/// Whether what goes wrong refuses the request (`failurePolicy`).
fn fails(spec: &serde_json::Value) -> bool {
    spec["failurePolicy"] != "Ignore"
}

#[cfg(test)]
mod tests;
