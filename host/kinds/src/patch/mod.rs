//! The three kinds of patch that a client may send: JSON patch, merge patch, strategic merge patch.
//! Invariants: a patch that fails leaves the document as it was; a merge patch cannot fail. The API server
//! calls them on the write path, with the schema of the kind for strategic patches. Server-side apply is
//! deliberately not here.

mod strategic;

use serde_json::Value;

use crate::schema::Schema;
use crate::status::{Details, Status, StatusCause};

/// Operations that a JSON patch may have, as the original allows.
pub const OPERATIONS_MAX: usize = 10_000;

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch itself makes no sense: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the document, a failed `test` included: 422.
    #[error("{0}")]
    Unfit(String),
    /// Too many operations: 413.
    #[error("the allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {0}")]
    TooManyOperations(usize),
}

impl PatchError {
    /// What the client is told.
    pub fn to_status(&self) -> Status {
        match self {
            PatchError::Malformed(message) => Status::bad_request(message.clone()),
            PatchError::TooManyOperations(_) => {
                Status::failure(413, "RequestEntityTooLarge", self.to_string())
            }
            PatchError::Unfit(message) => {
                let text = "the server rejected our request due to an error in our request";
                let cause = StatusCause {
                    reason: "UnexpectedServerResponse".to_string(),
                    message: message.clone(),
                    ..StatusCause::default()
                };
                Status::failure(422, "Invalid", format!("{text}: {message}"))
                    .with_details(Details::default())
                    .with_causes(vec![cause])
            }
        }
    }
}

/// Applies a JSON patch (RFC 6902): an array of operations, all or none.
pub fn json(document: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let count = patch.as_array().map(Vec::len).ok_or_else(|| {
        PatchError::Malformed("error decoding patch: a JSON patch is an array of operations".to_string())
    })?;
    if count > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations(count));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    let mut patched = document.clone();
    for (index, operation) in patch.iter().enumerate() {
        if finds_nothing(&patched, operation) {
            continue;
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|error| {
            let path = error.path.as_str();
            PatchError::Unfit(match error.kind {
                json_patch::PatchErrorKind::TestFailed => format!("testing value {path} failed: test failed"),
                kind => format!("operation {index} does not apply at {path:?}: {kind}"),
            })
        })?;
    }
    *document = patched;
    Ok(())
}

/// A test for null where the object has no such member holds; operators ask so for the first finalizer.
fn finds_nothing(document: &Value, operation: &json_patch::PatchOperation) -> bool {
    let json_patch::PatchOperation::Test(test) = operation else {
        return false;
    };
    let path = test.path.as_str();
    let Some((parent, _)) = path.rsplit_once('/') else {
        return false;
    };
    test.value.is_null()
        && document.pointer(path).is_none()
        && document.pointer(parent).is_some_and(Value::is_object)
}

/// Applies a merge patch (RFC 7386): objects merge, null removes, all else replaces.
pub fn merge(document: &mut Value, patch: &Value) {
    json_patch::merge(document, patch);
}

/// Applies a strategic merge patch: as a merge patch, but lists merge by the schema's keys and the patch may
/// carry directives. Without a schema it is a merge patch that understands directives on objects.
pub fn strategic(
    schema: Option<&'static Schema>,
    document: &mut Value,
    patch: &Value,
) -> Result<(), PatchError> {
    let patched = strategic::apply(schema, document, patch)?;
    *document = patched;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(patch: Value, expected: Result<Value, u16>) {
        let before = json!({"a": {"b": 1}, "list": [1, 2]});
        let mut document = before.clone();
        match (super::json(&mut document, &patch), expected) {
            (Ok(()), Ok(expected)) => assert_eq!(document, expected),
            (Err(error), Err(code)) => {
                assert_eq!(error.to_status().code, code, "{error}");
                assert_eq!(document, before, "a failed patch changes nothing");
            }
            (got, expected) => panic!("{patch}: {got:?}, not {expected:?}"),
        }
    }

    #[test]
    fn json_patches() {
        check(
            json!([{"op": "replace", "path": "/a/b", "value": 2}]),
            Ok(json!({"a": {"b": 2}, "list": [1, 2]})),
        );
        check(
            json!([{"op": "add", "path": "/list/-", "value": 3}]),
            Ok(json!({"a": {"b": 1}, "list": [1, 2, 3]})),
        );
        check(
            json!([{"op": "remove", "path": "/a"}, {"op": "test", "path": "/list/0", "value": 9}]),
            Err(422),
        );
        check(json!([{"op": "remove", "path": "/none"}]), Err(422));
        check(
            json!([{"op": "test", "path": "/c", "value": null}, {"op": "add", "path": "/c", "value": 1}]),
            Ok(json!({"a": {"b": 1}, "list": [1, 2], "c": 1})),
        );
        check(json!([{"op": "test", "path": "/a", "value": null}]), Err(422));
        check(
            json!([{"op": "test", "path": "/none/c", "value": null}]),
            Err(422),
        );
        check(json!([{"op": "explode", "path": "/a"}]), Err(400));
        check(json!({"a": 1}), Err(400));
    }
}
