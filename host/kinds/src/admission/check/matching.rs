//! Rules, selectors and match conditions.

use std::collections::HashSet;

use serde_json::Value;

use super::{Found, list, must_be_one_of, one_of, text};
use crate::admission::environment::Environment;
use crate::name;
use crate::validate::{Cause, FieldError};

/// Conditions of one webhook or policy at most.
const CONDITIONS_MAX: usize = 64;
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
pub(super) const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];

pub(super) fn rule(rule: &Value, at: &str, found: &mut Found) {
    let wild = |field: &str| list(rule, field).iter().any(|one| one == "*");
    let alone = [
        ("operations", "operations"),
        ("apiGroups", "API groups"),
        ("apiVersions", "API versions"),
    ];
    for (field, shown) in alone {
        let own = format!("{at}.{field}");
        if list(rule, field).is_empty() {
            found.push(FieldError::required(own, ""));
        } else if list(rule, field).len() > 1 && wild(field) {
            let why = format!("if '*' is present, must not specify other {shown}");
            found.push(FieldError::invalid(own, &rule[field], &why));
        }
        for (index, one) in list(rule, field).iter().enumerate() {
            let one = one.as_str().unwrap_or_default();
            let own = format!("{at}.{field}[{index}]");
            if field == "operations" && !OPERATIONS.contains(&one) {
                found.push(FieldError::not_supported(own, one, &OPERATIONS));
            } else if field == "apiVersions" && one.is_empty() {
                found.push(FieldError::required(own, ""));
            }
        }
    }
    resources(rule, &format!("{at}.resources"), found);
    one_of(rule, "scope", &SCOPES, at, found);
}

fn resources(rule: &Value, at: &str, found: &mut Found) {
    let all: Vec<&str> = list(rule, "resources")
        .iter()
        .map(|one| one.as_str().unwrap_or_default())
        .collect();
    if all.is_empty() {
        found.push(FieldError::required(at, ""));
    }
    let (mut whole, mut every) = (HashSet::new(), HashSet::new());
    let mut plain = false;
    for (index, one) in all.iter().enumerate() {
        let own = format!("{at}[{index}]");
        if one.is_empty() {
            found.push(FieldError::required(own, ""));
            continue;
        }
        let Some((resource, subresource)) = one.split_once('/') else {
            plain = *one != "*";
            continue;
        };
        if whole.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {one}");
            found.push(FieldError::invalid_text(own.clone(), one, &why));
        }
        if every.contains(subresource) {
            let why = format!("if '*/{subresource}' is present, must not specify {one}");
            found.push(FieldError::invalid_text(own, one, &why));
        }
        if subresource == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            every.insert(subresource);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        found.push(FieldError::invalid(at, &rule["resources"], why));
    }
    if all.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        found.push(FieldError::invalid(at, &rule["resources"], why));
    }
}

pub(super) fn selector(selector: &Value, at: &str, found: &mut Found) {
    let key = |own: &str, at: &str, found: &mut Found| {
        for why in name::qualified(own) {
            found.push(FieldError::invalid_text(at, own, &why));
        }
    };
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    for (name, value) in labels {
        let at = format!("{at}.matchLabels");
        key(name, &at, found);
        let value = value.as_str().unwrap_or_default();
        for why in name::label_value(value) {
            found.push(FieldError::invalid_text(&at, value, &why));
        }
    }
    for (index, one) in list(selector, "matchExpressions").iter().enumerate() {
        let at = format!("{at}.matchExpressions[{index}]");
        let (operator, values) = (text(one, "operator"), list(one, "values"));
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                found.push(FieldError::required(format!("{at}.values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                found.push(FieldError::forbidden(format!("{at}.values"), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                let why = "not a valid selector operator";
                found.push(FieldError::invalid_text(format!("{at}.operator"), operator, why));
            }
        }
        key(text(one, "key"), &format!("{at}.key"), found);
        for (place, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            for why in name::label_value(value) {
                found.push(FieldError::invalid_text(
                    format!("{at}.values[{place}]"),
                    value,
                    &why,
                ));
            }
        }
    }
}

/// `matchConstraints` or `matchResources`.
pub(super) fn match_resources(resources: &Value, at: &str, found: &mut Found) {
    must_be_one_of(resources, "matchPolicy", &MATCH_POLICIES, at, found);
    for field in ["namespaceSelector", "objectSelector"] {
        let own = format!("{at}.{field}");
        if resources[field].is_null() {
            found.push(FieldError::required(own, ""));
        } else {
            selector(&resources[field], &own, found);
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, one) in list(resources, field).iter().enumerate() {
            let at = format!("{at}.{field}[{index}]");
            let mut seen = HashSet::new();
            for (place, own) in list(one, "resourceNames").iter().enumerate() {
                let at = format!("{at}.resourceNames[{place}]");
                let text = own.as_str().unwrap_or_default();
                for why in name::path_segment(text) {
                    found.push(FieldError::invalid_text(at.clone(), text, &why));
                }
                if !seen.insert(text) {
                    found.push(FieldError::duplicate(at, own));
                }
            }
            rule(one, &at, found);
        }
    }
}

pub(super) fn conditions(owner: &Value, environment: &Environment<'_>, at: &str, found: &mut Found) {
    let all = list(owner, "matchConditions");
    let at = format!("{at}.matchConditions");
    if all.len() > CONDITIONS_MAX {
        let message = format!(
            "Too many: {}: must have at most {CONDITIONS_MAX} items",
            all.len()
        );
        found.push(FieldError::new(at.clone(), Cause::TooMany, message));
    }
    let mut seen = HashSet::new();
    for (index, one) in all.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let expression = text(one, "expression").trim();
        if expression.is_empty() {
            found.push(FieldError::required(format!("{at}.expression"), ""));
        } else if let Err(why) = environment.compile(expression, &["bool"]) {
            found.push(FieldError::invalid_text(
                format!("{at}.expression"),
                expression,
                &why,
            ));
        }
        let own = text(one, "name");
        if own.is_empty() {
            found.push(FieldError::required(format!("{at}.name"), ""));
            continue;
        }
        for why in name::qualified(own) {
            found.push(FieldError::invalid_text(format!("{at}.name"), own, &why));
        }
        if !seen.insert(own) {
            found.push(FieldError::duplicate(format!("{at}.name"), &one["name"]));
        }
    }
}
