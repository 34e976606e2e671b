//! Custom kinds in OpenAPI: a definition of the kind and one of its list.
//! Invariants: the kind's own schema, with `apiVersion`, `kind` and `metadata` as every kind has them; for v2
//! without what that edition cannot say, so that its readers (kubectl's client-side checks) refuse nothing
//! that the server takes. The API server publishes them beside the built-in definitions.

use serde_json::{Map, Value, json};

use crate::resource::Resource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should \
                           convert recognized schemas to the latest internal value, and may reject unrecognized values. \
                           More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this \
                    from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: \
                    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: \
                        https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// `com.example.stable.v1.CronTab`.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// The definitions of the kind and of its list, with references that begin with `prefix`; `schema` is the
/// version's text; `swagger` asks for the second edition.
pub fn definitions(resource: &Resource, schema: &Value, prefix: &str, swagger: bool) -> [(String, Value); 2] {
    let (group, version) = (resource.group.as_str(), resource.version.as_str());
    let kind = |kind: &str| json!([{ "group": group, "version": version, "kind": kind }]);
    let reference = |name: &str| json!({ "$ref": format!("{prefix}{META}{name}") });
    let described = |name: &str, text: &str| {
        if swagger {
            json!({ "$ref": format!("{prefix}{META}{name}"), "description": text })
        } else {
            json!({ "allOf": [reference(name)], "description": text })
        }
    };
    let mut own = schema.clone();
    if !own.is_object() {
        own = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    }
    if swagger {
        simplify(&mut own);
    }
    with_meta(&mut own, true, &described);
    own["x-kubernetes-group-version-kind"] = kind(&resource.kind);
    let name = definition_name(group, version, &resource.kind);
    let list = json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": { "type": "string", "description": API_VERSION },
            "kind": { "type": "string", "description": KIND },
            "metadata": described("ListMeta", "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds"),
            "items": {
                "type": "array",
                "description": format!("List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md", resource.plural),
                "items": { "$ref": format!("{prefix}{name}") },
            },
        },
        "x-kubernetes-group-version-kind": kind(&resource.list_kind),
    });
    let list_name = definition_name(group, version, &resource.list_kind);
    [(name, own), (list_name, list)]
}

/// Gives a resource, and those in it, the fields that every resource has.
fn with_meta(schema: &mut Value, root: bool, described: &dyn Fn(&str, &str) -> Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    let embedded = fields.get("x-kubernetes-embedded-resource") == Some(&json!(true));
    for name in ["properties", "items", "additionalProperties"] {
        match (name, fields.get_mut(name)) {
            ("properties", Some(Value::Object(all))) => {
                all.values_mut()
                    .for_each(|field| with_meta(field, false, described));
            }
            (_, Some(one)) => with_meta(one, false, described),
            (_, None) => {}
        }
    }
    if !root && !embedded {
        return;
    }
    let properties = fields.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("metadata".into(), described("ObjectMeta", METADATA));
        for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
            properties.insert(name.into(), json!({ "type": "string", "description": text }));
        }
    }
}

/// What the second edition has no words for goes; what would then say too much says less.
fn simplify(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else {
        return;
    };
    for name in ["oneOf", "anyOf", "not", "nullable", "x-kubernetes-validations"] {
        let had = fields.remove(name);
        if name == "nullable" && had == Some(json!(true)) {
            open(fields);
        }
    }
    let free = |name: &str, fields: &Map<String, Value>| fields.get(name) == Some(&json!(true));
    if free("x-kubernetes-preserve-unknown-fields", fields) {
        open(fields);
    }
    if free("x-kubernetes-int-or-string", fields) {
        fields.remove("type");
    }
    for name in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(name) {
            simplify(inner);
        }
    }
    if let Some(Value::Object(all)) = fields.get_mut("properties") {
        all.values_mut().for_each(simplify);
    }
    if let Some(Value::Array(all)) = fields.get_mut("allOf") {
        all.iter_mut().for_each(simplify);
    }
}

/// A schema that takes anything.
fn open(fields: &mut Map<String, Value>) {
    for name in ["type", "items", "properties", "additionalProperties"] {
        fields.remove(name);
    }
}
