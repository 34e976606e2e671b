//! A request as rules and expressions see it: what is done to what, by whom.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// See the module. Without the objects, which are in the version of whoever asks.
#[derive(Debug, Clone)]
pub struct Request {
    /// What was asked for.
    pub resource: Arc<Resource>,
    /// The same objects under other names or versions.
    pub equivalent: Vec<Arc<Resource>>,
    /// Of the object that is sent, where that is of another kind than the resource: group, version, kind.
    pub kind: Option<(String, String, String)>,
    /// Empty for the resource itself.
    pub subresource: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'static str,
    /// A namespace's own name for itself; empty for what stands in none.
    pub namespace: String,
    /// May be empty for what is to be created.
    pub name: String,
    /// `authentication.k8s.io/v1` UserInfo.
    pub user: Value,
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    /// CreateOptions, UpdateOptions, PatchOptions or DeleteOptions; null where there are none.
    pub options: Value,
}

impl Request {
    /// Whether it is about a namespace itself.
    pub fn is_namespace(&self) -> bool {
        self.resource.is("", "Namespace") && self.subresource.is_empty()
    }

    /// Group, version and kind of the object where it is handed over as one of `resource`.
    pub fn kind_in<'a>(&'a self, resource: &'a Resource) -> (&'a str, &'a str, &'a str) {
        if let Some((group, version, kind)) = &self.kind {
            return (group, version, kind);
        }
        (&resource.group, &resource.version, &resource.kind)
    }

    /// `admission.k8s.io/v1` AdmissionRequest without its objects and uid, as one of `resource`.
    pub fn to_value(&self, resource: &Resource) -> Value {
        let kind = |of: &Resource| {
            let (group, version, kind) = self.kind_in(of);
            json!({ "group": group, "version": version, "kind": kind })
        };
        let place =
            |of: &Resource| json!({ "group": of.group, "version": of.version, "resource": of.plural });
        let mut request = Map::new();
        request.insert("kind".into(), kind(resource));
        request.insert("resource".into(), place(resource));
        request.insert("requestKind".into(), kind(&self.resource));
        request.insert("requestResource".into(), place(&self.resource));
        let texts = [
            ("subResource", &self.subresource),
            ("requestSubResource", &self.subresource),
            ("name", &self.name),
            ("namespace", &self.namespace),
        ];
        for (field, text) in texts {
            if !text.is_empty() {
                request.insert(field.into(), json!(text));
            }
        }
        request.insert("operation".into(), json!(self.operation));
        request.insert("userInfo".into(), self.user.clone());
        request.insert("dryRun".into(), json!(self.dry_run));
        request.insert("options".into(), self.options.clone());
        Value::Object(request)
    }
}

/// Kinds that no webhook and no policy ever sees, so that a bad one can always be taken away.
pub fn exempt(resource: &Resource) -> bool {
    resource.group == "admissionregistration.k8s.io"
        && matches!(
            resource.kind.as_str(),
            "ValidatingWebhookConfiguration"
                | "MutatingWebhookConfiguration"
                | "ValidatingAdmissionPolicy"
                | "ValidatingAdmissionPolicyBinding"
                | "MutatingAdmissionPolicy"
                | "MutatingAdmissionPolicyBinding"
        )
}
