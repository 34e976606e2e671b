//! Nobody grants more than they have: writing a role needs its permissions, binding one needs the role's.
//! The verbs `escalate` and `bind` on roles lift that, as in the original.

use capstan_kinds::resource::find;
use capstan_kinds::status::Status;
use serde_json::Value;

use super::{Attributes, MASTERS, Rule};
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

const GROUP: &str = "rbac.authorization.k8s.io";
/// Single permissions that one role may spell out.
const PERMISSIONS_MAX: usize = 100_000;

/// Judges a new or changed role or binding; other kinds pass.
pub(crate) fn check(server: &Server, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), Refusal> {
    if call.resource.group != GROUP || call.user.is_in(MASTERS) {
        return Ok(());
    }
    let same = |field: &str| old.is_some_and(|old| old[field] == new[field]);
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let role_ref = &new["roleRef"];
    let (verb, plural, role) = match call.resource.kind.as_str() {
        "Role" | "ClusterRole" if same("rules") && same("aggregationRule") => return Ok(()),
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
    if server.decide(&call.user, &lifted).allowed {
        return Ok(());
    }
    let granted = match verb {
        "escalate" => rules(new),
        _ => referred(server, call, plural, role)?,
    };
    let held = server.rbac.rules(&server.registry, &call.user, call.namespace());
    if let Some(missing) = missing(&granted, &held) {
        let groups: Vec<String> = call.user.groups.iter().map(|one| format!("{one:?}")).collect();
        let why = format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{missing}",
            call.user.name,
            groups.join(" "),
        );
        return Err(Status::forbidden(&call.resource, name, &why).into());
    }
    let aggregates = |role: &Value| {
        let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
        selectors.is_some_and(|list| !list.is_empty())
    };
    if verb == "escalate"
        && (aggregates(new) || old.is_some_and(aggregates))
        && self::missing(&everything(), &held).is_some()
    {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        return Err(Status::forbidden(&call.resource, name, why).into());
    }
    Ok(())
}

/// What only a cluster administrator has.
fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    let resources = Rule {
        verbs: all(),
        api_groups: all(),
        resources: all(),
        ..Rule::default()
    };
    let paths = Rule {
        verbs: all(),
        non_resource_urls: all(),
        ..Rule::default()
    };
    [resources, paths]
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

/// The permissions that are not held, a line for each group and resource; none where all are.
fn missing(granted: &[Rule], held: &[Rule]) -> Option<String> {
    let mut lost: Vec<Rule> = Vec::new();
    for rule in granted {
        let permissions = permissions(rule);
        if permissions.len() > PERMISSIONS_MAX {
            lost.push(rule.clone());
            continue;
        }
        for one in permissions
            .iter()
            .filter(|one| !held.iter().any(|rule| rule.allows(one)))
        {
            note(&mut lost, one);
        }
    }
    let mut lines: Vec<String> = lost.iter().map(shown).collect();
    lines.sort();
    lines.dedup();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Adds a permission: those of one resource that differ in the verb alone become one rule.
fn note(lost: &mut Vec<Rule>, one: &Attributes) {
    if !one.path.is_empty() {
        lost.push(Rule {
            verbs: vec![one.verb.clone()],
            non_resource_urls: vec![one.path.clone()],
            ..Rule::default()
        });
        return;
    }
    let resource = match one.subresource.as_str() {
        "" => one.resource.clone(),
        subresource => format!("{}/{subresource}", one.resource),
    };
    let rule = Rule {
        verbs: vec![one.verb.clone()],
        api_groups: vec![one.group.clone()],
        resources: vec![resource],
        resource_names: Some(one.name.clone())
            .filter(|name| !name.is_empty())
            .into_iter()
            .collect(),
        ..Rule::default()
    };
    let same = lost.iter_mut().find(|known| {
        rule.resource_names.is_empty()
            && known.resource_names.is_empty()
            && known.api_groups == rule.api_groups
            && known.resources == rule.resources
    });
    match same {
        Some(known) if known.verbs.contains(&one.verb) => {}
        Some(known) => known.verbs.push(one.verb.clone()),
        None => lost.push(rule),
    }
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
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ] {
        if !list.is_empty() {
            let quoted: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
            parts.push(format!("{name}:[{}]", quoted.join(" ")));
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
        assert_eq!(missing(&[rule], &[held]).is_none(), expected);
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
        let pods: Rule = serde_json::from_str(pods).unwrap();
        assert_eq!(
            missing(&[pods], &[]).unwrap(),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}
{APIGroups:[""], Resources:["pods/log"], Verbs:["get" "list"]}"#
        );
    }
}
