//! Configurations of webhooks.

use std::collections::HashSet;

use serde_json::Value;

use super::{Found, list, matching, one_of, text};
use crate::admission::environment::Environment;
use crate::name;
use crate::validate::FieldError;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const NO_SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const URL_FORM: &str = "; desired format: https://host[/path]";

pub(super) fn configuration(object: &Value, old: Option<&Value>, mutating: bool, found: &mut Found) {
    let mut seen = HashSet::new();
    let before = old.map_or(&[][..], |old| list(old, "webhooks"));
    for (index, webhook) in list(object, "webhooks").iter().enumerate() {
        let at = format!("webhooks[{index}]");
        one(webhook, mutating, &at, found);
        let kept = before.get(index).map(|old| &old["matchConditions"]);
        if kept != Some(&webhook["matchConditions"]) {
            matching::conditions(webhook, &Environment::plain(false), &at, found);
        }
        review_versions(webhook, &format!("{at}.admissionReviewVersions"), found);
        let own = text(webhook, "name");
        if !own.is_empty() && !seen.insert(own) {
            found.push(FieldError::duplicate(format!("{at}.name"), &webhook["name"]));
        }
    }
}

fn one(webhook: &Value, mutating: bool, at: &str, found: &mut Found) {
    qualified(text(webhook, "name"), &format!("{at}.name"), found);
    for (index, rule) in list(webhook, "rules").iter().enumerate() {
        matching::rule(rule, &format!("{at}.rules[{index}]"), found);
    }
    one_of(webhook, "failurePolicy", &["Fail", "Ignore"], at, found);
    one_of(webhook, "matchPolicy", &matching::MATCH_POLICIES, at, found);
    if text(webhook, "sideEffects").is_empty() {
        let why = format!("must specify one of {}", NO_SIDE_EFFECTS.join(", "));
        found.push(FieldError::required(format!("{at}.sideEffects"), &why));
    }
    one_of(webhook, "sideEffects", &NO_SIDE_EFFECTS, at, found);
    if let Some(seconds) = webhook["timeoutSeconds"].as_i64()
        && !(1..=30).contains(&seconds)
    {
        let why = "the timeout value must be between 1 and 30 seconds";
        found.push(FieldError::invalid(
            format!("{at}.timeoutSeconds"),
            &webhook["timeoutSeconds"],
            why,
        ));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        matching::selector(&webhook[field], &format!("{at}.{field}"), found);
    }
    if mutating {
        one_of(webhook, "reinvocationPolicy", &["IfNeeded", "Never"], at, found);
    }
    client(&webhook["clientConfig"], &format!("{at}.clientConfig"), found);
}

/// A name of at least three parts.
fn qualified(own: &str, at: &str, found: &mut Found) {
    if own.is_empty() {
        found.push(FieldError::required(at, ""));
        return;
    }
    let problems = name::dns1123_subdomain(own);
    if !problems.is_empty() {
        found.push(FieldError::invalid_text(at, own, &problems.join(",")));
    } else if own.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        found.push(FieldError::invalid_text(at, own, why));
    }
}

fn review_versions(webhook: &Value, at: &str, found: &mut Found) {
    let versions = list(webhook, "admissionReviewVersions");
    let shown = REVIEW_VERSIONS.join(", ");
    if versions.is_empty() {
        found.push(FieldError::required(at, &format!("must specify one of {shown}")));
        return;
    }
    let mut seen = HashSet::new();
    for (index, one) in versions.iter().enumerate() {
        let own = one.as_str().unwrap_or_default();
        let at = format!("{at}[{index}]");
        if !seen.insert(own) {
            found.push(FieldError::invalid_text(at, own, "duplicate version"));
            continue;
        }
        for why in name::dns1035_label(own) {
            found.push(FieldError::invalid_text(at.clone(), own, &why));
        }
    }
    if !REVIEW_VERSIONS.iter().any(|known| seen.contains(known)) {
        let why = format!("must include at least one of {shown}");
        found.push(FieldError::invalid(at, &webhook["admissionReviewVersions"], &why));
    }
}

fn client(config: &Value, at: &str, found: &mut Found) {
    match (config["url"].as_str(), config["service"].is_object()) {
        (Some(_), true) | (None, false) => {
            found.push(FieldError::required(
                at,
                "exactly one of url or service is required",
            ));
        }
        (Some(text), false) => url(text, &format!("{at}.url"), found),
        (None, true) => service(&config["service"], &format!("{at}.service"), found),
    }
}

fn url(text: &str, at: &str, found: &mut Found) {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{URL_FORM}");
        found.push(FieldError::invalid_text(at, scheme, &why));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        let why = format!("host must be specified{URL_FORM}");
        found.push(FieldError::invalid_text(at, "", &why));
    }
    let forbidden = [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ];
    for (part, why) in forbidden {
        if !part.is_empty() {
            found.push(FieldError::invalid_text(at, part, why));
        }
    }
}

fn service(service: &Value, at: &str, found: &mut Found) {
    for field in ["name", "namespace"] {
        if text(service, field).is_empty() {
            found.push(FieldError::required(format!("{at}.{field}"), ""));
        }
    }
    if let Some(port) = service["port"].as_i64()
        && !(1..=65_535).contains(&port)
    {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        found.push(FieldError::invalid(format!("{at}.port"), &service["port"], why));
    }
    let path = text(service, "path");
    if matches!(path, "" | "/") {
        return;
    }
    let at = format!("{at}.path");
    if path == "//" {
        found.push(FieldError::invalid_text(at, path, "segment[0] may not be empty"));
        return;
    }
    if !path.starts_with('/') {
        found.push(FieldError::invalid_text(
            at.clone(),
            path,
            "must start with a '/'",
        ));
    }
    let mut chars = path.chars();
    chars.next();
    let inner = chars.as_str();
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    for (index, step) in inner.split('/').enumerate() {
        if step.is_empty() {
            let why = format!("segment[{index}] may not be empty");
            found.push(FieldError::invalid_text(at.clone(), path, &why));
            continue;
        }
        for problem in name::dns1123_subdomain(step) {
            let why = format!("segment[{index}]: {problem}");
            found.push(FieldError::invalid_text(at.clone(), path, &why));
        }
    }
}
