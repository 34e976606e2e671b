//! CertificateSigningRequests: who asks is written by the server, what was asked never changes, an approval
//! touches the conditions alone, and each condition has its times.

use capstan_kinds::resource::Resource;
use serde_json::{Value, json};

use super::UserInfo;
use crate::time;

fn is_request(resource: &Resource) -> bool {
    resource.is("certificates.k8s.io", "CertificateSigningRequest")
}

/// Writes who asks onto a new request; other kinds pass.
pub(crate) fn stamp(resource: &Resource, user: &UserInfo, object: &mut Value) {
    if !is_request(resource) {
        return;
    }
    let Some(spec) = object["spec"].as_object_mut() else {
        return;
    };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    spec.insert("username".into(), json!(user.name));
    if !user.uid.is_empty() {
        spec.insert("uid".into(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        let extra = user
            .extra
            .iter()
            .map(|(key, values)| (key.clone(), json!(values)));
        spec.insert("extra".into(), Value::Object(extra.collect()));
    }
}

/// Keeps what a write of a subresource may not touch; other kinds pass.
pub(crate) fn settle(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    if !is_request(resource) {
        return;
    }
    new["spec"] = old["spec"].clone();
    let conditions = match subresource {
        "" => return,
        "approval" => {
            let conditions = new["status"]["conditions"].take();
            new["status"] = match old["status"].is_object() {
                true => old["status"].clone(),
                false => json!({}),
            };
            conditions
        }
        _ => new["status"]["conditions"].take(),
    };
    let now = time::now();
    let mut conditions = match conditions {
        Value::Array(list) => list,
        _ => {
            new["status"]
                .as_object_mut()
                .map(|status| status.remove("conditions"));
            return;
        }
    };
    for condition in &mut conditions {
        if condition["status"].as_str().unwrap_or_default().is_empty() {
            condition["status"] = json!("True");
        }
        let before = old["status"]["conditions"].as_array().into_iter().flatten();
        let before = before
            .into_iter()
            .find(|one| one["type"] == condition["type"] && one["status"] == condition["status"]);
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = json!(now);
        }
        if condition["lastTransitionTime"].is_null() {
            let since = before.map(|one| one["lastTransitionTime"].clone());
            condition["lastTransitionTime"] = since.filter(|time| !time.is_null()).unwrap_or(json!(now));
        }
    }
    new["status"]["conditions"] = json!(conditions);
}
