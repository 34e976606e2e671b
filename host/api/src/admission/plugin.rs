//! The plugins' part of the chain.

use std::sync::Arc;

use capstan_kinds::status::{Details, Status, StatusCause};
use capstan_kinds::{patch, resource::Resource};
use capstan_points::admission::{Denial, Patch, Policy, Review, Verdict};
use capstan_points::{FailurePolicy, Fault, FaultKind, Seat};
use serde_json::{Value, json};

use crate::call::Call;
use crate::refusal::Refusal;

/// What a plugin that only audits would have said, after the plugin's name.
const AUDIT_ANNOTATION: &str = "plugins.capstan.dev/would-deny";

/// Patches of one answer at most.
const PATCHES_MAX: usize = 1024;

/// Asks the mutating seats in order, and those again, once, that a later one changed the object after.
pub(super) async fn mutate(
    seats: &[Seat<dyn Policy>],
    call: &mut Call,
    mut review: Review,
) -> Result<Value, Refusal> {
    let mut last_change = None;
    for (position, seat) in seats.iter().enumerate() {
        if ask(seat, call, &mut review).await? {
            last_change = Some(position);
        }
    }
    if let Some(last) = last_change {
        for seat in &seats[..last] {
            ask(seat, call, &mut review).await?;
        }
    }
    let object = review.object.take().unwrap_or_default();
    Ok(Arc::try_unwrap(object).unwrap_or_else(|shared| (*shared).clone()))
}

/// One seat's patches, applied; says whether there were any.
async fn ask(seat: &Seat<dyn Policy>, call: &mut Call, review: &mut Review) -> Result<bool, Refusal> {
    if !seat.policy.mutates() || !seat.policy.covers(review) {
        return Ok(false);
    }
    let patched = match seat.policy.mutate(Arc::new(review.clone())).await {
        Ok(patches) if patches.is_empty() => return Ok(false),
        Ok(patches) => apply(review, patches),
        Err(fault) => Err(fault),
    };
    match patched {
        Ok(object) => {
            let changed = review.object.as_deref() != Some(&object);
            review.object = Some(Arc::new(object));
            Ok(changed)
        }
        Err(fault) => failed(seat, call, &fault).map(|()| false),
    }
}

fn apply(review: &Review, patches: Vec<Patch>) -> Result<Value, Fault> {
    if patches.len() > PATCHES_MAX {
        let message = format!("{} patches; the limit is {PATCHES_MAX}", patches.len());
        return Err(Fault::new(FaultKind::Garbage, message));
    }
    let operations: Vec<Value> = patches
        .into_iter()
        .map(|patch| match patch {
            Patch::Add { path, value } => json!({ "op": "add", "path": path, "value": value }),
            Patch::Replace { path, value } => json!({ "op": "replace", "path": path, "value": value }),
            Patch::Remove { path } => json!({ "op": "remove", "path": path }),
        })
        .collect();
    let mut object = review.object.as_deref().cloned().unwrap_or_default();
    let identity = |object: &Value| (object["kind"].clone(), object["apiVersion"].clone());
    let before = identity(&object);
    patch::json(&mut object, &Value::Array(operations))
        .map_err(|error| Fault::new(FaultKind::Garbage, format!("its patch does not apply: {error}")))?;
    if identity(&object) != before || !object["metadata"].is_object() {
        return Err(Fault::new(
            FaultKind::Garbage,
            "its patch changes what the object is",
        ));
    }
    Ok(object)
}

/// Asks every validating seat that covers the request; the first denial ends it.
pub(super) async fn validate(
    seats: &[Seat<dyn Policy>],
    call: &mut Call,
    review: Arc<Review>,
) -> Result<(), Refusal> {
    for seat in seats {
        if !seat.policy.validates() || !seat.policy.covers(&review) {
            continue;
        }
        match seat.policy.validate(review.clone()).await {
            Ok(Verdict::Allow(warnings)) => warnings.into_iter().for_each(|text| call.warn(text)),
            Ok(Verdict::Warn(denial)) => call.warn(would_deny(seat, &denial)),
            Ok(Verdict::Audit(denial)) => {
                let found = json!({ "message": denial.message, "field": denial.field, "code": denial.code });
                call.annotate(&format!("{}.{AUDIT_ANNOTATION}", seat.plugin), &found.to_string());
            }
            Ok(Verdict::Deny(denial)) => return Err(denied(&call.resource, &review, denial).into()),
            Err(fault) => failed(seat, call, &fault)?,
        }
    }
    Ok(())
}

fn would_deny(seat: &Seat<dyn Policy>, denial: &Denial) -> String {
    let place = denial.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    format!("admission plugin \"{}\" would deny this: {place}{}", seat.plugin, denial.message)
}

fn failed(seat: &Seat<dyn Policy>, call: &mut Call, fault: &Fault) -> Result<(), Refusal> {
    let text = format!("admission plugin \"{}\" failed: {fault}", seat.plugin);
    match seat.failure_policy {
        FailurePolicy::Fail => Err(Status::internal(text).into()),
        FailurePolicy::Ignore => {
            call.warn(format!("{text} (ignored)"));
            Ok(())
        }
    }
}

fn denied(resource: &Resource, review: &Review, denial: Denial) -> Status {
    let generated = || {
        let object = review.object.as_deref()?;
        object["metadata"]["generateName"].as_str().map(str::to_owned)
    };
    let name = if review.name.is_empty() {
        generated().unwrap_or_default()
    } else {
        review.name.clone()
    };
    let mut status = Status::forbidden(resource, &name, &denial.message);
    let reason = match denial.code {
        400 => "BadRequest",
        401 => "Unauthorized",
        404 => "NotFound",
        409 => "Conflict",
        422 => "Invalid",
        429 => "TooManyRequests",
        402..=599 if denial.code != 403 => "",
        _ => return with_field(status, denial),
    };
    status.code = denial.code;
    status.reason = reason.to_owned();
    if denial.code == 422 {
        let qualified = match resource.group.as_str() {
            "" => resource.kind.clone(),
            group => format!("{}.{group}", resource.kind),
        };
        status.message = format!("{qualified} \"{name}\" is invalid: {}", denial.message);
        status.details = Some(Details {
            name,
            group: resource.group.clone(),
            kind: resource.kind.clone(),
            ..Details::default()
        });
    }
    with_field(status, denial)
}

fn with_field(status: Status, denial: Denial) -> Status {
    match denial.field {
        Some(field) => {
            let reason = "FieldValueForbidden".to_owned();
            status.with_causes(vec![StatusCause {
                reason,
                message: denial.message,
                field,
            }])
        }
        None => status,
    }
}
