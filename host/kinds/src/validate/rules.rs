//! The small rules that the kinds' rules are made of: ranges, fixed sets, names, quantities.
//! Invariants: each takes the field's path and adds at most a few errors with the original's words.

use serde_json::Value;

use super::error::FieldError;
use crate::quantity::Quantity;

/// Why a negative number is refused.
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// Why a change is refused.
pub(super) const IMMUTABLE: &str = "field is immutable";

/// The errors found so far.
#[derive(Default)]
pub(super) struct Errors {
    pub(super) list: Vec<FieldError>,
}

impl Errors {
    pub(super) fn add(&mut self, error: FieldError) {
        self.list.push(error);
    }

    /// Whether there is an error about that field already.
    pub(super) fn has(&self, field: &str) -> bool {
        self.list.iter().any(|error| error.field == field)
    }

    /// The text must follow a naming rule.
    pub(super) fn named(&mut self, field: &str, text: &str, rule: fn(&str) -> Vec<String>) {
        for why in rule(text) {
            self.add(FieldError::invalid_text(field, text, &why));
        }
    }

    /// The text must be there and follow a naming rule.
    pub(super) fn must_be_named(&mut self, field: &str, text: &str, rule: fn(&str) -> Vec<String>) {
        if text.is_empty() {
            self.add(FieldError::required(field, ""));
        } else {
            self.named(field, text, rule);
        }
    }

    /// The text, if there is one, must be one of a fixed set.
    pub(super) fn one_of(&mut self, field: &str, text: &str, known: &[&str]) {
        if !text.is_empty() && !known.contains(&text) {
            self.add(FieldError::not_supported(field, text, known));
        }
    }

    /// The number, if there is one, must lie in a range.
    pub(super) fn range(&mut self, field: &str, value: Option<&Value>, low: i64, high: i64) {
        if let Some(number) = value.and_then(Value::as_i64)
            && !(low..=high).contains(&number)
        {
            let why = format!("must be between {low} and {high}, inclusive");
            self.add(FieldError::invalid(field, &Value::from(number), &why));
        }
    }

    /// The number, if there is one, must not be negative.
    pub(super) fn not_negative(&mut self, field: &str, value: Option<&Value>) {
        if let Some(value) = value
            && value.as_i64().is_some_and(|number| number < 0)
        {
            self.add(FieldError::invalid(field, value, NOT_NEGATIVE));
        }
    }

    /// A port: a number in the range of ports, or a name.
    pub(super) fn port(&mut self, field: &str, value: Option<&Value>) {
        match value {
            Some(Value::String(name)) => self.named(field, name, crate::name::port),
            value => self.range(field, value, 1, 65_535),
        }
    }

    /// A whole number or a percentage, not negative.
    pub(super) fn count_or_percent(&mut self, field: &str, value: Option<&Value>) {
        match value {
            Some(Value::String(text)) => {
                let digits = text.strip_suffix('%').unwrap_or_default();
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                    self.add(FieldError::invalid_text(field, text, why));
                }
            }
            value => self.not_negative(field, value),
        }
    }
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value
        .get(field)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

pub(super) fn flag(value: &Value, field: &str) -> bool {
    value.get(field).and_then(Value::as_bool).unwrap_or_default()
}

pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    value.as_str()?.parse().ok()
}

/// Whether a count or percentage is nothing.
pub(super) fn is_zero(value: Option<&Value>) -> bool {
    matches!(value, Some(value) if value.as_i64() == Some(0) || value.as_str() == Some("0%"))
}
