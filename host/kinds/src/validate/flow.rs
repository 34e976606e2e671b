//! Rules of flow schemas and priority levels.
//! Invariants: the two that must exist keep the meaning that the server counts on.

use std::collections::HashSet;

use super::at::At;
use crate::name;
use crate::resource::Resource;

const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
/// Bits of a hash from which hands are dealt.
const HASH_BITS: u32 = 60;
const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];

pub(super) fn check(resource: &Resource, object: &At) {
    let spec = object.at("spec");
    match resource.kind.as_str() {
        "FlowSchema" => schema(object.text("metadata.name"), &spec),
        "PriorityLevelConfiguration" => level(object.text("metadata.name"), &spec),
        _ => {}
    }
}

fn schema(name: &str, spec: &At) {
    let field = "matchingPrecedence";
    let precedence = spec.number(field);
    if precedence <= 0 {
        spec.invalid_as(field, precedence, "must be a positive value");
    }
    if precedence > PRECEDENCE_MAX {
        spec.invalid(field, &format!("must not be greater than {PRECEDENCE_MAX}"));
    }
    if precedence == 1 && name != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        spec.invalid(field, why);
    }
    if spec.has("distinguisherMethod") {
        spec.exactly_one_of("distinguisherMethod.type", &["ByNamespace", "ByUser"]);
    }
    let level = spec.at("priorityLevelConfiguration");
    if level.text("name").is_empty() {
        level.required("name", "must reference a priority level");
    } else {
        level.name("name", name::dns1123_subdomain);
    }
    for rule in spec.each("rules") {
        if rule.count("subjects") == 0 {
            rule.required("subjects", "subjects must contain at least one value");
        }
        rule.each("subjects").for_each(|subject| self::subject(&subject));
        if rule.count("resourceRules") + rule.count("nonResourceRules") == 0 {
            let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
            rule.required("", why);
        }
        rule.each("resourceRules").for_each(|one| resource_rule(&one));
        rule.each("nonResourceRules").for_each(|one| path_rule(&one));
    }
}

fn subject(at: &At) {
    let kinds = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let Some((kind, own)) = kinds.iter().find(|(kind, _)| *kind == at.text("kind")) else {
        return at.unsupported("kind", &["Group", "ServiceAccount", "User"]);
    };
    match at.some(own) {
        None => at.required(own, &format!("{own} is required when subject kind is '{kind}'")),
        Some(account) if *kind == "ServiceAccount" => {
            if account.text("name").is_empty() {
                account.required("name", "");
            } else if account.text("name") != "*" {
                account.name("name", name::dns1123_subdomain);
            }
            if account.text("namespace").is_empty() {
                account.required("namespace", "must specify namespace for service account");
            } else {
                account.name("namespace", name::dns1123_label);
            }
        }
        Some(one) => one.need(&["name"]),
    }
    for (kind, field) in kinds.iter().filter(|(_, field)| field != own && at.has(field)) {
        let why = format!("{field} is forbidden when subject kind is not '{kind}'");
        at.forbidden(field, &why);
    }
}

fn verbs(at: &At) {
    let given: Vec<&str> = at.texts("verbs").collect();
    if given.is_empty() {
        at.required("verbs", "verbs must contain at least one value");
    } else if given.contains(&"*") {
        if given.len() > 1 {
            at.invalid("verbs", "if '*' is present, must not specify other verbs");
        }
    } else if given.iter().any(|verb| !VERBS.contains(verb)) {
        let known: Vec<String> = VERBS.iter().map(|verb| format!("{verb:?}")).collect();
        let shown = serde_json::json!(given);
        let message = format!(
            "Unsupported value: {shown}: supported values: {}",
            known.join(", ")
        );
        let cause = super::Cause::NotSupported;
        at.say(super::FieldError::new(at.path("verbs"), cause, message));
    }
}

fn alone(at: &At, field: &str, empty: &str, what: &str) -> bool {
    let given: Vec<&str> = at.texts(field).collect();
    if given.is_empty() {
        at.required(field, empty);
        return false;
    }
    let any = given.contains(&"*");
    if any && given.len() > 1 {
        let why = format!("if '*' is present, must not specify other {what}");
        at.invalid(field, &why);
    }
    !any
}

fn resource_rule(at: &At) {
    verbs(at);
    let groups = "resource rules must supply at least one api group";
    alone(at, "apiGroups", groups, "api groups");
    let resources = "resource rules must supply at least one resource";
    alone(at, "resources", resources, "resources");
    if at.count("namespaces") == 0 && at.flag("clusterScope") {
        return;
    }
    let namespaces = "resource rules that are not cluster scoped must supply at least one namespace";
    if alone(at, "namespaces", namespaces, "namespaces") {
        for namespace in at.each("namespaces") {
            for why in name::dns1123_label(namespace.text("")) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                namespace.invalid("", &why);
            }
        }
    }
}

fn path_rule(at: &At) {
    verbs(at);
    let empty = "nonResourceURLs must contain at least one value";
    if !alone(at, "nonResourceURLs", empty, "non-resource URLs") {
        return;
    }
    for url in at.each("nonResourceURLs") {
        let path = url.text("");
        let why = if path.is_empty() {
            "must not be empty"
        } else if path == "/" {
            continue;
        } else if !path.starts_with('/') {
            "must start with slash"
        } else if path.contains(' ') {
            "must not contain white-space"
        } else if path.contains("//") {
            "must not contain double slash"
        } else if path.matches('*').count() > 1 || (path.contains('*') && !path.ends_with("/*")) {
            "wildcard can only do suffix matching"
        } else {
            continue;
        };
        url.invalid_as("", path, why);
    }
}

fn level(name: &str, spec: &At) {
    let kind = spec.text("type");
    if (name == "exempt") != (kind == "Exempt") {
        spec.invalid_as("type", kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    match kind {
        "Exempt" => {
            if spec.has("limited") {
                spec.forbidden("limited", "must be nil if the type is not Limited");
            }
            if let Some(exempt) = spec.some("exempt") {
                shares(&exempt);
            }
        }
        "Limited" => {
            if spec.has("exempt") {
                spec.forbidden("exempt", "must be nil if the type is Limited");
            }
            match spec.some("limited") {
                None => spec.required("limited", "must not be empty when type is Limited"),
                Some(limited) => self::limited(&limited),
            }
        }
        _ => spec.unsupported("type", &["Exempt", "Limited"]),
    }
}

fn shares(at: &At) {
    if at.number("nominalConcurrencyShares") < 0 {
        at.invalid("nominalConcurrencyShares", "must be a non-negative integer");
    }
    at.range("lendablePercent", 0, 100);
}

fn limited(at: &At) {
    shares(at);
    let response = at.at("limitResponse");
    match (response.text("type"), response.some("queuing")) {
        ("Reject", Some(_)) => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            response.forbidden("queuing", why);
        }
        ("Reject", None) => {}
        ("Queue", None) => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            response.required("queuing", why);
        }
        ("Queue", Some(queuing)) => self::queuing(&queuing),
        _ => response.unsupported("type", &["Queue", "Reject"]),
    }
    if at.number("borrowingLimitPercent") < 0 {
        let why = "if specified, must be a non-negative integer";
        at.invalid("borrowingLimitPercent", why);
    }
}

fn queuing(at: &At) {
    let (queues, hand) = (at.number("queues"), at.number("handSize"));
    if at.number("queueLengthLimit") <= 0 {
        at.invalid_as(
            "queueLengthLimit",
            at.number("queueLengthLimit"),
            "must be positive",
        );
    }
    if queues <= 0 {
        at.invalid_as("queues", queues, "must be positive");
    } else if queues > QUEUES_MAX {
        at.invalid("queues", &format!("must not be greater than {QUEUES_MAX}"));
    }
    if hand <= 0 {
        at.invalid_as("handSize", hand, "must be positive");
    } else if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        at.invalid("handSize", &why);
    } else if entropy(queues, hand) > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        at.invalid("handSize", &why);
    }
}

/// Bits that dealing a hand from a deck takes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn entropy(deck: i64, hand: i64) -> u32 {
    let bits: f64 = (0..hand).map(|dealt| ((deck - dealt) as f64).log2()).sum();
    bits.ceil() as u32
}

/// Conditions of either kind: named, and each once.
pub(super) fn status(new: &At) {
    let mut seen = HashSet::new();
    for condition in new.each("status.conditions") {
        if !seen.insert(condition.text("type")) {
            condition.duplicate("type");
        }
        condition.need(&["type"]);
    }
}
