//! One question of authorization, and one RBAC rule's answer. Pure.

use capstan_kinds::resource::Resource;
use capstan_kinds::selector::FieldSelector;
use capstan_kinds::status::Status;
use serde::Deserialize;

use super::UserInfo;

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Attributes {
    pub verb: String,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Set for what is no resource; the rest is empty then.
    pub path: String,
    /// Of a list, watch or deletecollection: what it is narrowed to.
    pub field_selector: FieldSelector,
}

/// A `PolicyRule`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    pub(crate) fn allows(&self, asked: &Attributes) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|one| one == "*" || one == value);
        if !has(&self.verbs, &asked.verb) {
            return false;
        }
        if !asked.path.is_empty() {
            return self
                .non_resource_urls
                .iter()
                .any(|url| match url.strip_suffix('*') {
                    Some(prefix) => asked.path.starts_with(prefix),
                    None => *url == asked.path,
                });
        }
        has(&self.api_groups, &asked.group)
            && self.covers_resource(asked)
            && (self.resource_names.is_empty() || self.resource_names.contains(&asked.name))
    }

    fn covers_resource(&self, asked: &Attributes) -> bool {
        self.resources.iter().any(|one| {
            if one == "*" {
                return true;
            }
            match one.split_once('/') {
                None => asked.subresource.is_empty() && *one == asked.resource,
                Some((resource, subresource)) => {
                    subresource == asked.subresource && (resource == "*" || resource == asked.resource)
                }
            }
        })
    }
}

/// The refusal, in the original's words; `reason` is the authorizers' own, and may be empty.
pub(crate) fn refusal(user: &UserInfo, asked: &Attributes, reason: &str) -> Status {
    let reason = match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    if !asked.path.is_empty() {
        let why = format!(
            "User \"{}\" cannot {} path \"{}\"{reason}",
            user.name, asked.verb, asked.path
        );
        return Status::forbidden_path(&why);
    }
    let full = match asked.subresource.as_str() {
        "" => asked.resource.clone(),
        subresource => format!("{}/{subresource}", asked.resource),
    };
    let place = match asked.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{}\" cannot {} resource \"{full}\" in API group \"{}\" {place}{reason}",
        user.name, asked.verb, asked.group
    );
    let resource = Resource {
        group: asked.group.clone(),
        plural: asked.resource.clone(),
        ..Resource::default()
    };
    Status::forbidden(&resource, &asked.name, &why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_refusals_are_the_originals() {
        let rule: Rule = serde_json::from_str(
            r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods","*/log"],"resourceNames":[]}"#,
        )
        .unwrap();
        let asked = |verb: &str, resource: &str, subresource: &str| Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "default".into(),
            ..Attributes::default()
        };
        assert!(rule.allows(&asked("get", "pods", "")));
        assert!(rule.allows(&asked("get", "pods", "log")));
        assert!(!rule.allows(&asked("get", "pods", "status")));
        assert!(!rule.allows(&asked("list", "pods", "")));
        let status = refusal(&UserInfo::new("x", &[]), &asked("list", "pods", ""), "");
        assert_eq!(
            status.message,
            "pods is forbidden: User \"x\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
        );
        let path = Attributes {
            verb: "get".into(),
            path: "/metrics".into(),
            ..Attributes::default()
        };
        assert_eq!(
            refusal(&UserInfo::new("x", &[]), &path, "").message,
            "forbidden: User \"x\" cannot get path \"/metrics\""
        );
    }
}
