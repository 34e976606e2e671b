//! ValidatingAdmissionPolicies in the chain.

use std::time::{Duration, Instant};

use capstan_kinds::admission::{AuditAnnotation, Binding, Judgement, ValidatingPolicy};
use capstan_kinds::status::{Status, StatusCause};
use serde_json::json;

use super::attempt::{Attempt, Seen};
use super::{Bound, params};
use crate::call::Call;
use crate::evaluation::evaluate;
use crate::metrics::{Enforced, HookMetrics};
use crate::refusal::Refusal;

/// Bytes of one audit annotation.
const AUDIT_BYTES_MAX: usize = 10 * 1024;

/// A refusal by a policy, and by which binding.
struct Refused {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

/// Evaluates every policy that is about the request; the first refusal is told.
pub(super) async fn validate(
    policies: &[Bound<ValidatingPolicy>],
    call: &mut Call,
    attempt: &Attempt<'_>,
) -> Result<(), Refusal> {
    let mut refused = Vec::new();
    for one in policies {
        judge(one, call, attempt, &mut refused).await?;
    }
    match refused.into_iter().next() {
        Some(first) => Err(status(attempt, first).into()),
        None => Ok(()),
    }
}

async fn judge(
    one: &Bound<ValidatingPolicy>,
    call: &mut Call,
    attempt: &Attempt<'_>,
    refused: &mut Vec<Refused>,
) -> Result<(), Refusal> {
    let policy = &one.policy;
    let (object, old) = (attempt.object.as_deref(), attempt.old.as_deref());
    let Some(resource) = policy
        .constraints
        .find(&attempt.request, &attempt.labels, object, old)
    else {
        return Ok(());
    };
    if let Err(why) = params::is_known(attempt, policy.param_kind.as_ref()) {
        misconfigured(policy, None, &why, refused);
        return Ok(());
    }
    let mut seen: Option<Seen> = None;
    let mut audits: Vec<(String, Vec<String>)> = Vec::new();
    for binding in &one.bindings {
        let bound = binding.resources.as_ref();
        if bound.is_some_and(|own| own.find(&attempt.request, &attempt.labels, object, old).is_none()) {
            continue;
        }
        let all = match params::collect(attempt, policy.param_kind.as_ref(), binding) {
            Ok(all) => all,
            Err(why) => {
                misconfigured(policy, Some(binding), &why, refused);
                continue;
            }
        };
        let seen = match &mut seen {
            Some(seen) => seen,
            none => none.insert(attempt.seen_as(resource).await?),
        };
        for params in all {
            let input = || attempt.input(seen, params.as_deref());
            let started = Instant::now();
            let judgement = evaluate(|| policy.judge(&input())).await;
            let metrics = &attempt.server.metrics.hooks;
            count((policy, binding), &judgement, started.elapsed(), metrics);
            weigh((policy, binding), judgement, call, refused, &mut audits);
        }
    }
    for (key, values) in audits {
        call.annotate(&format!("{}/{key}", policy.name), &values.join(", "));
    }
    Ok(())
}

fn misconfigured(
    policy: &ValidatingPolicy,
    binding: Option<&Binding>,
    why: &str,
    refused: &mut Vec<Refused>,
) {
    if !policy.fails {
        return;
    }
    let what = if binding.is_some() { "binding" } else { "policy" };
    refused.push(Refused {
        policy: policy.name.to_string(),
        binding: binding.map(|binding| binding.name.to_string()),
        message: format!("failed to configure {what}: {why}"),
        reason: String::new(),
    });
}

/// Counts what each expression led to. They were evaluated together: each is told its share of the time.
fn count(
    (policy, binding): (&ValidatingPolicy, &Binding),
    judgement: &Judgement,
    took: Duration,
    metrics: &HookMetrics,
) {
    let expressions = judgement.decisions.len() + judgement.audits.len();
    let took = took / u32::try_from(expressions).unwrap_or(u32::MAX).max(1);
    let names = (&*policy.name, &*binding.name);
    for decision in &judgement.decisions {
        if !decision.denied && !decision.message.is_empty() {
            metrics.validated(names, Enforced::Allow, &decision.message, took);
        }
        for action in binding.actions.iter().filter(|_| decision.denied) {
            let enforced = match &**action {
                "Deny" => Enforced::Deny,
                "Warn" => Enforced::Warn,
                _ => Enforced::Audit,
            };
            metrics.validated(names, enforced, &decision.message, took);
        }
    }
    for audit in &judgement.audits {
        if let AuditAnnotation::Failed(why) = audit {
            metrics.validated(names, Enforced::Deny, why, took);
        }
    }
}

/// What a judgement leads to, by the actions of its binding.
fn weigh(
    (policy, binding): (&ValidatingPolicy, &Binding),
    judgement: Judgement,
    call: &mut Call,
    refused: &mut Vec<Refused>,
    audits: &mut Vec<(String, Vec<String>)>,
) {
    let refusal = |message: &str, reason: &str| Refused {
        policy: policy.name.to_string(),
        binding: Some(binding.name.to_string()),
        message: message.to_owned(),
        reason: reason.to_owned(),
    };
    for (index, decision) in judgement.decisions.iter().enumerate() {
        for action in binding.actions.iter().filter(|_| decision.denied) {
            match &**action {
                "Deny" => refused.push(refusal(&decision.message, &decision.reason)),
                "Warn" => call.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, decision.message
                )),
                _ => call.annotate(
                    "validation.policy.admission.k8s.io/validation_failure",
                    &json!([{
                        "message": decision.message, "policy": policy.name, "binding": binding.name,
                        "expressionIndex": index, "validationActions": binding.actions,
                    }])
                    .to_string(),
                ),
            }
        }
    }
    for audit in judgement.audits {
        match audit {
            AuditAnnotation::Failed(why) => refused.push(refusal(&why, "")),
            AuditAnnotation::Publish { key, mut value } => {
                let cut = (0..=AUDIT_BYTES_MAX.min(value.len())).rev();
                let cut = cut.into_iter().find(|at| value.is_char_boundary(*at));
                value.truncate(cut.unwrap_or(0));
                match audits.iter_mut().find(|(own, _)| *own == key) {
                    Some((_, values)) if values.contains(&value) => {}
                    Some((_, values)) => values.push(value),
                    None => audits.push((key, vec![value])),
                }
            }
        }
    }
}

fn status(attempt: &Attempt<'_>, refused: Refused) -> Status {
    let Refused {
        policy,
        binding,
        message,
        reason,
    } = refused;
    let message = match binding {
        Some(binding) => {
            format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}")
        }
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {message}"),
    };
    let mut status = attempt.forbidden(&message);
    status.code = match reason.as_str() {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    status.reason = if reason.is_empty() {
        "Invalid".to_owned()
    } else {
        reason
    };
    status.with_causes(vec![StatusCause {
        message,
        ..StatusCause::default()
    }])
}
