//! The paths of a resource: each operation with its kind, its media types and its query parameters.

use capstan_kinds::custom;
use capstan_kinds::resource::Resource;
use serde_json::{Map, Value, json};

use super::{Edition, definition_of};
use crate::negotiate::JSON;

const PATCH_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    crate::write::APPLY_PATCH,
    "application/strategic-merge-patch+json",
];

/// What a patch of the resource may be.
fn patch_types(resource: &Resource) -> &'static [&'static str] {
    if resource.merges_strategically() {
        &PATCH_TYPES
    } else {
        &PATCH_TYPES[..3]
    }
}

pub(super) fn add_paths(paths: &mut Map<String, Value>, resource: &Resource, edition: Edition) {
    let root = match resource.group.as_str() {
        "" => format!("/api/{}", resource.version),
        group => format!("/apis/{group}/{}", resource.version),
    };
    let collection = match resource.namespaced {
        true => format!("{root}/namespaces/{{namespace}}/{}", resource.plural),
        false => format!("{root}/{}", resource.plural),
    };
    let own = (
        resource.group.as_str(),
        resource.version.as_str(),
        resource.kind.as_str(),
    );
    let mut add = |path: String, verbs: &[(&str, &str)], served: &[String], kind: (&str, &str, &str)| {
        let mut item = Map::new();
        for (verb, method) in verbs
            .iter()
            .filter(|(verb, _)| served.iter().any(|one| one == verb))
        {
            item.insert((*method).to_owned(), operation(verb, kind, resource, edition));
        }
        if item.is_empty() {
            return;
        }
        let names = ["name", "namespace"]
            .into_iter()
            .filter(|name| path.contains(&format!("{{{name}}}")));
        let parameters: Vec<Value> = names
            .map(|name| parameter(name, "path", "string", edition))
            .collect();
        if !parameters.is_empty() {
            item.insert("parameters".into(), json!(parameters));
        }
        paths.insert(path, Value::Object(item));
    };
    let on_collection = [
        ("list", "get"),
        ("create", "post"),
        ("deletecollection", "delete"),
    ];
    let on_object = [
        ("get", "get"),
        ("update", "put"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    add(collection.clone(), &on_collection, &resource.verbs, own);
    if resource.namespaced {
        add(
            format!("{root}/{}", resource.plural),
            &[("list", "get")],
            &resource.verbs,
            own,
        );
    }
    add(format!("{collection}/{{name}}"), &on_object, &resource.verbs, own);
    for sub in &resource.subresources {
        let kind = sub.group_version_kind.as_ref().map_or(own, |(g, v, k)| (g, v, k));
        let verbs = [
            ("get", "get"),
            ("create", "post"),
            ("update", "put"),
            ("patch", "patch"),
        ];
        add(
            format!("{collection}/{{name}}/{}", sub.name),
            &verbs,
            &sub.verbs,
            kind,
        );
    }
}

fn operation(
    verb: &str,
    (group, version, kind): (&str, &str, &str),
    resource: &Resource,
    edition: Edition,
) -> Value {
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let writes = matches!(verb, "create" | "update" | "patch");
    let mut parameters = Vec::new();
    let mut query = |name: &str, kind: &str| parameters.push(parameter(name, "query", kind, edition));
    if writes || verb.starts_with("delete") {
        query("dryRun", "string");
    }
    if writes {
        query("fieldManager", "string");
        query("fieldValidation", "string");
    }
    if verb == "patch" {
        query("force", "boolean");
    }
    if matches!(verb, "list" | "deletecollection") {
        for name in [
            "continue",
            "fieldSelector",
            "labelSelector",
            "resourceVersion",
            "resourceVersionMatch",
        ] {
            query(name, "string");
        }
        query("limit", "integer");
    }
    let own = (group, version) == (resource.group.as_str(), resource.version.as_str());
    let definition = match &resource.custom {
        Some(_) if own => Some(custom::definition_name(group, version, kind)),
        _ => definition_of(group, version, kind).map(str::to_owned),
    };
    let prefix = edition.prefix();
    let schema = definition.map_or_else(|| json!({}), |name| json!({ "$ref": format!("{prefix}{name}") }));
    let mut operation = json!({
        "operationId": format!("{verb}{}{}{}", upper(&resource.group), upper(&resource.version), kind),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": kind },
    });
    let code = if verb == "create" { "201" } else { "200" };
    match edition {
        Edition::V3 => {
            operation["responses"] = json!({
                code: { "description": "OK", "content": { (JSON): { "schema": schema } } }
            });
            if writes {
                let media: &[&str] = if verb == "patch" {
                    patch_types(resource)
                } else {
                    &[JSON]
                };
                let body = if verb == "patch" {
                    json!({ "type": "object" })
                } else {
                    schema
                };
                let content: Map<String, Value> = media
                    .iter()
                    .map(|media| ((*media).to_owned(), json!({ "schema": body })))
                    .collect();
                operation["requestBody"] = json!({ "content": content, "required": true });
            }
        }
        Edition::V2 => {
            operation["responses"] = json!({ code: { "description": "OK", "schema": schema } });
            operation["produces"] = json!([JSON]);
            operation["consumes"] = if verb == "patch" {
                json!(patch_types(resource))
            } else {
                json!([JSON])
            };
            if writes {
                let body = if verb == "patch" {
                    json!({ "type": "object" })
                } else {
                    schema
                };
                parameters.push(json!({ "name": "body", "in": "body", "required": true, "schema": body }));
            }
        }
    }
    operation["parameters"] = json!(parameters);
    operation
}

fn parameter(name: &str, place: &str, kind: &str, edition: Edition) -> Value {
    let mut parameter = json!({ "name": name, "in": place });
    if place == "path" {
        parameter["required"] = json!(true);
    }
    match edition {
        Edition::V3 => parameter["schema"] = json!({ "type": kind, "uniqueItems": true }),
        Edition::V2 => {
            parameter["type"] = json!(kind);
            parameter["uniqueItems"] = json!(true);
        }
    }
    parameter
}

fn upper(text: &str) -> String {
    let parts = text.split(['.', '-', '/']).filter(|part| !part.is_empty());
    parts.map(|part| part[..1].to_uppercase() + &part[1..]).collect()
}
