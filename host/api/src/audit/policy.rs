//! The audit policy: which requests are told of, at which level and stage. Pure.
//!
//! The file's form and the matching are those of the original's `audit.k8s.io/v1` Policy: the first rule that
//! matches decides, and nothing is told of a request that none matches.

use serde::{Deserialize, Serialize};

use crate::access::{Attributes, UserInfo};

/// How much of a request is told. In order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub(crate) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// When it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// The policy file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[allow(dead_code, reason = "allowed in the file, without meaning")]
    metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Judgement {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy file, YAML or JSON; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_norway::from_str(text).map_err(|error| error.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(format!(
                "unknown group version field {} in policy: apiVersion must be audit.k8s.io/v1 and kind Policy",
                policy.api_version
            ));
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".into());
        }
        for (position, rule) in policy.rules.iter().enumerate() {
            rule.check()
                .map_err(|problem| format!("rules[{position}].{problem}"))?;
        }
        Ok(policy)
    }

    pub(crate) fn judge(&self, user: &UserInfo, asked: &Attributes) -> Judgement {
        match self.rules.iter().find(|rule| rule.matches(user, asked)) {
            Some(rule) => Judgement {
                level: rule.level.unwrap_or_default(),
                omit_stages: self
                    .omit_stages
                    .iter()
                    .chain(&rule.omit_stages)
                    .copied()
                    .collect(),
                omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            },
            None => Judgement::default(),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        if self.level.is_none() {
            return Err(
                "level: Required value: one of None, Metadata, Request and RequestResponse".to_owned(),
            );
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            return Err(
                "nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs"
                    .to_owned(),
            );
        }
        for url in &self.non_resource_urls {
            if url != "*" && !url.starts_with('/') {
                return Err(format!(
                    "nonResourceURLs: Invalid value: \"{url}\": non-resource URL rules must begin with a '/' character"
                ));
            }
            if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
                return Err(format!(
                    "nonResourceURLs: Invalid value: \"{url}\": non-resource URL wildcards '*' must be the final character of the rule"
                ));
            }
        }
        for one in &self.resources {
            if one.group.contains('/') {
                return Err(format!(
                    "resources.group: Invalid value: \"{}\": group is not valid",
                    one.group
                ));
            }
            if !one.resource_names.is_empty() && one.resources.is_empty() {
                return Err(
                    "resources.resourceNames: Invalid value: using resourceNames requires at least one resource"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    fn matches(&self, user: &UserInfo, asked: &Attributes) -> bool {
        let admits = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        if !admits(&self.users, &user.name) || !admits(&self.verbs, &asked.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !user.groups.iter().any(|group| self.user_groups.contains(group)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.path.is_empty()
                && admits(&self.namespaces, &asked.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.matches(asked)));
        }
        if !self.non_resource_urls.is_empty() {
            return !asked.path.is_empty()
                && self
                    .non_resource_urls
                    .iter()
                    .any(|url| match url.strip_suffix('*') {
                        Some(prefix) => asked.path.starts_with(prefix),
                        None => *url == asked.path,
                    });
        }
        true
    }
}

impl GroupResources {
    fn matches(&self, asked: &Attributes) -> bool {
        if self.group != "*" && self.group != asked.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&asked.name) {
            return false;
        }
        self.resources.iter().any(|one| {
            let whole = match one.split_once('/') {
                None => one == "*" || (asked.subresource.is_empty() && *one == asked.resource),
                Some((resource, subresource)) => {
                    resource == asked.resource
                        && !asked.subresource.is_empty()
                        && subresource == asked.subresource
                }
            };
            whole
                || one
                    .strip_prefix("*/")
                    .is_some_and(|sub| !asked.subresource.is_empty() && sub == asked.subresource)
                || one
                    .strip_suffix("/*")
                    .is_some_and(|resource| resource == asked.resource)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [quiet]}
- {level: RequestResponse, verbs: [create], resources: [{group: "", resources: [pods, "*/log"]}], omitManagedFields: true}
- {level: Request, namespaces: [a], resources: [{group: apps, resources: ["deployments/*"], resourceNames: [d]}]}
- {level: None, nonResourceURLs: ["/healthz*"]}
- {level: Metadata, omitStages: [ResponseStarted]}
"#;

    fn level(user: &str, verb: &str, place: [&str; 5]) -> Level {
        let [group, resource, subresource, namespace, path] = place.map(str::to_owned);
        let asked = Attributes {
            verb: verb.into(),
            group,
            resource,
            subresource,
            namespace,
            name: "d".into(),
            path,
            ..Attributes::default()
        };
        let policy = Policy::parse(POLICY).unwrap();
        policy.judge(&UserInfo::new(user, &[]), &asked).level
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        for (user, verb, place, expected) in [
            ("quiet", "create", ["", "pods", "", "", ""], Level::None),
            ("x", "create", ["", "pods", "", "", ""], Level::RequestResponse),
            ("x", "create", ["", "pods", "log", "", ""], Level::RequestResponse),
            ("x", "create", ["", "pods", "exec", "", ""], Level::Metadata),
            ("x", "get", ["", "pods", "", "", ""], Level::Metadata),
            (
                "x",
                "patch",
                ["apps", "deployments", "scale", "a", ""],
                Level::Request,
            ),
            ("x", "patch", ["apps", "deployments", "", "a", ""], Level::Request),
            (
                "x",
                "patch",
                ["apps", "deployments", "", "b", ""],
                Level::Metadata,
            ),
            ("x", "get", ["", "", "", "", "/healthz/ping"], Level::None),
            ("x", "get", ["", "", "", "", "/version"], Level::Metadata),
        ] {
            assert_eq!(level(user, verb, place), expected, "{user} {verb} {place:?}");
        }
        let judged = Policy::parse(POLICY)
            .unwrap()
            .judge(&UserInfo::new("x", &[]), &Attributes::default());
        assert_eq!(
            judged.omit_stages,
            [Stage::RequestReceived, Stage::ResponseStarted]
        );
    }

    #[test]
    fn bad_policies_are_refused_with_the_place() {
        let with = |rule: &str| format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{rule}]");
        for (text, problem) in [
            (
                "apiVersion: v1\nkind: Policy\nrules: []".to_owned(),
                "audit.k8s.io/v1",
            ),
            (with(""), "0 rules"),
            (with("{}"), "rules[0].level"),
            (with("{level: Loud}"), "Loud"),
            (with("{level: None, verb: [get]}"), "verb"),
            (
                with("{level: None, nonResourceURLs: [/a], namespaces: [b]}"),
                "both",
            ),
            (with("{level: None, nonResourceURLs: [/a*b]}"), "final character"),
        ] {
            let error = Policy::parse(&text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
