//! Rules of roles and of what binds them.
//! Invariants: whether the author may give what a role gives is the authorizer's to say.

use serde_json::Value;

use super::at::At;
use super::selector;
use crate::name;
use crate::resource::Resource;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    match resource.kind.as_str() {
        "Role" | "ClusterRole" => role(resource.namespaced, object),
        "RoleBinding" | "ClusterRoleBinding" => {
            binding(resource.namespaced, object);
            if old.is_some_and(|old| old.get("roleRef") != object.get("roleRef")) {
                object.invalid("roleRef", "cannot change roleRef");
            }
        }
        _ => {}
    }
}

fn role(namespaced: bool, role: &At) {
    for rule in role.each("rules") {
        if rule.count("verbs") == 0 {
            rule.required("verbs", "verbs must contain at least one value");
        }
        if rule.count("nonResourceURLs") > 0 {
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                rule.invalid("nonResourceURLs", why);
            }
            let lists = ["apiGroups", "resources", "resourceNames"];
            if lists.iter().any(|list| rule.count(list) > 0) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                rule.invalid("nonResourceURLs", why);
            }
            continue;
        }
        if rule.count("apiGroups") == 0 {
            rule.required("apiGroups", "resource rules must supply at least one api group");
        }
        if rule.count("resources") == 0 {
            rule.required("resources", "resource rules must supply at least one resource");
        }
    }
    let Some(rule) = role.some("aggregationRule") else {
        return;
    };
    if rule.count("clusterRoleSelectors") == 0 {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        rule.required("clusterRoleSelectors", why);
    }
    for selector in rule.each("clusterRoleSelectors") {
        selector::check(&selector, "");
        if selector::selects(selector.value(), None).is_none() {
            selector.invalid_as("", Value::Null, "invalid label selector.");
        }
    }
}

fn binding(namespaced: bool, object: &At) {
    let role = object.at("roleRef");
    role.exactly_one_of("apiGroup", &[GROUP]);
    if namespaced {
        role.exactly_one_of("kind", &["Role", "ClusterRole"]);
    } else {
        role.exactly_one_of("kind", &["ClusterRole"]);
    }
    role.must_name("name", name::path_segment);
    for subject in object.each("subjects") {
        subject.need(&["name"]);
        match subject.text("kind") {
            "ServiceAccount" => {
                subject.may_name("name", name::dns1123_subdomain);
                if !subject.text("apiGroup").is_empty() {
                    subject.unsupported("apiGroup", &[""]);
                }
                if !namespaced {
                    subject.need(&["namespace"]);
                }
            }
            "User" | "Group" => subject.exactly_one_of("apiGroup", &[GROUP]),
            _ => subject.unsupported("kind", &["ServiceAccount", "User", "Group"]),
        }
    }
}
