//! Admission policies (`capstan:admission`): whether an object may be written, and what is set on it.
//!
//! ```
//! use capstan_sdk::{admission::{Object, Request, Validate, Verdict, allow, deny}, Fault, NoConfig, Plugin};
//!
//! struct NoBareTags;
//! impl Plugin for NoBareTags {
//!     type Config = NoConfig;
//!     const CONFIG_SCHEMA: &'static str = NoConfig::SCHEMA;
//!     fn new(_: NoConfig) -> Result<Self, Fault> { Ok(Self) }
//! }
//! impl Validate for NoBareTags {
//!     fn validate(&self, _: &Request, object: Option<Object<'_>>, _: Option<Object<'_>>) -> Result<Verdict, Fault> {
//!         let image = object.and_then(|object| object.text("/spec/containers/0/image")).unwrap_or_default();
//!         Ok(if image.contains(':') { allow() } else { deny("spec.containers[0].image", format!("{image:?} has no tag")) })
//!     }
//! }
//! capstan_sdk::export!(admission: validate => NoBareTags);
//! ```
//!
//! The object stays with the host and is read by path, so that a policy pays for what it reads. Each call
//! may run in a fresh instance: a policy keeps nothing between calls.

mod part;

use crate::{
    Fault, Plugin,
    plugin::{Component, Seated},
    wit::{
        admission_mutate::exports::capstan::admission::mutate,
        admission_validate::exports::capstan::admission::validate, imports::capstan::admission::documents,
    },
};
use serde::de::DeserializeOwned;

pub use part::{CONTAINER_LISTS, Part};

pub use crate::wit::types::capstan::admission::types::{Denial, Edit, Operation, Patch, Request, Verdict};

/// A document that is read by JSON Pointer. The host's is one; natively, so is any JSON value.
pub trait Document {
    /// The value as JSON text; the empty path gives the whole document.
    fn json(&self, path: &str) -> Option<String>;
    /// A string.
    fn text(&self, path: &str) -> Option<String>;
    /// A whole number.
    fn integer(&self, path: &str) -> Option<i64>;
    /// A boolean.
    fn boolean(&self, path: &str) -> Option<bool>;
    /// Whether there is a value.
    fn exists(&self, path: &str) -> bool;
    /// How many items an array, or members an object, has.
    fn length(&self, path: &str) -> Option<u32>;
    /// The names of an object's members, sorted.
    fn keys(&self, path: &str) -> Option<Vec<String>>;
}

impl Document for documents::Document {
    fn json(&self, path: &str) -> Option<String> {
        self.json(path)
    }
    fn text(&self, path: &str) -> Option<String> {
        self.text(path)
    }
    fn integer(&self, path: &str) -> Option<i64> {
        self.integer(path)
    }
    fn boolean(&self, path: &str) -> Option<bool> {
        self.boolean(path)
    }
    fn exists(&self, path: &str) -> bool {
        self.exists(path)
    }
    fn length(&self, path: &str) -> Option<u32> {
        self.length(path)
    }
    fn keys(&self, path: &str) -> Option<Vec<String>> {
        self.keys(path)
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Document for serde_json::Value {
    fn json(&self, path: &str) -> Option<String> {
        self.pointer(path).map(Self::to_string)
    }
    fn text(&self, path: &str) -> Option<String> {
        self.pointer(path)?.as_str().map(str::to_owned)
    }
    fn integer(&self, path: &str) -> Option<i64> {
        self.pointer(path)?.as_i64()
    }
    fn boolean(&self, path: &str) -> Option<bool> {
        self.pointer(path)?.as_bool()
    }
    fn exists(&self, path: &str) -> bool {
        self.pointer(path).is_some()
    }
    fn length(&self, path: &str) -> Option<u32> {
        let value = self.pointer(path)?;
        let length = value
            .as_array()
            .map(Vec::len)
            .or_else(|| value.as_object().map(serde_json::Map::len))?;
        u32::try_from(length).ok()
    }
    fn keys(&self, path: &str) -> Option<Vec<String>> {
        let mut keys: Vec<String> = self.pointer(path)?.as_object()?.keys().cloned().collect();
        keys.sort();
        Some(keys)
    }
}

/// An object of the request. Paths are JSON Pointers such as `/spec/containers/0/image`; see [`escape`]
/// for keys with `/` in them.
#[derive(Clone, Copy)]
pub struct Object<'a>(&'a dyn Document);

impl<'a> Object<'a> {
    /// The object that a document holds.
    pub fn new(document: &'a dyn Document) -> Self {
        Self(document)
    }

    /// A part of the object as a type of the policy's own; none where the path leads nowhere. Reading a
    /// part at once is cheaper than asking for more than a few of its fields.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Fault> {
        let Some(json) = self.0.json(path) else {
            return Ok(None);
        };
        crate::json::from_str(&json)
            .map(Some)
            .map_err(|e| Fault::permanent(format!("cannot read {path}: {e}")))
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<String> {
        self.text(&format!("/metadata/labels/{}", escape(key)))
    }
}

impl<'a> std::ops::Deref for Object<'a> {
    type Target = dyn Document + 'a;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

/// A key as a segment of a JSON Pointer.
pub fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Where a kind keeps its pod's spec: its own for a Pod, its template's for a workload.
pub fn pod_spec_path(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some("/spec"),
        "PodTemplate" => Some("/template/spec"),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicationController" => {
            Some("/spec/template/spec")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template/spec"),
        _ => None,
    }
}

/// A JSON Pointer in Kubernetes' notation: `/spec/containers/0/image` is `spec.containers[0].image`.
pub fn field(path: &str) -> String {
    let mut field = String::new();
    for segment in path.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
            || segment.contains(['.', '/'])
        {
            field.push('[');
            field.push_str(&segment);
            field.push(']');
        } else {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(&segment);
        }
    }
    field
}

/// Allows without a warning.
pub fn allow() -> Verdict {
    Verdict::Allow(Vec::new())
}

/// Denies as forbidden (403), naming the field at fault in Kubernetes' notation.
pub fn deny(field: impl Into<String>, message: impl Into<String>) -> Verdict {
    Verdict::Deny(Denial {
        code: 403,
        message: message.into(),
        field: Some(field.into()),
    })
}

/// Sets a value where there may or may not be one.
pub fn set(path: impl Into<String>, value: &impl serde::Serialize) -> Result<Patch, Fault> {
    let value =
        serde_json::to_string(value).map_err(|e| Fault::permanent(format!("cannot write a patch: {e}")))?;
    Ok(Patch::Add(Edit {
        path: path.into(),
        value,
    }))
}

/// A policy that allows or denies.
pub trait Validate: Plugin {
    /// The verdict. `object` is absent on delete, `old` on create.
    fn validate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Verdict, Fault>;
}

/// A policy that sets fields. It may be asked again about its own result, and must then change nothing.
pub trait Mutate: Plugin {
    /// What to change.
    fn mutate(
        &self,
        request: &Request,
        object: Option<Object<'_>>,
        old: Option<Object<'_>>,
    ) -> Result<Vec<Patch>, Fault>;
}

/// A policy in its seat.
pub struct Runner<P>(P);

impl<P: Plugin> Seated for Runner<P> {
    type Plugin = P;

    fn seat(policy: P) -> Self {
        Self(policy)
    }

    fn plugin(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<C, P: Validate> validate::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn validate(
        request: Request,
        object: Option<&documents::Document>,
        old: Option<&documents::Document>,
    ) -> Result<Verdict, Fault> {
        C::call(|runner| runner.0.validate(&request, lend(object), lend(old)))
    }
}

impl<C, P: Mutate> mutate::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn mutate(
        request: Request,
        object: Option<&documents::Document>,
        old: Option<&documents::Document>,
    ) -> Result<Vec<Patch>, Fault> {
        C::call(|runner| runner.0.mutate(&request, lend(object), lend(old)))
    }
}

fn lend(document: Option<&documents::Document>) -> Option<Object<'_>> {
    document.map(|document| Object(document))
}

/// A request for tests: the create of a kind in a namespace by a user without privileges.
#[cfg(not(target_arch = "wasm32"))]
pub fn test_request(kind: &str, namespace: &str) -> Request {
    Request {
        uid: "1".into(),
        operation: Operation::Create,
        group: String::new(),
        version: "v1".into(),
        resource: format!("{}s", kind.to_lowercase()),
        subresource: String::new(),
        kind: kind.into(),
        namespace: namespace.into(),
        namespace_labels: Vec::new(),
        name: "a".into(),
        user: "user".into(),
        groups: Vec::new(),
        dry_run: false,
        now_ms: 0,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn pointers_become_the_notation_that_users_know() {
        for (path, field) in [
            ("/spec/containers/0/image", "spec.containers[0].image"),
            (
                "/metadata/labels/app.kubernetes.io~1name",
                "metadata.labels[app.kubernetes.io/name]",
            ),
            ("/metadata/labels/app", "metadata.labels.app"),
        ] {
            assert_eq!(super::field(path), field);
        }
    }
}
