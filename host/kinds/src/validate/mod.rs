//! The rules of each kind: what may be created and how it may change.
//! Invariants: fields and words are the original's, so that clients and people recognise them; an object
//! that passes needs no further check by controllers. The API server calls `types` when it decodes,
//! `unknown_fields` for field validation, `create` and `update` after admission. Rules that need other
//! objects (quotas, references) are admission's, not here.

mod decode;
mod error;
mod metadata;

use serde_json::Value;

pub use decode::{types, unknown_fields};
pub use error::{Cause, FieldError};

use crate::resource::Resource;

/// What is wrong with a new object; empty when nothing is.
pub fn create(resource: &Resource, object: &Value) -> Vec<FieldError> {
    metadata::check(resource, object)
}

/// What is wrong with a change of an object; empty when nothing is.
pub fn update(resource: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = metadata::check_update(new, old);
    errors.extend(metadata::check(resource, new));
    errors
}
