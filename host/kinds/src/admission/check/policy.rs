//! Policies in CEL and their bindings.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Found, list, matching, must_be_one_of, one_of, text};
use crate::admission::environment::Environment;
use crate::cel::{Type, is_identifier};
use crate::name;
use crate::validate::FieldError;

/// Audit annotations of one policy at most.
const AUDITS_MAX: usize = 20;
/// Bytes of an audit annotation's expression.
const AUDIT_BYTES_MAX: usize = 5 * 1024;
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const MUTATED_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const PATCHES: [&str; 2] = ["ApplyConfiguration", "JSONPatch"];
const FAILURES: [&str; 2] = ["Fail", "Ignore"];

pub(super) fn validating(object: &Value, old: Option<&Value>, found: &mut Found) {
    let spec = &object["spec"];
    common(spec, old, found);
    let mut environment = Environment::plain(spec["paramKind"].is_object());
    variables(spec, &mut environment, found);
    let (validations, audits) = (list(spec, "validations"), list(spec, "auditAnnotations"));
    if validations.is_empty() && audits.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        found.push(FieldError::required("spec.validations", why));
        found.push(FieldError::required("spec.auditAnnotations", why));
        return;
    }
    for (index, one) in validations.iter().enumerate() {
        validation(one, &environment, &format!("spec.validations[{index}]"), found);
    }
    if audits.len() > AUDITS_MAX {
        let why = format!("must not have more than {AUDITS_MAX} auditAnnotations");
        found.push(FieldError::invalid(
            "spec.auditAnnotations",
            &spec["auditAnnotations"],
            &why,
        ));
    }
    let mut keys = HashSet::new();
    for (index, one) in audits.iter().enumerate() {
        let at = format!("spec.auditAnnotations[{index}]");
        audit(one, text(&object["metadata"], "name"), &environment, &at, found);
        if !keys.insert(text(one, "key")) {
            found.push(FieldError::duplicate(format!("{at}.key"), &one["key"]));
        }
    }
}

pub(super) fn mutating(object: &Value, old: Option<&Value>, found: &mut Found) {
    let spec = &object["spec"];
    common(spec, old, found);
    for rule in list(&spec["matchConstraints"], "resourceRules") {
        for operation in list(rule, "operations") {
            let operation = operation.as_str().unwrap_or_default();
            if !MUTATED_OPERATIONS.contains(&operation) {
                let at = "spec.matchConstraints.resourceRules.operations";
                found.push(FieldError::not_supported(at, operation, &MUTATED_OPERATIONS));
            }
        }
    }
    let mut environment = Environment::plain(spec["paramKind"].is_object());
    variables(spec, &mut environment, found);
    environment.messages = true;
    if list(spec, "mutations").is_empty() {
        let why = "mutations must contain at least one item";
        found.push(FieldError::required("spec.mutations", why));
    }
    for (index, one) in list(spec, "mutations").iter().enumerate() {
        mutation(one, &environment, &format!("spec.mutations[{index}]"), found);
    }
    must_be_one_of(spec, "reinvocationPolicy", &["IfNeeded", "Never"], "spec", found);
}

/// What both kinds of policies have.
fn common(spec: &Value, old: Option<&Value>, found: &mut Found) {
    must_be_one_of(spec, "failurePolicy", &FAILURES, "spec", found);
    if spec["paramKind"].is_object() {
        param_kind(&spec["paramKind"], found);
    }
    let constraints = &spec["matchConstraints"];
    if constraints.is_object() {
        matching::match_resources(constraints, "spec.matchConstraints", found);
        if list(constraints, "resourceRules").is_empty() {
            found.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
        }
    } else {
        found.push(FieldError::required("spec.matchConstraints", ""));
    }
    let same = |field: &str| old.is_some_and(|old| old["spec"][field] == spec[field]);
    if !(same("paramKind") && same("matchConditions")) {
        let environment = Environment::plain(spec["paramKind"].is_object());
        matching::conditions(spec, &environment, "spec", found);
    }
}

fn param_kind(kind: &Value, found: &mut Found) {
    let (version, own) = (text(kind, "apiVersion"), text(kind, "kind"));
    let at = "spec.paramKind.apiVersion";
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => found.push(FieldError::required(at, "")),
        [version] => label(version, version, at, found),
        [group, ""] => {
            let why = "version must be specified";
            found.push(FieldError::invalid_text(at, &format!("{group}/"), why));
        }
        [group, own] => {
            let problems = name::dns1123_subdomain(group);
            if !group.is_empty() && !problems.is_empty() {
                found.push(FieldError::invalid_text(at, group, &problems.join(",")));
            }
            label(own, own, at, found);
        }
        _ => {
            let why = format!("unexpected GroupVersion string: {version}");
            found.push(FieldError::invalid_text(at, version, &why));
        }
    }
    if own.is_empty() {
        found.push(FieldError::required("spec.paramKind.kind", ""));
        return;
    }
    let problems = name::dns1035_label(&own.to_lowercase());
    if !problems.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            problems.join(",")
        );
        found.push(FieldError::invalid_text("spec.paramKind.kind", own, &why));
    }
}

fn label(own: &str, shown: &str, at: &str, found: &mut Found) {
    let problems = name::dns1035_label(own);
    if !problems.is_empty() {
        found.push(FieldError::invalid_text(at, shown, &problems.join(",")));
    }
}

fn variables(spec: &Value, environment: &mut Environment<'static>, found: &mut Found) {
    let mut known: Vec<(String, Type<'static>)> = Vec::new();
    environment.variables = Some(Vec::new());
    for (index, one) in list(spec, "variables").iter().enumerate() {
        let at = format!("spec.variables[{index}]");
        let (own, expression) = (text(one, "name"), text(one, "expression"));
        if own.trim().is_empty() {
            found.push(FieldError::required(
                format!("{at}.name"),
                "name is not specified",
            ));
        } else if !is_identifier(own) {
            let why = "must be a valid CEL identifier";
            found.push(FieldError::invalid_text(format!("{at}.name"), own, why));
        }
        let mut kind = Type::Dyn;
        if expression.trim().is_empty() {
            let why = "expression is not specified";
            found.push(FieldError::required(format!("{at}.expression"), why));
        } else {
            match environment.compile(expression, &[]) {
                Ok((_, own)) => kind = own,
                Err(why) => {
                    found.push(FieldError::invalid_text(
                        format!("{at}.expression"),
                        expression,
                        &why,
                    ));
                }
            }
        }
        known.push((own.to_string(), kind));
        environment.variables = Some(known.clone());
    }
}

fn validation(one: &Value, environment: &Environment<'_>, at: &str, found: &mut Found) {
    let mut compiled = |field: &str, environment: &Environment<'_>, wanted: &str| {
        let text = text(one, field);
        if let Err(why) = environment.compile(text, &[wanted]) {
            found.push(FieldError::invalid_text(format!("{at}.{field}"), text, &why));
        }
    };
    if !text(one, "expression").trim().is_empty() {
        compiled("expression", environment, "bool");
    }
    let made = text(one, "messageExpression");
    if !made.trim().is_empty() {
        let mut environment = environment.clone();
        environment.authorizer = false;
        compiled("messageExpression", &environment, "string");
    }
    if text(one, "expression").trim().is_empty() {
        let why = "expression is not specified";
        found.push(FieldError::required(format!("{at}.expression"), why));
    }
    for field in ["messageExpression", "message"] {
        let own = text(one, field);
        if !own.is_empty() && own.trim().is_empty() {
            let why = "must be non-empty if specified";
            found.push(FieldError::invalid_text(format!("{at}.{field}"), own, why));
        }
    }
    let message = text(one, "message");
    if message.trim().contains(['\n', '\r']) {
        let why = "must not contain line breaks";
        found.push(FieldError::invalid_text(format!("{at}.message"), message, why));
    }
    one_of(one, "reason", &REASONS, at, found);
}

fn audit(one: &Value, policy: &str, environment: &Environment<'_>, at: &str, found: &mut Found) {
    let (key, expression) = (text(one, "key"), text(one, "valueExpression"));
    let own = format!("{at}.key");
    if policy.is_empty() {
        found.push(FieldError::invalid_text(
            own,
            key,
            "requires metadata.name be non-empty",
        ));
    } else {
        let full = format!("{policy}/{key}");
        for why in name::qualified(&full) {
            found.push(FieldError::invalid_text(own.clone(), &full, &why));
        }
    }
    let at = format!("{at}.valueExpression");
    let trimmed = expression.trim();
    if trimmed.is_empty() {
        found.push(FieldError::required(at, "valueExpression is not specified"));
    } else if trimmed.len() > AUDIT_BYTES_MAX {
        let why = format!("must not exceed {AUDIT_BYTES_MAX} bytes in length");
        found.push(FieldError::required(at, &why));
    } else if let Err(why) = environment.compile(trimmed, &["string", "null_type"]) {
        found.push(FieldError::invalid_text(at, expression, &why));
    }
}

fn mutation(one: &Value, environment: &Environment<'_>, at: &str, found: &mut Found) {
    let kind = text(one, "patchType");
    if kind.is_empty() {
        found.push(FieldError::required(format!("{at}.patchType"), ""));
        return;
    }
    let (own, other, wanted) = match kind {
        "JSONPatch" => ("jsonPatch", "applyConfiguration", "list(JSONPatch)"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch", "Object"),
        _ => {
            found.push(FieldError::not_supported(
                format!("{at}.patchType"),
                kind,
                &PATCHES,
            ));
            return;
        }
    };
    let expression = text(&one[own], "expression").trim();
    if one[own].is_null() {
        let why = format!("must be specified when patchType is {kind}");
        found.push(FieldError::required(format!("{at}.{own}"), &why));
    } else if expression.is_empty() {
        found.push(FieldError::required(format!("{at}.{own}.expression"), ""));
    } else if let Err(why) = environment.compile(expression, &[wanted]) {
        found.push(FieldError::invalid_text(
            format!("{at}.{own}.expression"),
            expression,
            &why,
        ));
    }
    if !one[other].is_null() {
        let why = format!("must not be specified when patchType is {kind}");
        let shown = format!("{{{other}}}");
        found.push(FieldError::invalid_text(format!("{at}.{other}"), &shown, &why));
    }
}

pub(super) fn binding(spec: &Value, validating: bool, found: &mut Found) {
    let policy = text(spec, "policyName");
    if policy.is_empty() {
        found.push(FieldError::required("spec.policyName", ""));
    } else {
        for why in name::dns1123_subdomain(policy) {
            found.push(FieldError::invalid_text("spec.policyName", policy, &why));
        }
    }
    if spec["paramRef"].is_object() {
        param_ref(&spec["paramRef"], "spec.paramRef", found);
    }
    if spec["matchResources"].is_object() {
        matching::match_resources(&spec["matchResources"], "spec.matchResources", found);
    }
    if validating {
        actions(spec, "spec.validationActions", found);
    }
}

fn param_ref(params: &Value, at: &str, found: &mut Found) {
    let own = text(params, "name");
    let both = "name and selector are mutually exclusive";
    if !own.is_empty() {
        for why in name::path_segment(own) {
            found.push(FieldError::invalid_text(format!("{at}.name"), own, &why));
        }
        if params["selector"].is_object() {
            found.push(FieldError::forbidden(format!("{at}.name"), both));
        }
    }
    if params["selector"].is_object() {
        matching::selector(&params["selector"], &format!("{at}.selector"), found);
        if !own.is_empty() {
            found.push(FieldError::forbidden(format!("{at}.selector"), both));
        }
    } else if own.is_empty() {
        found.push(FieldError::required(
            at,
            "one of name or selector must be specified",
        ));
    }
    must_be_one_of(params, "parameterNotFoundAction", &["Deny", "Allow"], at, found);
}

fn actions(spec: &Value, at: &str, found: &mut Found) {
    let all = list(spec, "validationActions");
    let mut seen = HashSet::new();
    for (index, one) in all.iter().enumerate() {
        let own = one.as_str().unwrap_or_default();
        if !ACTIONS.contains(&own) {
            found.push(FieldError::not_supported(format!("{at}[{index}]"), own, &ACTIONS));
        }
        if !seen.insert(own) {
            found.push(FieldError::duplicate(format!("{at}[{index}]"), &json!(own)));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        found.push(FieldError::invalid(at, &spec["validationActions"], why));
    }
    if seen.is_empty() {
        let why = "at least one validation action is required";
        found.push(FieldError::required(at, why));
    }
}
