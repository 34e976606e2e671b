//! The limits of one value: of a text, a number, a list's length, a choice.

use serde_json::{Value, json};

use super::check::{Walk, too_many};
use super::formats;
use super::schema::{Limits, Schema, Type};
use crate::validate::Cause;

impl Walk {
    pub(super) fn string(&mut self, schema: &Schema, limits: &Limits, text: &str, path: &str) {
        let value = json!(text);
        let length = text.chars().count() as u64;
        if let Some(most) = limits.max_length.filter(|most| length > *most) {
            let message = format!("Too long: may not be more than {most} bytes");
            self.add(path, Cause::TooLong, message);
        } else if let Some(least) = limits.min_length.filter(|least| length < *least) {
            self.fail(path, &value, &format!("should be at least {least} chars long"));
        } else if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
            self.fail(path, &value, &format!("should match '{}'", pattern.as_str()));
        }
        let of_string = schema.kind.is_none_or(|kind| kind == Type::String) && !schema.int_or_string;
        if let Some(format) = limits.format.as_deref().filter(|_| of_string)
            && formats::is_known(format)
            && !formats::holds(format, text)
        {
            let message =
                format!("Invalid value: {text:?}: {path} in body must be of type {format}: {text:?}");
            self.add(path, Cause::TypeInvalid, message);
        }
    }

    pub(super) fn number(&mut self, limits: &Limits, value: &Value, number: f64, path: &str) {
        if let Some(factor) = limits.multiple_of
            && factor > 0.0
            && !is_whole(Some(number / factor))
        {
            self.fail(path, value, &format!("should be a multiple of {factor}"));
        }
        if let Some(most) = limits.maximum {
            if limits.exclusive_maximum && number >= most {
                self.fail(path, value, &format!("should be less than {most}"));
            } else if number > most {
                self.fail(path, value, &format!("should be less than or equal to {most}"));
            }
        }
        if let Some(least) = limits.minimum {
            if limits.exclusive_minimum && number <= least {
                self.fail(path, value, &format!("should be greater than {least}"));
            } else if number < least {
                self.fail(
                    path,
                    value,
                    &format!("should be greater than or equal to {least}"),
                );
            }
        }
        let range = match limits.format.as_deref() {
            Some("int32") => Some((f64::from(i32::MIN), f64::from(i32::MAX))),
            _ => None,
        };
        if let Some((low, high)) = range.filter(|(low, high)| number < *low || number > *high) {
            self.fail(
                path,
                value,
                &format!("must be an int32, between {low} and {high}"),
            );
        }
    }

    pub(super) fn count(&mut self, limits: &Limits, length: usize, path: &str) {
        let length = length as u64;
        if let Some(least) = limits.min_items.filter(|least| length < *least) {
            self.fail(
                path,
                &json!(length),
                &format!("should have at least {least} items"),
            );
        }
        if let Some(most) = limits.max_items.filter(|most| length > *most) {
            self.add(path, Cause::TooMany, too_many(length, most));
        }
    }

    pub(super) fn choice(&mut self, limits: &Limits, value: &Value, path: &str) {
        let same = |one: &Value| one == value || (one.is_number() && one.as_f64() == value.as_f64());
        if limits.choices.is_empty() || limits.choices.iter().any(same) {
            return;
        }
        let shown: Vec<String> = limits
            .choices
            .iter()
            .map(|one| match one {
                Value::String(text) => format!("{text:?}"),
                other => format!("{:?}", other.to_string()),
            })
            .collect();
        let message = format!(
            "Unsupported value: {value}: supported values: {}",
            shown.join(", ")
        );
        self.add(path, Cause::NotSupported, message);
    }
}

pub(super) fn is_whole(number: Option<f64>) -> bool {
    number.is_some_and(|number| number.is_finite() && (number - number.round()).abs() < 1e-9)
}
