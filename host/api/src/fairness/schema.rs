//! FlowSchemas and PriorityLevelConfigurations as requests are matched against them. Pure.
//!
//! Schemas are tried by rising precedence, then by name; one that names a level which does not exist is
//! passed over. `exempt` and `catch-all` are there even where their objects are not.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use crate::access::{Attributes, UserInfo};

pub(super) const EXEMPT: &str = "exempt";
pub(super) const CATCH_ALL: &str = "catch-all";

/// Names and uid of a stored object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub name: String,
    pub uid: String,
}

/// A FlowSchema.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct FlowSchema {
    pub metadata: Metadata,
    pub spec: FlowSchemaSpec,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FlowSchemaSpec {
    pub priority_level_configuration: Metadata,
    pub matching_precedence: i32,
    distinguisher_method: Option<Typed>,
    rules: Vec<Rules>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Typed {
    r#type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rules {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Metadata,
    group: Metadata,
    service_account: Account,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NonResourceRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

/// A PriorityLevelConfiguration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PriorityLevel {
    pub metadata: Metadata,
    pub spec: PriorityLevelSpec,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct PriorityLevelSpec {
    pub limited: Option<Limited>,
    pub exempt: Option<Shares>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Limited {
    #[serde(flatten)]
    pub shares: Shares,
    pub borrowing_limit_percent: Option<u32>,
    pub limit_response: LimitResponse,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Shares {
    pub nominal_concurrency_shares: Option<u32>,
    pub lendable_percent: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct LimitResponse {
    pub queuing: Option<Queuing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Queuing {
    pub queues: usize,
    pub hand_size: usize,
    pub queue_length_limit: usize,
}

impl Default for Queuing {
    fn default() -> Self {
        Self {
            queues: 64,
            hand_size: 8,
            queue_length_limit: 50,
        }
    }
}

impl FlowSchema {
    pub(super) fn matches(&self, user: &UserInfo, asked: &Attributes) -> bool {
        self.spec.rules.iter().any(|rules| {
            rules.subjects.iter().any(|subject| subject.is(user))
                && if asked.path.is_empty() {
                    rules.resource_rules.iter().any(|rule| rule.covers(asked))
                } else {
                    rules.non_resource_rules.iter().any(|rule| rule.covers(asked))
                }
        })
    }

    /// What tells the schema's flows from one another.
    pub(super) fn flow(&self, user: &UserInfo, asked: &Attributes) -> u64 {
        let method = self.spec.distinguisher_method.as_ref();
        let distinguisher = match method.map(|method| method.r#type.as_str()) {
            Some("ByUser") => user.name.as_str(),
            Some("ByNamespace") => asked.namespace.as_str(),
            _ => "",
        };
        let mut hasher = DefaultHasher::new();
        (&self.metadata.name, distinguisher).hash(&mut hasher);
        hasher.finish()
    }
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match self.kind.as_str() {
            "User" => self.user.name == "*" || self.user.name == user.name,
            "Group" => self.group.name == "*" || user.is_in(&self.group.name),
            "ServiceAccount" => {
                let account = user.name.strip_prefix("system:serviceaccount:");
                account
                    .and_then(|account| account.split_once(':'))
                    .is_some_and(|(namespace, name)| {
                        namespace == self.service_account.namespace
                            && (self.service_account.name == "*" || self.service_account.name == name)
                    })
            }
            _ => false,
        }
    }
}

fn has(list: &[String], value: &str) -> bool {
    matches!(list, [only] if only == "*") || list.iter().any(|one| one == value)
}

impl ResourceRule {
    fn covers(&self, asked: &Attributes) -> bool {
        if !has(&self.verbs, &asked.verb) || !has(&self.api_groups, &asked.group) {
            return false;
        }
        let resource = if asked.subresource.is_empty() {
            has(&self.resources, &asked.resource)
        } else {
            matches!(self.resources.as_slice(), [only] if only == "*")
                || self.resources.iter().any(|one| {
                    one.split_once('/')
                        .is_some_and(|parts| parts == (asked.resource.as_str(), asked.subresource.as_str()))
                })
        };
        resource
            && if asked.namespace.is_empty() {
                self.cluster_scope
            } else {
                has(&self.namespaces, &asked.namespace)
            }
    }
}

impl NonResourceRule {
    fn covers(&self, asked: &Attributes) -> bool {
        has(&self.verbs, &asked.verb)
            && self.non_resource_urls.iter().any(|url| {
                let below = url.trim_end_matches('*').trim_end_matches('/');
                url == "*"
                    || *url == asked.path
                    || asked
                        .path
                        .strip_prefix(below)
                        .is_some_and(|rest| rest.starts_with('/'))
            })
    }
}

impl PriorityLevel {
    /// Whether the object makes sense, as the original asks of it.
    pub(super) fn is_sound(&self) -> bool {
        (self.metadata.name == EXEMPT) == self.spec.exempt.is_some()
            && self.spec.limited.is_some() != self.spec.exempt.is_some()
    }

    pub(super) fn shares(&self) -> u32 {
        match (&self.spec.limited, &self.spec.exempt) {
            (Some(limited), _) => limited.shares.nominal_concurrency_shares.unwrap_or(30),
            (None, Some(exempt)) => exempt.nominal_concurrency_shares.unwrap_or(0),
            (None, None) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(verb: &str, place: [&str; 5]) -> Attributes {
        let [group, resource, subresource, namespace, path] = place.map(str::to_owned);
        Attributes {
            verb: verb.into(),
            group,
            resource,
            subresource,
            namespace,
            path,
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_match_as_the_originals_do() {
        let schema: FlowSchema = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {
            "distinguisherMethod": {"type": "ByNamespace"},
            "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}},
                    {"kind": "User", "user": {"name": "u"}}, {"kind": "Group", "group": {"name": "g"}}],
                "resourceRules": [{"verbs": ["get", "list"], "apiGroups": ["*"], "resources": ["pods", "nodes/status"],
                    "namespaces": ["*"]}, {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes"], "clusterScope": true}],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/open*", "/a/*"]}],
            }]}}))
        .unwrap();
        let account = UserInfo::service_account("kube-system", "a", "");
        for (user, asked, expected) in [
            (
                UserInfo::new("u", &[]),
                asked("get", ["", "pods", "", "n", ""]),
                true,
            ),
            (account.clone(), asked("get", ["", "pods", "", "n", ""]), true),
            (
                UserInfo::new("x", &["g"]),
                asked("list", ["", "pods", "", "n", ""]),
                true,
            ),
            (
                UserInfo::new("x", &[]),
                asked("get", ["", "pods", "", "n", ""]),
                false,
            ),
            (account.clone(), asked("get", ["", "pods", "", "", ""]), false),
            (account.clone(), asked("get", ["", "pods", "log", "n", ""]), false),
            (
                account.clone(),
                asked("get", ["", "nodes", "status", "n", ""]),
                true,
            ),
            (account.clone(), asked("update", ["", "nodes", "", "", ""]), true),
            (account.clone(), asked("get", ["", "", "", "", "/healthz"]), true),
            (
                account.clone(),
                asked("get", ["", "", "", "", "/healthz/etcd"]),
                true,
            ),
            (account.clone(), asked("get", ["", "", "", "", "/a/b"]), true),
            (account, asked("get", ["", "", "", "", "/openapi"]), false),
        ] {
            assert_eq!(schema.matches(&user, &asked), expected, "{user:?} {asked:?}");
        }
        let flow = |user: &str, namespace: &str| {
            schema.flow(
                &UserInfo::new(user, &[]),
                &asked("get", ["", "pods", "", namespace, ""]),
            )
        };
        assert_eq!(flow("a", "n"), flow("b", "n"));
        assert_ne!(flow("a", "n"), flow("a", "m"));
    }
}
