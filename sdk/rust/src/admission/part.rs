//! What a policy judges of a request: the object, the pod's spec in it, or one of its containers.
//!
//! Every part knows its place, so that a denial names the field, and what stood there before, so that a policy can leave
//! alone what was there before it.

use super::{Object, Request, Verdict, deny, field, pod_spec_path};
use crate::Fault;
use serde::de::DeserializeOwned;

/// Where a pod's spec lists containers, in the order in which they start.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A part of the object that a request writes.
#[derive(Clone)]
pub struct Part<'a> {
    object: Object<'a>,
    old: Option<Object<'a>>,
    path: String,
}

impl<'a> Part<'a> {
    /// The whole object; none on delete and in namespaces that are exempt.
    pub fn whole(
        request: &Request,
        object: Option<Object<'a>>,
        old: Option<Object<'a>>,
        exempt_namespaces: &[String],
    ) -> Option<Self> {
        let object = object.filter(|_| !exempt_namespaces.contains(&request.namespace))?;
        let path = String::new();
        Some(Self { object, old, path })
    }

    /// The spec of the pod, or of the pods that a workload makes; none where the kind has neither.
    pub fn pod_spec(
        request: &Request,
        object: Option<Object<'a>>,
        old: Option<Object<'a>>,
        exempt_namespaces: &[String],
    ) -> Option<Self> {
        let path = pod_spec_path(&request.kind)?.to_owned();
        let whole = Self::whole(request, object, old, exempt_namespaces)?;
        Some(Self { path, ..whole })
    }

    /// All containers of a pod's spec.
    pub fn containers(&self) -> impl Iterator<Item = Self> {
        self.containers_of(&CONTAINER_LISTS)
    }

    /// The containers of some of the lists.
    pub fn containers_of(&self, lists: &[&str]) -> impl Iterator<Item = Self> {
        lists.iter().flat_map(move |list| {
            let list = self.path(&format!("/{list}"));
            let count = self.object.length(&list).unwrap_or(0);
            (0..count).map(move |at| Self {
                path: format!("{list}/{at}"),
                ..self.clone()
            })
        })
    }

    fn path(&self, below: &str) -> String {
        format!("{}{below}", self.path)
    }

    /// What is below it, as a type of the policy's own.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read<T: DeserializeOwned>(&self, below: &str) -> Result<Option<T>, Fault> {
        self.object.read(&self.path(below))
    }

    /// What stood there before the request.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read_old<T: DeserializeOwned>(&self, below: &str) -> Result<Option<T>, Fault> {
        let old = self.old.map(|old| old.read(&self.path(below))).transpose()?;
        Ok(old.flatten())
    }

    /// A string below it.
    pub fn text(&self, below: &str) -> Option<String> {
        self.object.text(&self.path(below))
    }

    /// A boolean below it.
    pub fn boolean(&self, below: &str) -> Option<bool> {
        self.object.boolean(&self.path(below))
    }

    /// A whole number below it, and the one that stood there before.
    pub fn integers(&self, below: &str) -> (Option<i64>, Option<i64>) {
        let path = self.path(below);
        let before = self.old.and_then(|old| old.integer(&path));
        (self.object.integer(&path), before)
    }

    /// Whether it was there before the request.
    pub fn is_old(&self) -> bool {
        self.old.is_some_and(|old| old.exists(&self.path))
    }

    /// Whether it was there before, and what is below it is as it was: what a policy found may stay.
    pub fn is_unchanged(&self, below: &str) -> bool {
        let path = self.path(below);
        self.is_old()
            && self
                .old
                .is_some_and(|old| old.json(&path) == self.object.json(&path))
    }

    /// Denies what is below it; the message begins with the field.
    pub fn deny(&self, below: &str, objection: impl std::fmt::Display) -> Verdict {
        let field = field(&self.path(below));
        deny(field.clone(), format!("{field}: {objection}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::test_request;
    use serde_json::json;

    #[test]
    fn containers_know_their_place_and_their_past() {
        let template = |image: &str| {
            let spec =
                json!({"initContainers": [{"image": "a"}], "containers": [{"image": "b"}, {"image": image}]});
            json!({"spec": {"template": {"spec": spec}}})
        };
        let (object, old) = (template("c"), template("old"));
        let request = test_request("Deployment", "default");
        let of = |exempt: &[String]| {
            Part::pod_spec(
                &request,
                Some(Object::new(&object)),
                Some(Object::new(&old)),
                exempt,
            )
        };
        assert!(of(&["default".into()]).is_none());
        let spec = of(&[]).expect("a Deployment has a pod's spec");
        let changed: Vec<Part<'_>> = spec
            .containers()
            .filter(|container| !container.is_unchanged("/image"))
            .collect();
        let [container] = changed.as_slice() else {
            panic!("one image changed, not {}", changed.len());
        };
        assert_eq!(container.text("/image").as_deref(), Some("c"));
        let Verdict::Deny(denial) = container.deny("/image", "no") else {
            panic!("a denial denies");
        };
        assert_eq!(denial.message, "spec.template.spec.containers[1].image: no");
        assert_eq!(spec.containers_of(&["initContainers"]).count(), 1);
        let service = test_request("Service", "default");
        assert!(Part::pod_spec(&service, Some(Object::new(&object)), None, &[]).is_none());
    }
}
