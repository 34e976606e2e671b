//! Which requests an admission policy judges: `spec.bind.admission`, with a webhook configuration's rules.

use capstan_kinds::plugin::{AdmissionBind, Rule};
use capstan_kinds::selector::LabelSelector;
use capstan_points::admission::{Operation, Review};
use serde_json::Value;

use crate::error::LoadError;

const ALL: &str = "*";

#[derive(Debug)]
pub(crate) struct Coverage {
    rules: Vec<Rule>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    excluded: Vec<String>,
}

impl Coverage {
    pub(crate) fn parse(bind: &AdmissionBind) -> Result<Self, LoadError> {
        let field = "spec.bind.admission";
        if bind.rules.is_empty() {
            return Err(LoadError::spec(
                format!("{field}.rules"),
                "[]",
                "at least one rule",
            ));
        }
        for (index, rule) in bind.rules.iter().enumerate() {
            check(&format!("{field}.rules[{index}]"), rule)?;
        }
        let selector = |name: &str, document| super::selector(&format!("{field}.{name}"), document);
        Ok(Self {
            rules: bind.rules.clone(),
            namespaces: selector("namespaceSelector", bind.namespace_selector.as_ref())?,
            objects: selector("objectSelector", bind.object_selector.as_ref())?,
            excluded: bind.exclude_namespaces.clone(),
        })
    }

    pub(crate) fn covers(&self, review: &Review) -> bool {
        self.rules.iter().any(|rule| matches(rule, review))
            && !self.excluded.contains(&review.namespace)
            && self.covers_namespace(review)
            && self.covers_object(review)
    }

    /// Cluster-scoped objects have no namespace to judge by; a Namespace is judged by its own labels.
    fn covers_namespace(&self, review: &Review) -> bool {
        if self.namespaces.is_empty() || (review.namespace.is_empty() && review.kind != "Namespace") {
            return true;
        }
        if review.kind == "Namespace" && review.namespace_labels.is_empty() {
            return review
                .object
                .as_ref()
                .or(review.old.as_ref())
                .is_some_and(|o| selects(&self.namespaces, o));
        }
        let label = |key: &str| {
            review
                .namespace_labels
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        self.namespaces.matches(label)
    }

    fn covers_object(&self, review: &Review) -> bool {
        let mut objects = review.object.iter().chain(&review.old);
        self.objects.is_empty() || objects.any(|object| selects(&self.objects, object))
    }
}

fn selects(selector: &LabelSelector, object: &Value) -> bool {
    selector.matches(|key| object.get("metadata")?.get("labels")?.get(key)?.as_str())
}

fn check(field: &str, rule: &Rule) -> Result<(), LoadError> {
    let lists = [
        (
            "apiGroups",
            &rule.api_groups,
            "API groups, for instance \"\" or \"apps\" or \"*\"",
        ),
        (
            "apiVersions",
            &rule.api_versions,
            "versions, for instance \"v1\" or \"*\"",
        ),
        (
            "resources",
            &rule.resources,
            "plurals, for instance \"pods\", \"pods/status\" or \"*\"",
        ),
        (
            "operations",
            &rule.operations,
            "CREATE, UPDATE, DELETE, CONNECT or *",
        ),
    ];
    for (name, list, wanted) in lists {
        if list.is_empty() {
            return Err(LoadError::spec(
                format!("{field}.{name}"),
                "[]",
                format!("a list of {wanted}"),
            ));
        }
    }
    let known = ["CREATE", "UPDATE", "DELETE", "CONNECT", ALL];
    match rule
        .operations
        .iter()
        .find(|operation| !known.contains(&operation.as_str()))
    {
        Some(unknown) => Err(LoadError::spec(
            format!("{field}.operations"),
            unknown,
            lists[3].2,
        )),
        None => Ok(()),
    }
}

fn matches(rule: &Rule, review: &Review) -> bool {
    let has = |list: &[String], wanted: &str| list.iter().any(|entry| entry == ALL || entry == wanted);
    let operation = match review.operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    };
    has(&rule.operations, operation)
        && has(&rule.api_groups, &review.group)
        && has(&rule.api_versions, &review.version)
        && rule.resources.iter().any(|entry| matches_resource(entry, review))
}

/// `*` is every resource but no subresource, as for webhooks.
fn matches_resource(entry: &str, review: &Review) -> bool {
    let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
    (resource == ALL || resource == review.resource)
        && (subresource == review.subresource || (subresource == ALL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn review(json: Value) -> Review {
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        Review {
            uid: String::new(),
            operation: serde_json::from_value(json["operation"].clone()).unwrap_or(Operation::Create),
            group: text("group"),
            version: "v1".into(),
            resource: text("resource"),
            subresource: text("subresource"),
            kind: text("kind"),
            namespace: text("namespace"),
            namespace_labels: serde_json::from_value(json["labels"].clone()).unwrap_or_default(),
            name: String::new(),
            user: String::new(),
            groups: Vec::new(),
            dry_run: false,
            now_ms: 0,
            object: Some(Arc::new(json["object"].clone())),
            old: None,
        }
    }

    #[test]
    fn rules_select_as_for_webhooks() {
        let bind =
            |json: Value| Coverage::parse(&serde_json::from_value(json).expect("shape")).expect("valid");
        let pods = serde_json::json!({"apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"], "operations": ["CREATE"]});
        let any = serde_json::json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]});
        for (bound, asked, wanted) in [
            (
                serde_json::json!({"rules": [pods]}),
                serde_json::json!({"resource": "pods"}),
                true,
            ),
            (
                serde_json::json!({"rules": [pods]}),
                serde_json::json!({"resource": "pods", "operation": "UPDATE"}),
                false,
            ),
            (
                serde_json::json!({"rules": [pods]}),
                serde_json::json!({"resource": "pods", "subresource": "status"}),
                false,
            ),
            (
                serde_json::json!({"rules": [any]}),
                serde_json::json!({"resource": "deployments", "group": "apps"}),
                true,
            ),
            (
                serde_json::json!({"rules": [any]}),
                serde_json::json!({"resource": "pods", "subresource": "exec"}),
                false,
            ),
            (
                serde_json::json!({"rules": [any], "excludeNamespaces": ["kube-system"]}),
                serde_json::json!({"resource": "pods", "namespace": "kube-system"}),
                false,
            ),
            (
                serde_json::json!({"rules": [any], "namespaceSelector": {"matchLabels": {"a": "b"}}}),
                serde_json::json!({"resource": "pods", "namespace": "n", "labels": [["a", "b"]]}),
                true,
            ),
            (
                serde_json::json!({"rules": [any], "namespaceSelector": {"matchLabels": {"a": "b"}}}),
                serde_json::json!({"resource": "pods", "namespace": "n"}),
                false,
            ),
            (
                serde_json::json!({"rules": [any], "namespaceSelector": {"matchLabels": {"a": "b"}}}),
                serde_json::json!({"resource": "nodes"}),
                true,
            ),
            (
                serde_json::json!({"rules": [any], "objectSelector": {"matchLabels": {"a": "b"}}}),
                serde_json::json!({"resource": "pods", "object": {"metadata": {"labels": {"a": "b"}}}}),
                true,
            ),
        ] {
            assert_eq!(
                bind(bound.clone()).covers(&review(asked.clone())),
                wanted,
                "{bound} {asked}"
            );
        }
    }

    #[test]
    fn mistakes_name_their_field() {
        let parse = |json: Value| Coverage::parse(&serde_json::from_value(json).expect("shape")).map(drop);
        for (json, named) in [
            (serde_json::json!({}), "spec.bind.admission.rules"),
            (
                serde_json::json!({"rules": [{}]}),
                "spec.bind.admission.rules[0].apiGroups",
            ),
            (
                serde_json::json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["create"]}]}),
                "spec.bind.admission.rules[0].operations: \"create\"",
            ),
        ] {
            let message = parse(json).expect_err(named).to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
