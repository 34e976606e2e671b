//! Nobody grants more than they have: writing a role needs its permissions, binding one needs the role's.
//! The verbs `escalate` and `bind` on roles lift that, as in the original.

use capstan_kinds::resource::find;
use capstan_kinds::status::Status;
use serde_json::Value;

use super::{Attributes, Rule};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Single permissions that one role may spell out.
const PERMISSIONS_MAX: usize = 100_000;

/// Judges a new or changed role or binding; other kinds pass.
pub(crate) fn check(server: &Server, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), Refusal> {
    if call.resource.group != GROUP || call.user.is_in("system:masters") {
        return Ok(());
    }
    let same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let role_ref = &new["roleRef"];
    let (verb, plural, role) = match call.resource.kind.as_str() {
        "Role" | "ClusterRole" if same("rules") => return Ok(()),
        "Role" | "ClusterRole" => ("escalate", call.resource.plural.as_str(), name),
        _ if same("roleRef") && same("subjects") => return Ok(()),
        _ => {
            let plural = if role_ref["kind"] == "ClusterRole" {
                "clusterroles"
            } else {
                "roles"
            };
            ("bind", plural, role_ref["name"].as_str().unwrap_or_default())
        }
    };
    let lifted = Attributes {
        verb: verb.into(),
        group: GROUP.into(),
        resource: plural.into(),
        namespace: call.namespace().to_owned(),
        name: role.to_owned(),
        ..Attributes::default()
    };
    if server.rbac.decide(&server.registry, &call.user, &lifted).allowed {
        return Ok(());
    }
    let granted = match verb {
        "escalate" => rules(new),
        _ => referred(server, call, plural, role)?,
    };
    let held = server.rbac.rules(&server.registry, &call.user, call.namespace());
    let missing: Vec<String> = granted
        .iter()
        .filter(|rule| !covered(rule, &held))
        .map(shown)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        call.user.name,
        call.user.groups,
        missing.join("\n")
    );
    Err(Status::forbidden(&call.resource, name, &why).into())
}

fn rules(role: &Value) -> Vec<Rule> {
    serde_json::from_value(role["rules"].clone()).unwrap_or_default()
}

fn referred(server: &Server, call: &Call, plural: &str, name: &str) -> Result<Vec<Rule>, Refusal> {
    let Some(resource) = find(GROUP, "v1", plural) else {
        return Ok(Vec::new());
    };
    let namespace = if resource.namespaced { call.namespace() } else { "" };
    match server.registry.cached(&resource, namespace, name) {
        Some(role) => Ok(rules(&role.decode())),
        None => Err(Status::not_found(&resource, name).into()),
    }
}

/// Whether every single permission of the rule is held.
fn covered(rule: &Rule, held: &[Rule]) -> bool {
    let permissions = permissions(rule);
    permissions.len() <= PERMISSIONS_MAX
        && permissions
            .iter()
            .all(|one| held.iter().any(|rule| rule.allows(one)))
}

fn permissions(rule: &Rule) -> Vec<Attributes> {
    let mut all = Vec::new();
    let any = [String::new()];
    let names: &[String] = if rule.resource_names.is_empty() {
        &any
    } else {
        &rule.resource_names
    };
    for verb in &rule.verbs {
        let paths = rule.non_resource_urls.iter();
        all.extend(paths.map(|path| Attributes {
            verb: verb.clone(),
            path: path.clone(),
            ..Attributes::default()
        }));
        for (group, resource) in rule
            .api_groups
            .iter()
            .flat_map(|g| rule.resources.iter().map(move |r| (g, r)))
        {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            all.extend(names.iter().map(|name| Attributes {
                verb: verb.clone(),
                group: group.clone(),
                resource: resource.to_owned(),
                subresource: subresource.to_owned(),
                name: name.clone(),
                ..Attributes::default()
            }));
            if all.len() > PERMISSIONS_MAX {
                return all;
            }
        }
    }
    all
}

fn shown(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (name, list) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ] {
        if !list.is_empty() {
            parts.push(format!("{name}:{list:?}"));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, held: &str, expected: bool) {
        let rule: Rule = serde_json::from_str(rule).unwrap();
        let held: Rule = serde_json::from_str(held).unwrap();
        assert_eq!(covered(&rule, &[held]), expected, "{rule:?}");
    }

    #[test]
    fn only_what_is_held_is_covered() {
        let pods = r#"{"verbs":["get","list"],"apiGroups":[""],"resources":["pods","pods/log"]}"#;
        let all = r#"{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}"#;
        let one = r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods"],"resourceNames":["a"]}"#;
        check(pods, pods, true);
        check(pods, all, true);
        check(all, pods, false);
        check(one, pods, true);
        check(pods, one, false);
        let path = |path: &str| format!(r#"{{"verbs":["get"],"nonResourceURLs":["{path}"]}}"#);
        check(&path("/logs/x"), &path("/logs/*"), true);
        check(&path("*"), &path("/logs/*"), false);
    }
}
