//! One stored object as the watch cache holds it: its JSON bytes, ready to send, and a small index.
//!
//! In the store an object is canonical JSON whose first members are `kind`, `apiVersion`, `metadata`, and
//! which has no resourceVersion. Reading splices the revision in as the first member of the metadata:
//! no parsing, one copy. Values that another writer stored in another order are brought into this form, and
//! custom objects into that of the version in which their kind is stored now, unless a webhook converts them.

use bytes::Bytes;
use capstan_kinds::{convert, fields, resource::Resource};
use capstan_store::Revision;
use serde_json::{Map, Value};

/// `"metadata":{` stands within so many bytes of the start in the canonical form.
const HEAD_BYTES_MAX: usize = 1024;
const METADATA: &[u8] = b"\"metadata\":{";

/// An object at one revision.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Canonical JSON with the resourceVersion.
    pub bytes: Bytes,
    /// Its resourceVersion.
    pub revision: Revision,
    pub index: Index,
}

/// What selectors, owners' lookups and name checks need without decoding.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub name: Box<str>,
    /// Empty for cluster-scoped objects.
    pub namespace: Box<str>,
    pub uid: Box<str>,
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The kind's selectable fields but for name and namespace, and their values.
    pub fields: (fields::Paths, Box<[Box<str>]>),
}

impl Index {
    fn of(resource: Option<&Resource>, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().into();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        Self {
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            labels: labels
                .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into()))
                .collect(),
            fields: resource.map_or_else(Default::default, |resource| fields::index(resource, object)),
        }
    }

    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(k, _)| &**k == key)
            .map(|(_, value)| &**value)
    }

    pub(crate) fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => {
                let (paths, values) = &self.fields;
                values.get(paths.position(path)?).map(|value| &**value)
            }
        }
    }
}

impl Entry {
    /// Reads a stored value; none where it is not a JSON object with metadata.
    pub(crate) fn read(resource: Option<&Resource>, stored: &[u8], revision: Revision) -> Option<Self> {
        let mut object: Value = serde_json::from_slice(stored).ok()?;
        let mut changed = false;
        if let Some((resource, custom)) = resource.and_then(|one| Some((one, one.custom.as_ref()?))) {
            if object["apiVersion"] == resource.api_version() {
                changed = custom.settle(&mut object);
            } else if custom.conversion.is_none() {
                object = convert::to_version(resource, object);
                changed = true;
            }
        }
        let index = Index::of(resource, &object);
        let bytes = match splice(stored, revision).filter(|_| !changed) {
            Some(bytes) => bytes,
            None => splice(&canonical(object)?, revision)?,
        };
        Some(Self {
            bytes,
            revision,
            index,
        })
    }

    /// The same state under another resourceVersion (a deletion's, or of leaving a selector).
    pub(crate) fn at(&self, revision: Revision) -> Option<Self> {
        let start = find(&self.bytes)? + "\"resourceVersion\":\"".len();
        let old = self.revision.to_string();
        let mut bytes = Vec::with_capacity(self.bytes.len() + 4);
        bytes.extend_from_slice(&self.bytes[..start]);
        bytes.extend_from_slice(revision.to_string().as_bytes());
        bytes.extend_from_slice(&self.bytes[start + old.len()..]);
        Some(Self {
            bytes: bytes.into(),
            revision,
            index: self.index.clone(),
        })
    }

    pub(crate) fn decode(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }
}

/// The stored form of an object; none where it has no metadata.
pub(crate) fn canonical(object: Value) -> Option<Vec<u8>> {
    let Value::Object(mut object) = object else {
        return None;
    };
    let Some(Value::Object(mut metadata)) = object.remove("metadata") else {
        return None;
    };
    metadata.remove("resourceVersion");
    metadata.remove("selfLink");
    if metadata.is_empty() {
        return None;
    }
    let kind = object.remove("kind").unwrap_or_default();
    let api_version = object.remove("apiVersion").unwrap_or_default();
    let mut bytes = Vec::with_capacity(1024);
    bytes.extend_from_slice(b"{\"kind\":");
    serde_json::to_writer(&mut bytes, &kind).ok()?;
    bytes.extend_from_slice(b",\"apiVersion\":");
    serde_json::to_writer(&mut bytes, &api_version).ok()?;
    bytes.extend_from_slice(b",\"metadata\":");
    serde_json::to_writer(&mut bytes, &metadata).ok()?;
    append_members(&mut bytes, &object)?;
    Some(bytes)
}

fn append_members(bytes: &mut Vec<u8>, rest: &Map<String, Value>) -> Option<()> {
    if rest.is_empty() {
        bytes.push(b'}');
        return Some(());
    }
    let start = bytes.len();
    serde_json::to_writer(&mut *bytes, rest).ok()?;
    bytes[start] = b',';
    Some(())
}

/// Inserts the resourceVersion into the canonical form.
pub(crate) fn splice(stored: &[u8], revision: Revision) -> Option<Bytes> {
    if !stored.starts_with(b"{\"kind\":") {
        return None;
    }
    let at = find(stored)?;
    let end = if stored.get(at) == Some(&b'}') {
        "\""
    } else {
        "\","
    };
    let member = format!("\"resourceVersion\":\"{revision}{end}");
    // Room to spare would stay with the object, and cost it one more allocation.
    let mut bytes = Vec::with_capacity(stored.len() + member.len());
    bytes.extend_from_slice(&stored[..at]);
    bytes.extend_from_slice(member.as_bytes());
    bytes.extend_from_slice(&stored[at..]);
    Some(bytes.into())
}

/// Where the metadata's first member starts.
fn find(bytes: &[u8]) -> Option<usize> {
    let head = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    head.windows(METADATA.len())
        .position(|window| window == METADATA)
        .map(|at| at + METADATA.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_revision_is_spliced_in_and_exchanged_without_parsing() {
        let object = json!({
            "spec": {"metadata": {"x": 1}}, "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "resourceVersion": "3", "labels": {"k": "v"}}
        });
        let stored = canonical(object.clone()).unwrap();
        assert!(stored.starts_with(b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":{"));
        let entry = Entry::read(None, &stored, 17).unwrap();
        assert_eq!(entry.decode()["metadata"]["resourceVersion"], "17");
        assert_eq!(entry.index.label("k"), Some("v"));
        let later = entry.at(1234).unwrap();
        let mut expected = object;
        expected["metadata"]["resourceVersion"] = json!("1234");
        assert_eq!(later.decode(), expected);
    }

    #[test]
    fn a_foreign_order_is_brought_into_form() {
        let stored = br#"{"metadata":{"name":"a"},"kind":"X","apiVersion":"g/v1"}"#;
        let entry = Entry::read(None, stored, 5).unwrap();
        assert_eq!(entry.decode()["metadata"]["resourceVersion"], "5");
        assert!(Entry::read(None, b"k8s\0proto", 5).is_none());
    }
}
