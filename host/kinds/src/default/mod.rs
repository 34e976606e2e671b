//! What a stored object says though its author did not: the defaults of each kind.
//! Invariants: idempotent; never overrides what was given; after it, quantities are canonical and nulls and
//! unknown fields are gone, as after the original's decoding. The API server applies it on every write and
//! when it reads objects that an older server stored. Defaults that need other objects are admission's.

mod normalize;

use serde_json::Value;

use crate::resource::Resource;
use crate::schema;

/// Brings an object into the form in which it is stored.
pub fn apply(resource: &Resource, object: &mut Value) {
    if let Some(schema) = schema::of(&resource.api_version(), &resource.kind) {
        normalize::walk(schema, object);
    }
}
