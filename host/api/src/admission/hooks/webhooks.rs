//! Webhooks in the chain: mutating ones in order, validating ones at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_kinds::admission::{Matched, Webhook};
use capstan_kinds::patch;
use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::attempt::{Attempt, Seen};
use super::review::{self, Answer};
use super::rounds::{Asked, Rounds};
use crate::call::Call;
use crate::evaluation::evaluate;
use crate::metrics::{self, Ended};
use crate::refusal::Refusal;
use crate::webhook::UNAVAILABLE;

/// How a webhook's turn ends where it gives no answer.
enum Trouble {
    /// It could not be called or answered garbage, as this code: `failurePolicy` decides.
    Calling(String, u16),
    /// It refuses the request.
    Rejected(Status),
    /// The server refuses the request whatever the policy.
    Refused(Refusal),
}

impl Trouble {
    fn ended(&self, webhook: &Webhook) -> Ended {
        match self {
            Trouble::Calling(_, code) if webhook.fails => Ended::Closed(*code),
            Trouble::Calling(_, code) => Ended::Open(*code),
            Trouble::Rejected(status) => Ended::Rejected(status.code),
            Trouble::Refused(_) => Ended::Internal,
        }
    }
}

/// A webhook as it is counted.
fn counted<'a>(webhook: &'a Webhook, attempt: &'a Attempt<'_>, mutating: bool) -> metrics::Asked<'a> {
    metrics::Asked {
        name: &webhook.name,
        mutating,
        operation: attempt.request.operation,
    }
}

/// Asks the mutating webhooks, each with what those before it made of the object.
pub(super) async fn mutate(
    webhooks: &[Arc<Webhook>],
    call: &mut Call,
    attempt: &mut Attempt<'_>,
    rounds: &mut Rounds,
) -> Result<(), Refusal> {
    if webhooks.is_empty() {
        return Ok(());
    }
    rounds.webhooks.enter(rounds.round, attempt.object.as_ref());
    for (index, webhook) in webhooks.iter().enumerate() {
        let Some((resource, seen)) = relevant(webhook, attempt, true).await? else {
            continue;
        };
        let asked: Asked = (webhook.configuration.clone(), webhook.name.clone(), "".into());
        if !rounds.webhooks.has_turn(rounds.round, &asked) {
            continue;
        }
        let started = Instant::now();
        let outcome = match post(webhook, attempt, &seen, true).await {
            Ok(answer) => patched(webhook, call, attempt, (&resource, &seen), answer).await,
            Err(trouble) => Err(trouble),
        };
        let ended = outcome
            .as_ref()
            .err()
            .map_or(Ended::Allowed, |trouble| trouble.ended(webhook));
        let metrics = &attempt.server.metrics.hooks;
        metrics.asked(counted(webhook, attempt, true), ended, started.elapsed());
        let place = format!("round_{}_index_{index}", rounds.round);
        let mutated = matches!(outcome, Ok(true));
        call.annotate(
            &format!("mutation.webhook.admission.k8s.io/{place}"),
            &json!({"configuration": webhook.configuration, "webhook": webhook.name, "mutated": mutated})
                .to_string(),
        );
        if mutated {
            rounds.webhooks.changed();
            rounds.again = true;
        }
        if webhook.reinvoked {
            rounds.webhooks.remember(asked);
        }
        if let Err(trouble) = outcome {
            failed(
                webhook,
                call,
                trouble,
                &format!("failed-open.mutation.webhook.admission.k8s.io/{place}"),
            )?;
        }
    }
    rounds.webhooks.leave(attempt.object.as_ref());
    Ok(())
}

/// Asks all validating webhooks at once; the first refusal that comes back is told, once all have answered.
pub(super) async fn validate(
    webhooks: &[Arc<Webhook>],
    call: &mut Call,
    attempt: &Attempt<'_>,
) -> Result<(), Refusal> {
    let mut relevant_ones = Vec::new();
    for webhook in webhooks {
        if let Some((_, seen)) = relevant(webhook, attempt, false).await? {
            relevant_ones.push((webhook, seen));
        }
    }
    let asked = relevant_ones
        .iter()
        .enumerate()
        .map(|(index, (webhook, seen))| async move {
            let started = Instant::now();
            let answer = post(webhook, attempt, seen, false).await;
            let ended = match &answer {
                Ok(answer) => answer
                    .refusal
                    .as_ref()
                    .map_or(Ended::Allowed, |status| Ended::Rejected(status.code)),
                Err(trouble) => trouble.ended(webhook),
            };
            let metrics = &attempt.server.metrics.hooks;
            metrics.asked(counted(webhook, attempt, false), ended, started.elapsed());
            (index, *webhook, answer)
        });
    let mut asked: FuturesUnordered<_> = asked.collect();
    let mut refused = None;
    while let Some((index, webhook, answer)) = asked.next().await {
        let outcome = match answer {
            Ok(answer) => match told(call, answer) {
                (Some(refusal), _) => Err(Trouble::Rejected(refusal)),
                (None, _) => Ok(()),
            },
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = outcome {
            let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            let outcome = failed(webhook, call, trouble, &key);
            refused = refused.or(outcome.err());
        }
    }
    refused.map_or(Ok(()), Err)
}

/// The request as the webhook wants to see it, if it does.
async fn relevant(
    webhook: &Webhook,
    attempt: &Attempt<'_>,
    mutating: bool,
) -> Result<Option<(Arc<Resource>, Seen)>, Refusal> {
    let (object, old) = (attempt.object.as_deref(), attempt.old.as_deref());
    let found = webhook.find(&attempt.request, &attempt.labels, object, old);
    let Some(resource) = found.cloned() else {
        return Ok(None);
    };
    let seen = attempt.seen_as(&resource).await?;
    match evaluate(|| matched(webhook, attempt, &seen)).await {
        Matched::Yes => Ok(Some((resource, seen))),
        Matched::No => {
            attempt
                .server
                .metrics
                .hooks
                .excluded(counted(webhook, attempt, mutating));
            Ok(None)
        }
        Matched::Failed(why) => {
            let refusal = Status::forbidden(&attempt.request.resource, &attempt.request.name, &why);
            Err(refusal.into())
        }
    }
}

fn matched(webhook: &Webhook, attempt: &Attempt<'_>, seen: &Seen) -> Matched {
    if webhook.conditions.is_empty() {
        return Matched::Yes;
    }
    webhook.conditions.hold(&attempt.input(seen, None))
}

async fn post(
    webhook: &Webhook,
    attempt: &Attempt<'_>,
    seen: &Seen,
    mutating: bool,
) -> Result<Answer, Trouble> {
    if attempt.request.dry_run && !webhook.dry_runs {
        let why = format!("admission webhook {:?} does not support dry run", webhook.name);
        return Err(Trouble::Refused(Status::bad_request(why).into()));
    }
    let (uid, document) = review::ask(webhook, seen)
        .map_err(|why| Trouble::Calling(format!("could not create admission objects: {why}"), 400))?;
    let client = match &webhook.client {
        Some(config) => attempt.server.registry.callers.to(config),
        None => Err("webhook configuration must have either service or URL".to_owned()),
    };
    let client = client.map_err(|why| Trouble::Calling(format!("could not get REST client: {why}"), 500))?;
    let timeout = Duration::from_secs(webhook.timeout_seconds);
    let answer = client.post(&document, Some(timeout)).await;
    let answer = answer.map_err(|failure| {
        let why = format!("failed to call webhook: {failure}");
        Trouble::Calling(why, failure.code)
    })?;
    review::read(webhook, &uid, mutating, &answer).map_err(|why| {
        let why = match why.starts_with("received ") || why.starts_with("unsupported ") {
            true => why,
            false => format!("received invalid webhook response: {why}"),
        };
        Trouble::Calling(why, UNAVAILABLE)
    })
}

/// Passes on warnings and annotations; gives the refusal or the patch.
fn told(call: &mut Call, answer: Answer) -> (Option<Status>, Vec<Value>) {
    for (key, value) in answer.annotations {
        call.annotate(&key, &value);
    }
    for warning in answer.warnings {
        call.warn(warning);
    }
    (answer.refusal, answer.patch)
}

/// Applies the webhook's patch; says whether it changed the object.
async fn patched(
    webhook: &Webhook,
    call: &mut Call,
    attempt: &mut Attempt<'_>,
    (resource, seen): (&Arc<Resource>, &Seen),
    answer: Answer,
) -> Result<bool, Trouble> {
    let (refusal, operations) = told(call, answer);
    if let Some(refusal) = refusal {
        return Err(Trouble::Rejected(refusal));
    }
    if operations.is_empty() {
        return Ok(false);
    }
    let internal = |why: String| Trouble::Refused(Status::internal(why).into());
    let Some(object) = seen.object.as_deref() else {
        return Err(internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            webhook.name
        )));
    };
    let mut object = object.clone();
    patch::json(&mut object, &Value::Array(operations)).map_err(|error| internal(error.to_string()))?;
    attempt.take(resource, object).await.map_err(Trouble::Refused)
}

/// What a trouble does to the request.
fn failed(webhook: &Webhook, call: &mut Call, trouble: Trouble, annotation: &str) -> Result<(), Refusal> {
    let why = match trouble {
        Trouble::Refused(refusal) => return Err(refusal),
        Trouble::Rejected(status) => return Err(status.into()),
        Trouble::Calling(why, _) => why,
    };
    let message = format!("failed calling webhook {:?}: {why}", webhook.name);
    if webhook.fails {
        return Err(Status::internal(message).into());
    }
    tracing::warn!(webhook = %webhook.name, %why, "failed calling webhook, failing open");
    call.annotate(annotation, &webhook.name);
    Ok(())
}
