//! Label and field selectors of a request, matched against the cache's index without decoding.

use capstan_kinds::resource::Resource;
use capstan_kinds::selector::{FieldSelector, LabelSelector};
use capstan_kinds::status::Status;

use crate::refusal::Refusal;
use crate::registry::Entry;
use crate::request::Query;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Filter {
    pub(crate) fn of(resource: &Resource, query: &Query) -> Result<Self, Refusal> {
        let bad = |error: capstan_kinds::Error| Refusal::from(Status::bad_request(error.to_string()));
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(bad)?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(bad)?;
        let unknown = |path: &str| !capstan_kinds::fields::is_selectable(resource, path);
        if let Some((path, ..)) = fields.requirements.iter().find(|(path, ..)| unknown(path)) {
            return Err(Status::bad_request(unsupported(resource, path)).into());
        }
        Ok(Self { labels, fields })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(crate) fn matches(&self, entry: &Entry) -> bool {
        self.labels.matches(|key| entry.index.label(key))
            && self.fields.matches(|path| entry.index.field(path))
    }

    /// The one name that can match, if the selector names it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }
}

/// Kinds with fields of their own that say so without more.
const PLAIN: [(&str, &str); 9] = [
    ("", "Pod"),
    ("", "Node"),
    ("", "ReplicationController"),
    ("", "Event"),
    ("", "Namespace"),
    ("", "Secret"),
    ("", "Service"),
    ("events.k8s.io", "Event"),
    ("certificates.k8s.io", "CertificateSigningRequest"),
];

/// The original has a sentence for each kind that has fields of its own, and one for all others.
fn unsupported(resource: &Resource, path: &str) -> String {
    let kind = (resource.group.as_str(), resource.kind.as_str());
    match kind {
        _ if resource.custom.is_some() || PLAIN.contains(&kind) => {
            format!("field label not supported: {path}")
        }
        ("batch", "Job") => format!("field label {path:?} not supported for Job"),
        ("resource.k8s.io", "ResourceSlice") => {
            let version = &resource.version;
            format!("field label not supported for resource.k8s.io/{version}, Kind=ResourceSlice: {path}")
        }
        _ => {
            format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    }
}
