//! The status of validating policies: the generation that was looked at, and what types say against it.

use std::collections::HashMap;

use capstan_kinds::admission::{type_warnings, typed};
use capstan_kinds::custom::Schema;
use capstan_kinds::resource::find;
use serde_json::{Value, json};

use crate::registry::{Entry, canonical, keys};
use crate::server::Server;

/// Writes the status where it is behind. Whoever comes second finds nothing left to do.
pub(super) async fn bring_up_to_date(server: &Server, entry: &Entry) {
    let mut policy = entry.decode();
    let generation = policy["metadata"]["generation"].clone();
    if policy["status"]["observedGeneration"] == generation && policy["status"]["typeChecking"].is_object() {
        return;
    }
    let warnings = warnings(server, &policy);
    policy["status"]["observedGeneration"] = generation;
    policy["status"]["typeChecking"] = match warnings.is_empty() {
        true => json!({}),
        false => json!({ "expressionWarnings": warnings }),
    };
    let Some(resource) = find(
        "admissionregistration.k8s.io",
        "v1",
        "validatingadmissionpolicies",
    ) else {
        return;
    };
    let key = keys::of(&resource, "", &entry.index.name);
    let Some(stored) = canonical(policy) else { return };
    if let Err(error) = server.registry.put(&key, stored, entry.revision, false).await {
        tracing::debug!(%key, %error, "a policy's status could not be brought up to date");
    }
}

fn warnings(server: &Server, policy: &Value) -> Vec<Value> {
    let (_, all) = server.registry.table.all();
    // The schemas of built-in kinds are made for the purpose; those of custom kinds are there.
    let mut made: HashMap<String, Schema> = HashMap::new();
    let rules = policy["spec"]["matchConstraints"]["resourceRules"].as_array();
    for rule in rules.into_iter().flatten() {
        for resource in &all {
            let names = |field: &str, own: &str| {
                let mut list = rule[field].as_array().into_iter().flatten();
                list.any(|one| one == own)
            };
            let asked = names("apiGroups", &resource.group)
                && names("apiVersions", &resource.version)
                && names("resources", &resource.plural);
            if asked && let Some(schema) = typed(resource) {
                made.insert(format!("{}/{}", resource.api_version(), resource.plural), schema);
            }
        }
    }
    let custom: Vec<_> = all
        .iter()
        .filter_map(|one| Some((one, one.custom.clone()?)))
        .collect();
    type_warnings(policy, |group, version, plural| {
        let same = |own: &capstan_kinds::resource::Resource| {
            own.group == group && own.version == version && own.plural == plural
        };
        let resource = all.iter().find(|one| same(one))?;
        let schema = match custom.iter().find(|(one, _)| same(one)) {
            Some((_, custom)) => &custom.schema,
            None => made.get(&format!("{}/{plural}", resource.api_version()))?,
        };
        Some((resource.kind.clone(), schema))
    })
}
