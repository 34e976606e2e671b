//! Rules of label selectors and of plain maps of labels, wherever they stand.
//! Invariants: the selector's own words are those of its parts, at their paths. Called by all kinds that select.

use serde_json::Value;

use super::at::At;
use crate::name;
use crate::selector::LabelSelector;

/// Keys and values of a map of labels.
pub(super) fn labels(at: &At, field: &str) {
    for (key, value) in at.map(field).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        key_at(at, field, key);
        name::label_value(value)
            .iter()
            .for_each(|why| at.invalid_as(field, value, why));
    }
}

/// The key of a label that stands at a field.
pub(super) fn key_at(at: &At, field: &str, key: &str) {
    name::qualified(key)
        .iter()
        .for_each(|why| at.invalid_as(field, key, why));
}

/// A `metav1.LabelSelector`, if there is one.
pub(super) fn check(at: &At, field: &str) {
    let Some(selector) = at.some(field) else { return };
    labels(&selector, "matchLabels");
    for expression in selector.each("matchExpressions") {
        match expression.text("operator") {
            "In" | "NotIn" if expression.count("values") == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                expression.required("values", why);
            }
            "Exists" | "DoesNotExist" if expression.count("values") > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                expression.forbidden("values", why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => expression.invalid_as("operator", other, "not a valid selector operator"),
        }
        expression.name("key", name::qualified);
        let values = expression.each("values");
        values.for_each(|value| value.name("", name::label_value));
    }
}

/// Whether there is nothing in a selector.
pub(super) fn is_empty(selector: &At) -> bool {
    selector.count("matchLabels") + selector.count("matchExpressions") == 0
}

/// Whether a selector selects labels; none when it cannot be read.
pub(super) fn selects(selector: &Value, labels: Option<&Value>) -> Option<bool> {
    let selector = LabelSelector::from_value(selector).ok()?;
    Some(selector.matches(|key| labels?.get(key)?.as_str()))
}
