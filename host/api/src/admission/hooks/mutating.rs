//! MutatingAdmissionPolicies in the chain.

use std::sync::Arc;
use std::time::Instant;

use capstan_kinds::admission::{Binding, Matched, MutatingPolicy, Unmutated};
use capstan_kinds::resource::Resource;
use capstan_kinds::status::StatusCause;
use serde_json::Value;

use super::attempt::{Attempt, Seen};
use super::rounds::{Asked, Rounds};
use super::{Bound, params};
use crate::call::Call;
use crate::evaluation::evaluate;
use crate::refusal::Refusal;

/// What stood against the request, and whether it came of evaluating.
struct Problem {
    message: String,
    evaluated: bool,
}

/// One policy with one set of parameters.
struct Turn<'a> {
    policy: &'a MutatingPolicy,
    binding: &'a Binding,
    resource: Arc<Resource>,
    params: Option<Arc<Value>>,
}

/// Lets every policy that is about the request change the object, in order.
pub(super) async fn mutate(
    policies: &[Bound<MutatingPolicy>],
    _call: &mut Call,
    attempt: &mut Attempt<'_>,
    rounds: &mut Rounds,
) -> Result<(), Refusal> {
    if policies.is_empty() {
        return Ok(());
    }
    rounds.policies.enter(rounds.round, attempt.object.as_ref());
    let mut problems = Vec::new();
    // As in the original, who is about the request is decided before any of them changes it.
    let turns = turns(policies, attempt, &mut problems);
    for turn in &turns {
        take_turn(turn, attempt, rounds, &mut problems).await?;
    }
    rounds.policies.leave(attempt.object.as_ref());
    refused(attempt, problems)
}

fn turns<'a>(
    policies: &'a [Bound<MutatingPolicy>],
    attempt: &Attempt<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    let (object, old) = (attempt.object.as_deref(), attempt.old.as_deref());
    for one in policies {
        let policy = &*one.policy;
        let found = policy
            .constraints
            .find(&attempt.request, &attempt.labels, object, old);
        let Some(resource) = found else { continue };
        if let Err(why) = params::is_known(attempt, policy.param_kind.as_ref()) {
            let message = format!(
                "policy {:?} denied request: failed to configure policy: {why}",
                policy.name
            );
            problems.extend(policy.fails.then_some(Problem {
                message,
                evaluated: false,
            }));
            continue;
        }
        for binding in &one.bindings {
            let bound = binding.resources.as_ref();
            if bound.is_some_and(|own| own.find(&attempt.request, &attempt.labels, object, old).is_none()) {
                continue;
            }
            match params::collect(attempt, policy.param_kind.as_ref(), binding) {
                Ok(all) => turns.extend(all.into_iter().map(|params| Turn {
                    policy,
                    binding,
                    resource: resource.clone(),
                    params,
                })),
                Err(why) => problems.extend(problem(
                    policy,
                    binding,
                    &format!("failed to configure binding: {why}"),
                    false,
                )),
            }
        }
    }
    turns
}

async fn take_turn(
    turn: &Turn<'_>,
    attempt: &mut Attempt<'_>,
    rounds: &mut Rounds,
    problems: &mut Vec<Problem>,
) -> Result<(), Refusal> {
    let (policy, binding) = (turn.policy, turn.binding);
    let seen = attempt.seen_as(&turn.resource).await?;
    match evaluate(|| matched(turn, attempt, &seen)).await {
        Matched::Yes => {}
        Matched::No => return Ok(()),
        Matched::Failed(why) => {
            problems.extend(problem(policy, binding, &why, true));
            return Ok(());
        }
    }
    let asked = key(turn);
    if !rounds.policies.has_turn(rounds.round, &asked) {
        return Ok(());
    }
    let mut changed = false;
    for index in 0..policy.mutations() {
        let seen = attempt.seen_as(&turn.resource).await?;
        if seen.object.is_none() {
            continue;
        }
        let started = Instant::now();
        let outcome = evaluate(|| mutated(turn, index, attempt, &seen)).await;
        let failed = outcome.as_ref().err().map(|Unmutated(why)| why.as_str());
        let metrics = &attempt.server.metrics.hooks;
        metrics.mutated((&policy.name, &binding.name), failed, started.elapsed());
        match outcome {
            Ok(object) => changed |= attempt.take(&turn.resource, object).await?,
            Err(Unmutated(why)) => problems.extend(problem(policy, binding, &why, true)),
        }
    }
    if changed {
        rounds.policies.changed();
        rounds.again = true;
    }
    if policy.reinvoked {
        rounds.policies.remember(asked);
    }
    Ok(())
}

fn matched(turn: &Turn<'_>, attempt: &Attempt<'_>, seen: &Seen) -> Matched {
    turn.policy.applies(&attempt.input(seen, turn.params.as_deref()))
}

fn mutated(turn: &Turn<'_>, index: usize, attempt: &Attempt<'_>, seen: &Seen) -> Result<Value, Unmutated> {
    let input = attempt.input(seen, turn.params.as_deref());
    turn.policy.mutate(index, &turn.resource, &input)
}

fn key(turn: &Turn<'_>) -> Asked {
    let params = turn.params.as_deref().map(|params| {
        let metadata = &params["metadata"];
        format!("{}/{}", metadata["namespace"], metadata["name"])
    });
    (
        turn.policy.name.clone(),
        turn.binding.name.clone(),
        params.unwrap_or_default().into(),
    )
}

fn problem(policy: &MutatingPolicy, binding: &Binding, why: &str, evaluated: bool) -> Option<Problem> {
    policy.fails.then(|| Problem {
        message: format!(
            "policy '{}' with binding '{}' denied request: {why}",
            policy.name, binding.name
        ),
        evaluated,
    })
}

fn refused(attempt: &Attempt<'_>, problems: Vec<Problem>) -> Result<(), Refusal> {
    let Some(first) = problems.first() else {
        return Ok(());
    };
    let mut status = attempt.forbidden("");
    status.message = first.message.clone();
    if first.evaluated {
        status.reason = "Invalid".to_owned();
    }
    let causes = problems.iter().map(|problem| StatusCause {
        message: problem.message.clone(),
        ..StatusCause::default()
    });
    Err(status.with_causes(causes.collect()).into())
}
