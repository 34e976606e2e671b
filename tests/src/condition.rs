//! What an object says of itself.

use serde_json::Value;

/// The condition of that type in an object's status; null where it has none.
pub fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|one| one["type"] == kind)
        .unwrap_or_default()
}
