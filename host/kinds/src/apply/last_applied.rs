//! The annotation of client-side apply, for objects that go over to server-side apply and perhaps back.
//! Invariants: only the manager `kubectl` is served; whatever is wrong with the annotation, nothing fails.

use serde_json::Value;

use super::change::Change;
use super::fields::{fields_of, fits};
use super::set::Set;
use super::typed::Typed;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Bytes that all annotations may have together; the annotation is dropped where it would not fit.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

/// The fields that client-side apply set last and nobody has changed since.
pub(super) fn fields(of: Typed<'_>, live: &Value, api_version: &str) -> Option<Set> {
    let text = live["metadata"]["annotations"][ANNOTATION].as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"] != api_version || fits(of, &last).is_err() {
        return None;
    }
    let change = Change::between(of, &last, live);
    let own = fields_of(of, &last);
    Some(own.difference(&change.said()).difference(&change.removed))
}

/// Keeps the annotation true, where there is one.
pub(super) fn refresh(object: &mut Value, config: &Value) {
    let present = object["metadata"]["annotations"][ANNOTATION]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    if !present {
        return;
    }
    let mut config = config.clone();
    if let Some(annotations) = config["metadata"]["annotations"].as_object_mut() {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = object["metadata"]["annotations"].as_object_mut() else {
        return;
    };
    annotations.insert(ANNOTATION.into(), Value::from(format!("{config}\n")));
    let bytes: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}
