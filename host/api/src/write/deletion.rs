//! What a deletion does to an object: now, later, or when its finalizers are done. Pure.

use capstan_kinds::custom;
use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_kinds::validate::FieldError;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::read;
use crate::refusal::Refusal;
use crate::request::Query;
use crate::time;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// A pod's grace period where its spec has none.
const POD_GRACE_SECONDS: i64 = 30;

/// `metav1.DeleteOptions`, from the body or the query.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Preconditions,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

impl DeleteOptions {
    pub(crate) fn read(media: &str, body: &[u8], query: &Query) -> Result<Self, Refusal> {
        let mut options = if body.is_empty() {
            Self::default()
        } else {
            let document = super::decode(media, body)?.object;
            let document = if document["preconditions"].is_null() {
                without_nulls(document)
            } else {
                document
            };
            serde_json::from_value(document)
                .map_err(|error| Status::bad_request(format!("the body is no DeleteOptions: {error}")))?
        };
        if let Some(seconds) = query.number("gracePeriodSeconds") {
            options.grace_period_seconds = Some(seconds);
        }
        if let Some(policy) = query.get("propagationPolicy") {
            options.propagation_policy = Some(policy.to_owned());
        }
        if query.get("orphanDependents").is_some() {
            options.orphan_dependents = Some(query.flag("orphanDependents"));
        }
        if query.get("dryRun").is_some() {
            options.dry_run = read::dry_run_values(query);
        }
        // As the original takes it.
        options.grace_period_seconds = options
            .grace_period_seconds
            .map(|seconds| if seconds < 0 { 1 } else { seconds });
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), Refusal> {
        let mut errors = Vec::new();
        if let Some(policy) = self.propagation_policy.as_deref() {
            let known = ["Foreground", "Background", "Orphan", "nil"];
            if self.orphan_dependents.is_some() {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid_text("propagationPolicy", policy, why));
            }
            if !known[..3].contains(&policy) {
                errors.push(FieldError::not_supported("propagationPolicy", policy, &known));
            }
        }
        errors.extend(read::dry_run_error(&self.dry_run));
        match errors.is_empty() {
            true => Ok(()),
            false => Err(read::invalid_options("DeleteOptions", errors)),
        }
    }

    pub(crate) fn dry_run(&self) -> bool {
        !self.dry_run.is_empty()
    }

    /// Whether the object is the one that is meant.
    pub(crate) fn meets(&self, resource: &Resource, name: &str, object: &Value) -> Result<(), Refusal> {
        let metadata = &object["metadata"];
        let checks = [
            ("UID", &self.preconditions.uid, &metadata["uid"]),
            (
                "ResourceVersion",
                &self.preconditions.resource_version,
                &metadata["resourceVersion"],
            ),
        ];
        for (what, asked, is) in checks {
            let is = is.as_str().unwrap_or_default();
            if let Some(asked) = asked.as_deref().filter(|asked| *asked != is) {
                let why = format!(
                    "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {is}"
                );
                return Err(Status::conflict(resource, name, &why).into());
            }
        }
        Ok(())
    }
}

fn without_nulls(document: Value) -> Value {
    match document {
        Value::Object(map) => Value::Object(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        other => other,
    }
}

/// What to do with the object.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// Delete it now.
    Remove,
    /// Write this: it goes later.
    Mark(Value),
    /// It is going already; nothing to write.
    Wait,
}

/// Decides how an object goes.
pub(crate) fn plan(resource: &Resource, object: &Value, options: &DeleteOptions) -> Plan {
    let metadata = &object["metadata"];
    let before = finalizers(metadata);
    let mut after = wanted_finalizers(&before, options);
    let definition = resource.is("apiextensions.k8s.io", "CustomResourceDefinition");
    if definition
        && !metadata["deletionTimestamp"].is_string()
        && !after.iter().any(|one| one == custom::CLEANUP)
    {
        after.push(custom::CLEANUP.to_owned());
    }
    let grace = grace_seconds(resource, object, options);
    let held = !after.is_empty()
        || (resource.is("", "Namespace")
            && object["spec"]["finalizers"]
                .as_array()
                .is_some_and(|list| !list.is_empty()));
    if metadata["deletionTimestamp"].is_string() {
        return again(object, grace, before != after, after, held);
    }
    if grace == 0 && !held {
        return Plan::Remove;
    }
    let mut marked = object.clone();
    let metadata = &mut marked["metadata"];
    metadata["deletionTimestamp"] = json!(time::at(grace));
    metadata["deletionGracePeriodSeconds"] = json!(grace);
    if let Some(generation) = metadata["generation"].as_i64() {
        metadata["generation"] = json!(generation + 1);
    }
    set_finalizers(metadata, after);
    if resource.is("", "Namespace") {
        marked["status"]["phase"] = json!("Terminating");
    }
    if definition {
        let why = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let now = time::now();
        custom::set_condition(
            &mut marked,
            "Terminating",
            true,
            "InstanceDeletionPending",
            why,
            &now,
        );
    }
    Plan::Mark(marked)
}

/// A second deletion can only shorten the grace period or change the finalizers.
fn again(object: &Value, grace: i64, changed: bool, after: Vec<String>, held: bool) -> Plan {
    let left = object["metadata"]["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(0);
    let shorter = grace < left;
    if grace.min(left) == 0 && !held {
        return Plan::Remove;
    }
    if !shorter && !changed {
        return Plan::Wait;
    }
    let mut marked = object.clone();
    let metadata = &mut marked["metadata"];
    if shorter {
        metadata["deletionTimestamp"] = json!(time::at(grace));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
    }
    set_finalizers(metadata, after);
    Plan::Mark(marked)
}

fn finalizers(metadata: &Value) -> Vec<String> {
    let list = metadata["finalizers"].as_array().into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn set_finalizers(metadata: &mut Value, finalizers: Vec<String>) {
    if finalizers.is_empty() {
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.remove("finalizers");
        }
    } else {
        metadata["finalizers"] = json!(finalizers);
    }
}

fn wanted_finalizers(before: &[String], options: &DeleteOptions) -> Vec<String> {
    let own = match (options.propagation_policy.as_deref(), options.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(ORPHAN),
        (Some("Foreground"), _) => Some(FOREGROUND),
        (Some(_), _) | (None, Some(false)) => None,
        (None, None) => return before.to_vec(),
    };
    let others = before
        .iter()
        .filter(|name| *name != ORPHAN && *name != FOREGROUND)
        .cloned();
    others.chain(own.map(str::to_owned)).collect()
}

/// Pods stop gracefully unless nothing of them runs; other kinds go at once.
fn grace_seconds(resource: &Resource, object: &Value, options: &DeleteOptions) -> i64 {
    if !resource.is("", "Pod") {
        return 0;
    }
    let unscheduled = object["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if unscheduled || ended {
        return 0;
    }
    let own = object["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(POD_GRACE_SECONDS);
    options.grace_period_seconds.unwrap_or(own).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(plural: &str, object: Value, options: Value) -> String {
        let resource = capstan_kinds::resource::find("", "v1", plural).unwrap();
        let options: DeleteOptions = serde_json::from_value(options).unwrap();
        match plan(&resource, &object, &options) {
            Plan::Remove => "remove".into(),
            Plan::Wait => "wait".into(),
            Plan::Mark(object) => {
                let metadata = &object["metadata"];
                format!(
                    "mark {} {}",
                    metadata["deletionGracePeriodSeconds"], metadata["finalizers"]
                )
            }
        }
    }

    #[test]
    fn objects_go_as_the_original_lets_them_go() {
        let bound =
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}});
        let going = json!({
            "metadata": {"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 7},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7}
        });
        let held = json!({"metadata": {"name": "c", "finalizers": ["a/b"]}});
        assert_eq!(
            show("pods", json!({"metadata": {"name": "p"}}), json!({})),
            "remove"
        );
        assert_eq!(show("pods", bound.clone(), json!({})), "mark 7 null");
        assert_eq!(
            show("pods", bound.clone(), json!({"gracePeriodSeconds": 0})),
            "remove"
        );
        assert_eq!(
            show("pods", bound, json!({"gracePeriodSeconds": 2})),
            "mark 2 null"
        );
        assert_eq!(show("pods", going.clone(), json!({})), "wait");
        assert_eq!(
            show("pods", going.clone(), json!({"gracePeriodSeconds": 3})),
            "mark 3 null"
        );
        assert_eq!(show("pods", going, json!({"gracePeriodSeconds": 0})), "remove");
        assert_eq!(show("configmaps", held.clone(), json!({})), r#"mark 0 ["a/b"]"#);
        let policy = json!({"propagationPolicy": "Foreground"});
        assert_eq!(
            show("configmaps", held.clone(), policy),
            r#"mark 0 ["a/b","foregroundDeletion"]"#
        );
        let orphan = json!({"metadata": {"name": "c", "finalizers": ["orphan"]}});
        assert_eq!(
            show("configmaps", orphan, json!({"propagationPolicy": "Background"})),
            "remove"
        );
        assert_eq!(
            show("configmaps", held, json!({"orphanDependents": true})),
            r#"mark 0 ["a/b","orphan"]"#
        );
    }
}
