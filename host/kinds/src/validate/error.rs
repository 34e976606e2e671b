//! One broken rule about one field, worded as the original words it.
//! Invariants: `message` starts with the cause's own words ("Required value", "Invalid value: ..."), so that
//! field and message together read as clients expect. The rules of this folder make them; `status::Status`
//! turns them into causes.

use std::fmt;

use serde_json::Value;

/// What kind of rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The value is not allowed.
    FieldValueInvalid,
    /// A value is missing.
    Required,
    /// The value is none of a fixed set.
    NotSupported,
    /// The value may not be set here.
    Forbidden,
    /// The value is there twice.
    Duplicate,
    /// The value has the wrong type.
    TypeInvalid,
    /// The value refers to something that is not there.
    NotFound,
    /// The value is too long.
    TooLong,
    /// There are too many values.
    TooMany,
}

impl Cause {
    /// The reason in a `Status` cause.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::FieldValueInvalid => "FieldValueInvalid",
            Cause::Required => "FieldValueRequired",
            Cause::NotSupported => "FieldValueNotSupported",
            Cause::Forbidden => "FieldValueForbidden",
            Cause::Duplicate => "FieldValueDuplicate",
            Cause::TypeInvalid => "FieldValueTypeInvalid",
            Cause::NotFound => "FieldValueNotFound",
            Cause::TooLong => "FieldValueTooLong",
            Cause::TooMany => "FieldValueTooMany",
        }
    }
}

/// A broken rule about a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field, such as `spec.containers[0].image`.
    pub field: String,
    /// The kind of rule.
    pub reason: Cause,
    /// What is wrong, the cause's words included.
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl FieldError {
    /// An error with a message of its own.
    pub fn new(field: impl Into<String>, reason: Cause, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason,
            message: message.into(),
        }
    }

    /// A value is missing.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::new(field, Cause::Required, worded("Required value", detail))
    }

    /// A value breaks a rule.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self::new(
            field,
            Cause::FieldValueInvalid,
            worded(&format!("Invalid value: {}", shown(value)), detail),
        )
    }

    /// A text breaks a rule.
    pub fn invalid_text(field: impl Into<String>, value: &str, detail: &str) -> Self {
        Self::new(
            field,
            Cause::FieldValueInvalid,
            worded(&format!("Invalid value: {value:?}"), detail),
        )
    }

    /// A text is none of the known ones.
    pub fn not_supported(field: impl Into<String>, value: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            known.join(", ")
        );
        Self::new(field, Cause::NotSupported, message)
    }

    /// A value may not be set here.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::new(field, Cause::Forbidden, worded("Forbidden", detail))
    }

    /// A value is there twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self::new(
            field,
            Cause::Duplicate,
            format!("Duplicate value: {}", shown(value)),
        )
    }

    /// A reference leads nowhere.
    pub fn not_found(field: impl Into<String>, value: &str) -> Self {
        Self::new(field, Cause::NotFound, format!("Not found: {value:?}"))
    }

    /// A value is too long.
    pub fn too_long(field: impl Into<String>, bytes_max: usize) -> Self {
        Self::new(
            field,
            Cause::TooLong,
            format!("Too long: may not be more than {bytes_max} bytes"),
        )
    }
}

fn worded(words: &str, detail: &str) -> String {
    if detail.is_empty() {
        words.to_string()
    } else {
        format!("{words}: {detail}")
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}
