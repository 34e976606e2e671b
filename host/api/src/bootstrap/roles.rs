//! The default roles and bindings, from their table, and what a start does to those that are there already:
//! permissions and subjects that they lack are given back, what was added to them stays. The annotation
//! `rbac.authorization.kubernetes.io/autoupdate: "false"` keeps a role or binding as it is.

use capstan_kinds::aggregation;
use serde::Deserialize;
use serde_json::{Value, json};

const TABLE: &str = include_str!("../../data/roles.yaml");
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
/// How far roles aggregate roles that aggregate: admin has edit, which has view.
const AGGREGATION_DEPTH: usize = 3;
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Table {
    cluster_roles: Vec<Role>,
    cluster_role_bindings: Vec<Binding>,
    roles: Vec<Role>,
    role_bindings: Vec<Binding>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: serde_json::Map<String, Value>,
    /// Label keys of the roles whose rules it has.
    #[serde(default)]
    aggregates: Vec<String>,
    #[serde(default)]
    rules: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    name: String,
    namespace: Option<String>,
    /// `KIND NAME`; the ClusterRole of the binding's own name where it is none.
    role: Option<String>,
    /// `KIND NAME`, of a ServiceAccount `KIND NAMESPACE/NAME`.
    subjects: Vec<String>,
}

/// All of them, roles before bindings.
pub(super) fn objects() -> Result<Vec<Value>, serde_norway::Error> {
    let table: Table = serde_norway::from_str(TABLE)?;
    let mut roles: Vec<Value> = table
        .cluster_roles
        .iter()
        .map(|one| one.document("ClusterRole"))
        .collect();
    for _ in 0..AGGREGATION_DEPTH {
        let filled = roles.iter().map(|role| aggregation::rules(role, &roles));
        let filled: Vec<_> = filled.collect();
        for (role, rules) in roles.iter_mut().zip(filled) {
            if let Some(rules) = rules {
                role["rules"] = json!(rules);
            }
        }
    }
    roles.extend(table.roles.iter().map(|one| one.document("Role")));
    let cluster_wide = &table.cluster_role_bindings;
    roles.extend(cluster_wide.iter().map(|one| one.document("ClusterRoleBinding")));
    roles.extend(table.role_bindings.iter().map(|one| one.document("RoleBinding")));
    Ok(roles)
}

fn metadata(name: &str, namespace: Option<&String>, labels: &serde_json::Map<String, Value>) -> Value {
    let mut metadata = json!({
        "name": name, "labels": labels, "annotations": { AUTO_UPDATE: "true" },
    });
    metadata["labels"]["kubernetes.io/bootstrapping"] = json!("rbac-defaults");
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

impl Role {
    fn document(&self, kind: &str) -> Value {
        let mut role = json!({
            "apiVersion": API_VERSION, "kind": kind,
            "metadata": metadata(&self.name, self.namespace.as_ref(), &self.labels),
            "rules": self.rules,
        });
        if !self.aggregates.is_empty() {
            let selectors = self
                .aggregates
                .iter()
                .map(|key| json!({ "matchLabels": { key: "true" } }));
            role["aggregationRule"] = json!({ "clusterRoleSelectors": selectors.collect::<Vec<_>>() });
        }
        role
    }
}

impl Binding {
    fn document(&self, kind: &str) -> Value {
        let own = format!("ClusterRole {}", self.name);
        let (role_kind, role) = split(self.role.as_ref().unwrap_or(&own));
        let subjects: Vec<Value> = self.subjects.iter().map(|one| subject(one)).collect();
        let mut binding = json!({
            "apiVersion": API_VERSION, "kind": kind,
            "metadata": metadata(&self.name, self.namespace.as_ref(), &serde_json::Map::new()),
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role },
        });
        if !subjects.is_empty() {
            binding["subjects"] = json!(subjects);
        }
        binding
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or(("", text))
}

fn subject(text: &str) -> Value {
    match split(text) {
        ("ServiceAccount", account) => {
            let (namespace, name) = account.split_once('/').unwrap_or(("", account));
            json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
        }
        (kind, name) => json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name }),
    }
}

/// Gives a stored role or binding back what it lacks of the default.
pub(super) fn reconcile(stored: &mut Value, default: &Value) {
    if stored["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return;
    }
    if default["aggregationRule"].is_object() {
        add(
            &mut stored["aggregationRule"],
            "clusterRoleSelectors",
            &default["aggregationRule"],
        );
        return;
    }
    add(stored, "rules", default);
    if stored["roleRef"] == default["roleRef"] {
        add(stored, "subjects", default);
    }
}

fn add(stored: &mut Value, field: &str, default: &Value) {
    for one in default[field].as_array().into_iter().flatten() {
        match stored[field].as_array_mut() {
            Some(list) if list.contains(one) => {}
            Some(list) => list.push(one.clone()),
            None => stored[field] = json!([one]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_lost_rules_come_back() {
        let all = objects().unwrap();
        let named = |kind: &str, name: &str| {
            let found = all
                .iter()
                .find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
            found.unwrap().clone()
        };
        for role in ["admin", "edit", "view"] {
            assert!(
                !named("ClusterRole", role)["rules"].as_array().unwrap().is_empty(),
                "{role}"
            );
        }
        let count = |role: &str| named("ClusterRole", role)["rules"].as_array().unwrap().len();
        assert!(count("admin") > count("edit"), "admin has the rules of edit, too");
        for one in all.iter().filter(|one| one["roleRef"].is_object()) {
            let role = &one["roleRef"];
            named(role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
        }
        let default = named("ClusterRole", "system:basic-user");
        let mut stored = default.clone();
        let own = json!({"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]});
        stored["rules"] = json!([own]);
        reconcile(&mut stored, &default);
        assert_eq!(stored["rules"].as_array().unwrap().len(), 3);
        stored["rules"] = json!([own]);
        stored["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        reconcile(&mut stored, &default);
        assert_eq!(stored["rules"], json!([own]));
    }
}
