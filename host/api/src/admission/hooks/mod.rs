//! The part of the chain that users write: webhooks and policies in CEL.
//!
//! What is in force is compiled once, when it changes, by a loop that follows the six kinds in the watch caches
//! (`follow`), so that every API server on a store sees what another one wrote. A request pins it; where
//! nothing is in force, that is all it costs. `attempt` is a request as hooks see it, `webhooks` calls,
//! `validating` and `mutating` evaluate policies, with their parameters from `params`. The kinds themselves
//! are never judged by it. What rules and expressions mean is in `capstan_kinds::admission`.

mod attempt;
mod follow;
mod mutating;
mod params;
mod review;
mod rounds;
mod status;
mod validating;
mod webhooks;

use std::sync::Arc;

use capstan_kinds::admission::{Binding, MutatingPolicy, ValidatingPolicy, Webhook};

pub(super) use self::attempt::Attempt;
pub(crate) use self::attempt::Other;
pub(crate) use self::follow::{load, run};
pub(super) use self::rounds::Rounds;
use crate::call::Call;
use crate::refusal::Refusal;

/// What is in force; see the module.
#[derive(Default)]
pub(crate) struct Hooks {
    /// By the names of their configurations.
    mutating: Vec<Arc<Webhook>>,
    validating: Vec<Arc<Webhook>>,
    /// By name, those with a binding.
    policies: Vec<Bound<ValidatingPolicy>>,
    mutations: Vec<Bound<MutatingPolicy>>,
}

/// A policy and where it is in force.
struct Bound<P> {
    policy: Arc<P>,
    bindings: Vec<Arc<Binding>>,
}

impl Hooks {
    /// Whether any may change objects.
    pub(crate) fn mutate(&self) -> bool {
        !(self.mutating.is_empty() && self.mutations.is_empty())
    }

    /// Whether any may refuse requests.
    pub(crate) fn validate(&self) -> bool {
        !(self.validating.is_empty() && self.policies.is_empty())
    }
}

/// Lets policies and then webhooks change the object, in rounds; `between` is the rest of the chain, which sees
/// the object again before a second round.
pub(super) async fn mutate(
    hooks: &Hooks,
    call: &mut Call,
    attempt: &mut Attempt<'_>,
    rounds: &mut Rounds,
) -> Result<(), Refusal> {
    mutating::mutate(&hooks.mutations, call, attempt, rounds).await?;
    webhooks::mutate(&hooks.mutating, call, attempt, rounds).await
}

/// Whether policies and then webhooks let the request pass.
pub(super) async fn validate(hooks: &Hooks, call: &mut Call, attempt: &Attempt<'_>) -> Result<(), Refusal> {
    validating::validate(&hooks.policies, call, attempt).await?;
    webhooks::validate(&hooks.validating, call, attempt).await
}
