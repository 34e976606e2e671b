//! The review kinds: documents that are answered, never stored.

use std::sync::Arc;

use capstan_kinds::status::Status;
use serde_json::{Value, json};

use super::{Attributes, UserInfo};
use crate::answer::{self, Answer};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::write;

/// POST of a review.
pub(crate) async fn review(server: &Server, call: &mut Call) -> Answer {
    let mut document = write::decode(crate::negotiate::content_type(&call.headers), &call.body)?.object;
    write::of_kind(&call.resource, &mut document)?;
    let user = call.user.clone();
    let status = match call.resource.plural.as_str() {
        "selfsubjectaccessreviews" => access(server, &user, &document["spec"])?,
        "subjectaccessreviews" => access(server, &subject(&document["spec"])?, &document["spec"])?,
        "localsubjectaccessreviews" => {
            let asked = document["spec"]["resourceAttributes"]["namespace"]
                .as_str()
                .unwrap_or_default();
            if asked != call.target.namespace {
                let message = format!(
                    "spec.resourceAttributes.namespace: Invalid value: \"{asked}\": must match metadata.namespace"
                );
                return Err(Status::bad_request(message).into());
            }
            access(server, &subject(&document["spec"])?, &document["spec"])?
        }
        "selfsubjectrulesreviews" => rules(server, &user, &document["spec"]),
        "selfsubjectreviews" => json!({ "userInfo": user_document(&user) }),
        "tokenreviews" => token(server, &document["spec"]).await,
        _ => return Err(Status::method_not_allowed(&call.resource, "create").into()),
    };
    document["status"] = status;
    document["metadata"]["creationTimestamp"] = Value::Null;
    Ok(answer::json(201, &document))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn access(server: &Server, user: &UserInfo, spec: &Value) -> Result<Value, Refusal> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let attributes = match (resource.is_object(), path.is_object()) {
        (true, false) => Attributes {
            verb: text(resource, "verb"),
            group: text(resource, "group"),
            resource: text(resource, "resource"),
            subresource: text(resource, "subresource"),
            namespace: text(resource, "namespace"),
            name: text(resource, "name"),
            path: String::new(),
        },
        (false, true) => Attributes {
            verb: text(path, "verb"),
            path: text(path, "path"),
            ..Attributes::default()
        },
        _ => {
            let message = "spec: exactly one of resourceAttributes and nonResourceAttributes must be given";
            return Err(Status::bad_request(message).into());
        }
    };
    let decision = server.rbac.decide(&server.registry, user, &attributes);
    let mut status = json!({ "allowed": decision.allowed });
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    Ok(status)
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

fn subject(spec: &Value) -> Result<UserInfo, Refusal> {
    let user = UserInfo {
        name: text(spec, "user"),
        groups: strings(&spec["groups"]),
        ..UserInfo::default()
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(Status::bad_request(
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        )
        .into());
    }
    Ok(user)
}

fn rules(server: &Server, user: &Arc<UserInfo>, spec: &Value) -> Value {
    let namespace = text(spec, "namespace");
    let rules = server.rbac.rules(&server.registry, user, &namespace);
    let (paths, resources): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|rule| !rule.non_resource_urls.is_empty());
    let paths: Vec<Value> = paths
        .into_iter()
        .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }))
        .collect();
    json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
}

fn user_document(user: &UserInfo) -> Value {
    let mut document = json!({ "username": user.name, "groups": user.groups });
    if !user.uid.is_empty() {
        document["uid"] = json!(user.uid);
    }
    for (key, values) in &user.extra {
        document["extra"][key] = json!(values);
    }
    document
}

async fn token(server: &Server, spec: &Value) -> Value {
    let audiences = strings(&spec["audiences"]);
    match server
        .tokens
        .user(server, &text(spec, "token"), Some(&audiences))
        .await
    {
        Some((user, audiences)) => {
            json!({ "authenticated": true, "user": user_document(&user), "audiences": audiences })
        }
        None => json!({ "error": "invalid bearer token, unknown, expired or for another audience" }),
    }
}
