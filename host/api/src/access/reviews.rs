//! The review kinds: documents that are answered, never stored.

use std::sync::Arc;

use capstan_kinds::resource::Resource;
use capstan_kinds::selector::{FieldOperator, FieldSelector};
use capstan_kinds::status::Status;
use capstan_kinds::validate::FieldError;
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
    let spec = document["spec"].clone();
    let mut errors = Vec::new();
    let status = match call.resource.plural.as_str() {
        "selfsubjectaccessreviews" => {
            attributes_errors(&spec, false, &mut errors);
            metadata_errors(&document, "", &mut errors);
            checked(&call.resource, errors)?;
            access(server, &user, &spec)
        }
        "subjectaccessreviews" => {
            attributes_errors(&spec, true, &mut errors);
            metadata_errors(&document, "", &mut errors);
            checked(&call.resource, errors)?;
            access(server, &subject(&spec), &spec)
        }
        "localsubjectaccessreviews" => {
            local(call, &mut document, &mut errors)?;
            checked(&call.resource, errors)?;
            access(server, &subject(&spec), &spec)
        }
        "selfsubjectrulesreviews" => rules(server, &user, &spec)?,
        "selfsubjectreviews" => json!({ "userInfo": user_document(&user) }),
        "tokenreviews" => token(server, &spec).await?,
        _ => return Err(Status::method_not_allowed(&call.resource, "create").into()),
    };
    document["status"] = status;
    document["metadata"]["creationTimestamp"] = Value::Null;
    Ok(answer::json(201, &document))
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn checked(resource: &Resource, errors: Vec<FieldError>) -> Result<(), Refusal> {
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(resource, "", errors).into()),
    }
}

/// A review of one namespace: it is asked for at the namespace's path.
fn local(call: &Call, document: &mut Value, errors: &mut Vec<FieldError>) -> Result<(), Refusal> {
    let namespace = call.target.namespace.as_str();
    let said = text(&document["metadata"], "namespace");
    if !said.is_empty() && said != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(message).into());
    }
    document["metadata"]["namespace"] = json!(namespace);
    let spec = &document["spec"];
    attributes_errors(spec, true, errors);
    metadata_errors(document, " except for namespace", errors);
    let asked = &spec["resourceAttributes"]["namespace"];
    if spec["resourceAttributes"].is_object() && asked.as_str().unwrap_or_default() != namespace {
        let asked = asked.as_str().unwrap_or_default();
        let field = "spec.resourceAttributes.namespace";
        errors.push(FieldError::invalid_text(
            field,
            asked,
            "must match metadata.namespace",
        ));
    }
    if spec["nonResourceAttributes"].is_object() {
        let (field, why) = ("spec.nonResourceAttributes", "disallowed on this kind of request");
        errors.push(FieldError::invalid(field, &spec["nonResourceAttributes"], why));
    }
    Ok(())
}

fn metadata_errors(document: &Value, except: &str, errors: &mut Vec<FieldError>) {
    let may = |name: &str| {
        matches!(name, "managedFields" | "creationTimestamp") || name == "namespace" && !except.is_empty()
    };
    let fields = document["metadata"].as_object().into_iter().flatten();
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    let mut more = fields.filter(|(name, value)| !may(name) && !empty(value));
    if more.next().is_some() {
        let why = format!("must be empty{except}");
        errors.push(FieldError::invalid("metadata", &document["metadata"], &why));
    }
}

fn attributes_errors(spec: &Value, of_somebody: bool, errors: &mut Vec<FieldError>) {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() && path.is_object() {
        let why = "cannot be specified in combination with resourceAttributes";
        errors.push(FieldError::invalid("spec.nonResourceAttributes", path, why));
    }
    if !resource.is_object() && !path.is_object() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(FieldError::invalid("spec.resourceAttributes", &Value::Null, why));
    }
    if of_somebody && text(spec, "user").is_empty() && strings(&spec["groups"]).is_empty() {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid_text("spec.user", "", why));
    }
    for kind in ["fieldSelector", "labelSelector"] {
        selector_errors(
            &resource[kind],
            &format!("spec.resourceAttributes.{kind}"),
            errors,
        );
    }
}

fn selector_errors(selector: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if !selector.is_object() {
        return;
    }
    let raw = text(selector, "rawSelector");
    let requirements = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
    if !raw.is_empty() && !requirements.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid_text(
            format!("{field}.rawSelector"),
            &raw,
            why,
        ));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {field} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(format!("{field}.requirements"), &why));
    }
    for (at, requirement) in requirements.iter().enumerate() {
        let place = format!("{field}.requirements[{at}]");
        let values = requirement["values"].as_array().map_or(0, Vec::len);
        if text(requirement, "key").is_empty() {
            errors.push(FieldError::required(format!("{place}.key"), "must be specified"));
        }
        match text(requirement, "operator").as_str() {
            "In" | "NotIn" if values == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(format!("{place}.values"), why));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(format!("{place}.values"), why));
            }
            _ => {}
        }
    }
}

/// What a valid spec asks.
fn attributes(spec: &Value) -> Attributes {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if path.is_object() {
        return Attributes {
            verb: text(path, "verb"),
            path: text(path, "path"),
            ..Attributes::default()
        };
    }
    Attributes {
        verb: text(resource, "verb"),
        group: text(resource, "group"),
        resource: text(resource, "resource"),
        subresource: text(resource, "subresource"),
        namespace: text(resource, "namespace"),
        name: text(resource, "name"),
        path: String::new(),
        field_selector: field_selector(&resource["fieldSelector"]),
    }
}

/// The part of a selector that narrows: what says more than a comparison of a field is left out, which can
/// only make the answer stricter.
fn field_selector(selector: &Value) -> FieldSelector {
    let raw = text(selector, "rawSelector");
    let mut read = FieldSelector::parse(&raw).unwrap_or_default();
    for requirement in selector["requirements"].as_array().into_iter().flatten() {
        let operator = match text(requirement, "operator").as_str() {
            "In" => FieldOperator::Equals,
            "NotIn" => FieldOperator::NotEquals,
            _ => continue,
        };
        if let [value] = strings(&requirement["values"]).as_slice() {
            read.requirements
                .push((text(requirement, "key"), operator, value.clone()));
        }
    }
    read
}

fn access(server: &Server, user: &UserInfo, spec: &Value) -> Value {
    let decision = server.decide(user, &attributes(spec));
    let mut status = json!({ "allowed": decision.allowed });
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    status
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
}

/// Whom a review is about.
fn subject(spec: &Value) -> UserInfo {
    let extra = spec["extra"].as_object().into_iter().flatten();
    UserInfo {
        name: text(spec, "user"),
        uid: text(spec, "uid"),
        groups: strings(&spec["groups"]),
        extra: extra
            .map(|(key, values)| (key.to_lowercase(), strings(values)))
            .collect(),
    }
}

fn rules(server: &Server, user: &Arc<UserInfo>, spec: &Value) -> Result<Value, Refusal> {
    let namespace = text(spec, "namespace");
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request").into());
    }
    let rules = server.rbac.rules(&server.registry, user, &namespace);
    let (paths, resources): (Vec<_>, Vec<_>) = rules
        .into_iter()
        .partition(|rule| !rule.non_resource_urls.is_empty());
    let paths: Vec<Value> = paths
        .into_iter()
        .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }))
        .collect();
    let is_node = user.as_node().is_some();
    let mut status = json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": is_node });
    if is_node {
        status["evaluationError"] = json!("node authorizer does not support user rule resolution");
    }
    Ok(status)
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

async fn token(server: &Server, spec: &Value) -> Result<Value, Refusal> {
    let secret = text(spec, "token");
    if secret.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication").into());
    }
    let audiences = strings(&spec["audiences"]);
    Ok(match server.tokens.user(server, &secret, &audiences).await {
        Ok((user, audiences)) => {
            json!({ "authenticated": true, "user": user_document(&user), "audiences": audiences })
        }
        Err(why) => json!({ "user": {}, "error": why }),
    })
}
