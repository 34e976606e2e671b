//! What is wrong with configurations of admission themselves: the two of webhooks, policies and bindings.
//! Invariants: fields and words are the original's. `validate` calls it for the group's kinds. Left out: that
//! an expression which was stored by a newer server is taken though this one cannot read it.

mod matching;
mod policy;
mod webhook;

use serde_json::Value;

use crate::validate::FieldError;

/// Judges an object of the group; `old` is what it was before.
pub(crate) fn check(kind: &str, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match kind {
        "ValidatingWebhookConfiguration" => webhook::configuration(object, old, false, &mut errors),
        "MutatingWebhookConfiguration" => webhook::configuration(object, old, true, &mut errors),
        "ValidatingAdmissionPolicy" => policy::validating(object, old, &mut errors),
        "MutatingAdmissionPolicy" => policy::mutating(object, old, &mut errors),
        "ValidatingAdmissionPolicyBinding" => policy::binding(&object["spec"], true, &mut errors),
        "MutatingAdmissionPolicyBinding" => policy::binding(&object["spec"], false, &mut errors),
        _ => {}
    }
    errors
}

type Found = Vec<FieldError>;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// The field, if it is there, must be one of a fixed set.
fn one_of(value: &Value, field: &str, known: &[&str], at: &str, found: &mut Found) {
    if let Some(own) = value[field].as_str()
        && !known.contains(&own)
    {
        found.push(FieldError::not_supported(format!("{at}.{field}"), own, known));
    }
}

/// As [`one_of`], but it must be there.
fn must_be_one_of(value: &Value, field: &str, known: &[&str], at: &str, found: &mut Found) {
    if text(value, field).is_empty() {
        found.push(FieldError::required(format!("{at}.{field}"), ""));
    } else {
        one_of(value, field, known, at, found);
    }
}
