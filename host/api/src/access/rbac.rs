//! RBAC: roles and bindings, decoded once for each change of them, asked for every request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use capstan_kinds::resource::{Resource, find};
use capstan_store::Revision;
use serde::Deserialize;

use super::authorize::Decision;
use super::rules::{Attributes, Rule};
use super::user::UserInfo;
use crate::registry::{Entry, Registry};

const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingDocument {
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    role_ref: RoleRef,
}

#[derive(Debug, Default, Deserialize)]
struct RoleDocument {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Debug)]
struct Binding {
    /// Empty for cluster-wide bindings.
    namespace: String,
    name: String,
    role: String,
    subjects: Vec<Subject>,
    /// None where the role is not there.
    rules: Option<Arc<[Rule]>>,
}

impl Binding {
    fn rules(&self) -> &[Rule] {
        self.rules.as_deref().unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Table {
    revisions: [Revision; 4],
    cluster_wide: Vec<Binding>,
    by_namespace: HashMap<String, Vec<Binding>>,
}

/// See the module.
pub(crate) struct Rbac {
    kinds: [Arc<Resource>; 4],
    table: Mutex<Arc<Table>>,
}

impl Rbac {
    /// None where the table of kinds has no RBAC.
    pub(crate) fn new() -> Option<Self> {
        let kind = |plural| find(GROUP, "v1", plural);
        let kinds = [
            kind("clusterroles")?,
            kind("clusterrolebindings")?,
            kind("roles")?,
            kind("rolebindings")?,
        ];
        Some(Self {
            kinds,
            table: Mutex::default(),
        })
    }

    /// Whether the user may; a refusal names the roles that are bound but missing.
    pub(crate) fn decide(&self, registry: &Registry, user: &UserInfo, asked: &Attributes) -> Decision {
        let table = self.table(registry);
        let granted = applying(&table, user, &asked.namespace)
            .find(|binding| binding.rules().iter().any(|rule| rule.allows(asked)));
        match granted {
            Some(binding) => {
                let (kind, name) = match binding.namespace.as_str() {
                    "" => ("ClusterRoleBinding", format!("\"{}\"", binding.name)),
                    namespace => ("RoleBinding", format!("\"{}/{namespace}\"", binding.name)),
                };
                let reason = format!(
                    "RBAC: allowed by {kind} {name} of {} to {}",
                    binding.role,
                    binding.shown_subject(user)
                );
                Decision {
                    allowed: true,
                    reason,
                }
            }
            None => Decision::refused(missing(&table, user, &asked.namespace)),
        }
    }

    /// All rules that apply to the user in a namespace.
    pub(crate) fn rules(&self, registry: &Registry, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        if user.is_in("system:masters") {
            let all = || vec!["*".to_owned()];
            return vec![
                Rule {
                    verbs: all(),
                    api_groups: all(),
                    resources: all(),
                    ..Rule::default()
                },
                Rule {
                    verbs: all(),
                    non_resource_urls: all(),
                    ..Rule::default()
                },
            ];
        }
        let table = self.table(registry);
        applying(&table, user, namespace)
            .flat_map(|binding| binding.rules().iter().cloned())
            .collect()
    }

    fn table(&self, registry: &Registry) -> Arc<Table> {
        let revisions = self.kinds.each_ref().map(|kind| registry.cache(kind).revision());
        let mut held = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if held.revisions != revisions {
            *held = Arc::new(self.read(registry, revisions));
        }
        held.clone()
    }

    fn read(&self, registry: &Registry, revisions: [Revision; 4]) -> Table {
        let [cluster_roles, cluster_bindings, roles, bindings] =
            self.kinds.each_ref().map(|kind| registry.cache(kind).list("").1);
        let rules = |entry: &Entry| -> Arc<[Rule]> {
            let role: RoleDocument = serde_json::from_slice(&entry.bytes).unwrap_or_default();
            role.rules.unwrap_or_default().into()
        };
        let cluster_rules: HashMap<&str, Arc<[Rule]>> = cluster_roles
            .iter()
            .map(|(key, entry)| (&**key, rules(entry)))
            .collect();
        let own_rules: HashMap<&str, Arc<[Rule]>> =
            roles.iter().map(|(key, entry)| (&**key, rules(entry))).collect();
        let binding = |entry: &Entry| -> Option<Binding> {
            let document: BindingDocument = serde_json::from_slice(&entry.bytes).ok()?;
            let namespace = entry.index.namespace.to_string();
            let RoleRef { kind, name } = document.role_ref;
            let rules = match kind.as_str() {
                "ClusterRole" => cluster_rules.get(name.as_str()),
                _ => own_rules.get(format!("{namespace}/{name}").as_str()),
            };
            Some(Binding {
                namespace,
                name: entry.index.name.to_string(),
                role: format!("{kind} \"{name}\""),
                subjects: document.subjects.unwrap_or_default(),
                rules: rules.cloned(),
            })
        };
        let mut by_namespace: HashMap<String, Vec<Binding>> = HashMap::new();
        for one in bindings.iter().filter_map(|(_, entry)| binding(entry)) {
            by_namespace.entry(one.namespace.clone()).or_default().push(one);
        }
        let cluster_wide = cluster_bindings
            .iter()
            .filter_map(|(_, entry)| binding(entry))
            .collect();
        Table {
            revisions,
            cluster_wide,
            by_namespace,
        }
    }
}

/// What RBAC says of bound roles that are not there.
fn missing(table: &Table, user: &UserInfo, namespace: &str) -> String {
    let lost: Vec<String> = applying(table, user, namespace)
        .filter(|binding| binding.rules.is_none())
        .map(|binding| {
            let (kind, name) = binding.role.split_once(' ').unwrap_or_default();
            format!("{}.{GROUP} {name} not found", kind.to_lowercase())
        })
        .collect();
    match lost.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    }
}

fn applying<'a>(table: &'a Table, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Binding> {
    let own = table.by_namespace.get(namespace).into_iter().flatten();
    let all = table.cluster_wide.iter().chain(own);
    all.filter(|binding| binding.subject(user).is_some())
}

impl Binding {
    /// The subject through which the user is bound.
    fn subject(&self, user: &UserInfo) -> Option<&Subject> {
        self.subjects.iter().find(|subject| match subject.kind.as_str() {
            "User" => subject.name == "*" || subject.name == user.name,
            "Group" => user.is_in(&subject.name),
            "ServiceAccount" => user
                .as_service_account()
                .is_some_and(|(namespace, name)| namespace == self.home(subject) && name == subject.name),
            _ => false,
        })
    }

    /// The namespace of a subject; a binding's own where the subject says none.
    fn home<'a>(&'a self, subject: &'a Subject) -> &'a str {
        match subject.namespace.as_str() {
            "" => &self.namespace,
            namespace => namespace,
        }
    }

    fn shown_subject(&self, user: &UserInfo) -> String {
        match self.subject(user) {
            Some(subject) if subject.kind == "ServiceAccount" => {
                format!("ServiceAccount \"{}/{}\"", subject.name, self.home(subject))
            }
            Some(subject) => format!("{} \"{}\"", subject.kind, subject.name),
            None => String::new(),
        }
    }
}
