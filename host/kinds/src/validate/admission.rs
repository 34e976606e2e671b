//! Rules of webhooks and of admission policies, and of services that answer for a group.
//! Invariants: expressions are judged for being there; what they say is the admission chain's to compile.

use std::collections::HashSet;

use serde_json::Value;

use super::at::{At, PORT_MAX, in_range};
use super::names;
use super::selector;
use crate::name;
use crate::resource::Resource;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const CONDITIONS_MAX: usize = 64;
const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_BYTES_MAX: usize = 5 * 1024;
const FORM: &str = "; desired format: https://host[/path]";

pub(super) fn check(resource: &Resource, object: &At) {
    let spec = object.at("spec");
    match resource.kind.as_str() {
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            webhooks(object, resource.kind.starts_with("Mutating"));
        }
        "ValidatingAdmissionPolicy" => {
            policy(&spec);
            validations(object, &spec);
        }
        "MutatingAdmissionPolicy" => {
            policy(&spec);
            mutations(&spec);
        }
        "ValidatingAdmissionPolicyBinding" => {
            binding(&spec);
            actions(&spec);
        }
        "MutatingAdmissionPolicyBinding" => binding(&spec),
        _ => {}
    }
}

fn webhooks(object: &At, mutating: bool) {
    let mut names = HashSet::new();
    for hook in object.each("webhooks") {
        names::fully_qualified(&hook, "name");
        hook.each("rules").for_each(|rule| self::rule(&rule));
        for (field, known) in [
            ("failurePolicy", ["Fail", "Ignore"]),
            ("matchPolicy", ["Equivalent", "Exact"]),
        ] {
            if hook.has(field) {
                hook.exactly_one_of(field, &known);
            }
        }
        if hook.has("sideEffects") {
            hook.exactly_one_of("sideEffects", &["None", "NoneOnDryRun"]);
        } else {
            hook.required("sideEffects", "must specify one of None, NoneOnDryRun");
        }
        if hook
            .int("timeoutSeconds")
            .is_some_and(|seconds| !(1..=30).contains(&seconds))
        {
            let why = "the timeout value must be between 1 and 30 seconds";
            hook.invalid("timeoutSeconds", why);
        }
        selector::check(&hook, "namespaceSelector");
        selector::check(&hook, "objectSelector");
        if mutating && hook.has("reinvocationPolicy") {
            hook.exactly_one_of("reinvocationPolicy", &["IfNeeded", "Never"]);
        }
        client(&hook.at("clientConfig"));
        match_conditions(&hook);
        review_versions(&hook);
        let name = hook.text("name");
        if !name.is_empty() && !names.insert(name) {
            hook.duplicate("name");
        }
    }
}

/// Where something is called: by address or by service.
fn client(at: &At) {
    match (at.get("url").and_then(Value::as_str), at.some("service")) {
        (Some(url), None) => self::url(at, url),
        (None, Some(service)) => self::service(&service),
        _ => at.required("", "exactly one of url or service is required"),
    }
}

fn url(at: &At, url: &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let why = format!("'https' is the only allowed URL scheme{FORM}");
        at.invalid_as("url", scheme, &why);
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    if host.is_empty() {
        at.invalid_as("url", "", &format!("host must be specified{FORM}"));
    }
    if let Some(user) = user {
        at.invalid_as("url", user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        at.invalid_as("url", fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        at.invalid_as("url", query, "query parameters are not permitted in the URL");
    }
}

fn service(at: &At) {
    // The original hands name and namespace over in each other's place.
    for (field, told) in [("namespace", "name"), ("name", "namespace")] {
        if at.text(field).is_empty() {
            at.required(told, "");
        }
    }
    service_port(at);
    let path = at.text("path");
    if matches!(path, "" | "/") {
        return;
    }
    if path == "//" {
        return at.invalid("path", "segment[0] may not be empty");
    }
    if !path.starts_with('/') {
        at.invalid("path", "must start with a '/'");
    }
    let inner: String = path.chars().skip(1).collect();
    let inner = inner.strip_suffix('/').unwrap_or(&inner);
    for (index, step) in inner.split('/').enumerate() {
        if step.is_empty() {
            at.invalid("path", &format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in name::dns1123_subdomain(step) {
            at.invalid("path", &format!("segment[{index}]: {why}"));
        }
    }
}

fn service_port(at: &At) {
    let port = at.number("port");
    if !(1..=PORT_MAX).contains(&port) {
        let why = format!("port is not valid: {}", in_range(1, PORT_MAX));
        at.invalid_as("port", port, &why);
    }
}

fn review_versions(hook: &At) {
    const FIELD: &str = "admissionReviewVersions";
    if hook.count(FIELD) == 0 {
        return hook.required(FIELD, "must specify one of v1, v1beta1");
    }
    let mut seen = HashSet::new();
    for version in hook.each(FIELD) {
        if !seen.insert(version.text("")) {
            version.invalid("", "duplicate version");
            continue;
        }
        version.name("", name::dns1035_label);
    }
    if !REVIEW_VERSIONS.iter().any(|version| seen.contains(version)) {
        hook.invalid(FIELD, "must include at least one of v1, v1beta1");
    }
}

fn wildcard(at: &At, field: &str, what: &str) {
    let given: Vec<&str> = at.texts(field).collect();
    if given.is_empty() {
        at.required(field, "");
    }
    if given.len() > 1 && given.contains(&"*") {
        let why = format!("if '*' is present, must not specify other {what}");
        at.invalid(field, &why);
    }
}

fn rule(at: &At) {
    wildcard(at, "operations", "operations");
    for operation in at.each("operations") {
        operation.exactly_one_of("", &OPERATIONS);
    }
    wildcard(at, "apiGroups", "API groups");
    wildcard(at, "apiVersions", "API versions");
    for version in at.each("apiVersions") {
        version.need(&[""]);
    }
    resources(at);
    if at.has("scope") {
        at.exactly_one_of("scope", &["*", "Cluster", "Namespaced"]);
    }
}

fn resources(at: &At) {
    let given: Vec<&str> = at.texts("resources").collect();
    if given.is_empty() {
        at.required("resources", "");
    }
    let (mut whole, mut everywhere) = (HashSet::new(), HashSet::new());
    let mut plain = false;
    for resource in at.each("resources") {
        let text = resource.text("");
        if text.is_empty() {
            resource.required("", "");
            continue;
        }
        let Some((kind, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        for (known, of) in [(&whole, format!("{kind}/*")), (&everywhere, format!("*/{sub}"))] {
            let key = if of.starts_with('*') && std::ptr::eq(known, &everywhere) {
                sub
            } else {
                kind
            };
            if known.contains(key) {
                let why = format!("if '{of}' is present, must not specify {text}");
                resource.invalid("", &why);
            }
        }
        if sub == "*" {
            whole.insert(kind);
        }
        if kind == "*" {
            everywhere.insert(sub);
        }
    }
    if given.len() > 1 && given.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        at.invalid("resources", why);
    }
    if given.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        at.invalid("resources", why);
    }
}

fn match_conditions(at: &At) {
    const FIELD: &str = "matchConditions";
    if at.count(FIELD) > CONDITIONS_MAX {
        at.too_many(FIELD, CONDITIONS_MAX);
    }
    let mut names = HashSet::new();
    for condition in at.each(FIELD) {
        if condition.text("expression").trim().is_empty() {
            condition.required("expression", "");
        }
        condition.must_name("name", name::qualified);
        let name = condition.text("name");
        if !name.is_empty() && !names.insert(name) {
            condition.duplicate("name");
        }
    }
}

fn policy(spec: &At) {
    if spec.has("failurePolicy") {
        spec.exactly_one_of("failurePolicy", &["Fail", "Ignore"]);
    } else {
        spec.required("failurePolicy", "");
    }
    if let Some(kind) = spec.some("paramKind") {
        param_kind(&kind);
    }
    match spec.some("matchConstraints") {
        None => spec.required("matchConstraints", ""),
        Some(constraints) => {
            match_resources(&constraints);
            if constraints.count("resourceRules") == 0 {
                constraints.required("resourceRules", "");
            }
        }
    }
    match_conditions(spec);
    for variable in spec.each("variables") {
        let name = variable.text("name");
        if name.trim().is_empty() {
            variable.required("name", "name is not specified");
        } else if !names::is_identifier(name) {
            variable.invalid("name", "must be a valid CEL identifier");
        }
        if variable.text("expression").trim().is_empty() {
            variable.required("expression", "expression is not specified");
        }
    }
}

fn param_kind(at: &At) {
    let text = at.text("apiVersion");
    if text.is_empty() {
        at.required("apiVersion", "");
    } else if text.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {text}");
        at.invalid("apiVersion", &why);
    } else {
        let (group, version) = text.rsplit_once('/').unwrap_or(("", text));
        let problems = name::dns1123_subdomain(group);
        if !group.is_empty() && !problems.is_empty() {
            at.invalid_as("apiVersion", group, &problems.join(","));
        }
        let problems = name::dns1035_label(version);
        if version.is_empty() {
            at.invalid("apiVersion", "version must be specified");
        } else if !problems.is_empty() {
            at.invalid_as("apiVersion", version, &problems.join(","));
        }
    }
    let problems = name::dns1035_label(&at.text("kind").to_lowercase());
    if at.text("kind").is_empty() {
        at.required("kind", "");
    } else if !problems.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            problems.join(",")
        );
        at.invalid("kind", &why);
    }
}

fn match_resources(at: &At) {
    if at.has("matchPolicy") {
        at.exactly_one_of("matchPolicy", &["Equivalent", "Exact"]);
    } else {
        at.required("matchPolicy", "");
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if at.has(field) {
            selector::check(at, field);
        } else {
            at.required(field, "");
        }
    }
    for rule in at.each("resourceRules").chain(at.each("excludeResourceRules")) {
        let mut names = HashSet::new();
        for name in rule.each("resourceNames") {
            name.name("", name::path_segment);
            if !names.insert(name.text("")) {
                name.duplicate("");
            }
        }
        self::rule(&rule);
    }
}

fn validations(object: &At, spec: &At) {
    if spec.count("validations") + spec.count("auditAnnotations") == 0 {
        let why = "validations or auditAnnotations must contain at least one item";
        spec.required("validations", why);
        return spec.required("auditAnnotations", why);
    }
    for validation in spec.each("validations") {
        if validation.text("expression").trim().is_empty() {
            validation.required("expression", "expression is not specified");
        }
        for field in ["messageExpression", "message"] {
            let text = validation.text(field);
            if !text.is_empty() && text.trim().is_empty() {
                validation.invalid(field, "must be non-empty if specified");
            } else if field == "message" && text.trim().contains(['\n', '\r']) {
                validation.invalid(field, "must not contain line breaks");
            }
        }
        if validation.has("reason") {
            let known = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
            validation.exactly_one_of("reason", &known);
        }
    }
    if spec.count("auditAnnotations") > ANNOTATIONS_MAX {
        let why = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        spec.invalid("auditAnnotations", &why);
    }
    let mut keys = HashSet::new();
    for annotation in spec.each("auditAnnotations") {
        let key = annotation.text("key");
        let full = format!("{}/{key}", object.text("metadata.name"));
        for why in name::qualified(&full) {
            annotation.invalid_as("key", full.as_str(), &why);
        }
        let expression = annotation.text("valueExpression").trim();
        if expression.is_empty() {
            annotation.required("valueExpression", "valueExpression is not specified");
        } else if expression.len() > ANNOTATION_BYTES_MAX {
            let why = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
            annotation.required("valueExpression", &why);
        }
        if !keys.insert(key) {
            annotation.duplicate_as("key", key);
        }
    }
}

fn mutations(spec: &At) {
    let known = ["*", "CONNECT", "CREATE", "UPDATE"];
    for rule in spec.each("matchConstraints.resourceRules") {
        for operation in rule.texts("operations").filter(|one| !known.contains(one)) {
            let field = "matchConstraints.resourceRules.operations";
            spec.unsupported_as(field, operation, &known);
        }
    }
    if spec.count("mutations") == 0 {
        spec.required("mutations", "mutations must contain at least one item");
    }
    for mutation in spec.each("mutations") {
        let kind = mutation.text("patchType");
        let (own, other) = match kind {
            "" => {
                mutation.required("patchType", "");
                continue;
            }
            "JSONPatch" => ("jsonPatch", "applyConfiguration"),
            "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
            _ => {
                mutation.unsupported("patchType", &["ApplyConfiguration", "JSONPatch"]);
                continue;
            }
        };
        match mutation.some(own) {
            None => mutation.required(own, &format!("must be specified when patchType is {kind}")),
            Some(patch) if patch.text("expression").trim().is_empty() => {
                patch.required("expression", "");
            }
            Some(_) => {}
        }
        if mutation.has(other) {
            let why = format!("must not be specified when patchType is {kind}");
            mutation.invalid_as(other, format!("{{{other}}}"), &why);
        }
    }
    spec.must_be_one_of("reinvocationPolicy", &["IfNeeded", "Never"]);
}

fn binding(spec: &At) {
    spec.must_name("policyName", name::dns1123_subdomain);
    if let Some(param) = spec.some("paramRef") {
        let named = !param.text("name").is_empty();
        let why = "name and selector are mutually exclusive";
        param.may_name("name", name::path_segment);
        if named && param.has("selector") {
            param.forbidden("name", why);
        }
        selector::check(&param, "selector");
        if named && param.has("selector") {
            param.forbidden("selector", why);
        }
        if !named && !param.has("selector") {
            param.required("", "one of name or selector must be specified");
        }
        param.must_be_one_of("parameterNotFoundAction", &["Deny", "Allow"]);
    }
    if let Some(resources) = spec.some("matchResources") {
        match_resources(&resources);
    }
}

fn actions(spec: &At) {
    let mut seen = HashSet::new();
    for action in spec.each("validationActions") {
        action.exactly_one_of("", &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.text("")) {
            action.duplicate("");
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        spec.invalid("validationActions", why);
    }
    if seen.is_empty() {
        let why = "at least one validation action is required";
        spec.required("validationActions", why);
    }
}

/// A group of APIs that another server answers for.
pub(super) fn api_service(object: &At) {
    let spec = object.at("spec");
    let (group, version) = (spec.text("group"), spec.text("version"));
    let (name, wanted) = (object.text("metadata.name"), format!("{version}.{group}"));
    let problems = name::path_segment(name);
    for why in &problems {
        object.invalid("metadata.name", why);
    }
    if problems.is_empty() && !name.is_empty() && name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        object.invalid("metadata.name", &why);
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        spec.required("group", why);
    }
    spec.may_name("group", name::dns1123_subdomain);
    spec.name("version", name::dns1035_label);
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = spec.number(field);
        if !(1..=most).contains(&number) {
            let why = format!("must be positive and less than {most}");
            spec.invalid_as(field, number, &why);
        }
    }
    let (bundle, insecure) = (spec.text("caBundle"), spec.flag("insecureSkipTLSVerify"));
    let Some(service) = spec.some("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len() / 4 * 3);
            spec.invalid_as("caBundle", shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            spec.invalid("insecureSkipTLSVerify", why);
        }
        return;
    };
    service.need(&["namespace", "name"]);
    service_port(&service);
    if insecure && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        spec.invalid("insecureSkipTLSVerify", why);
    }
}
