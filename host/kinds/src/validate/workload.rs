//! Rules of the kinds that run pods, and of what scales and protects them.
//! Invariants: a workload selects the pods that its template makes.

use serde_json::Value;

use super::error::FieldError;
use super::pod;
use super::rules::{Errors, is_zero, text};
use crate::resource::Resource;
use crate::selector::LabelSelector;

pub(super) fn check(resource: &Resource, object: &Value, errors: &mut Errors) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    match resource.kind.as_str() {
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            selected(resource, spec, errors);
            counts(
                "spec",
                spec,
                &[
                    "replicas",
                    "minReadySeconds",
                    "revisionHistoryLimit",
                    "progressDeadlineSeconds",
                ],
                errors,
            );
            always_restarts("spec.template", spec, errors);
            match resource.kind.as_str() {
                "Deployment" => deployment(spec, errors),
                "StatefulSet" => {
                    errors.one_of(
                        "spec.podManagementPolicy",
                        text(spec, "podManagementPolicy"),
                        &["OrderedReady", "Parallel"],
                    );
                    errors.one_of(
                        "spec.updateStrategy.type",
                        text(&spec["updateStrategy"], "type"),
                        &["RollingUpdate", "OnDelete"],
                    );
                }
                "DaemonSet" => {
                    errors.one_of(
                        "spec.updateStrategy.type",
                        text(&spec["updateStrategy"], "type"),
                        &["RollingUpdate", "OnDelete"],
                    );
                }
                _ => {}
            }
        }
        "Job" => job("spec", spec, errors),
        "CronJob" => cron_job(spec, errors),
        "HorizontalPodAutoscaler" => autoscaler(spec, errors),
        "PodDisruptionBudget" => budget(spec, errors),
        _ => {}
    }
}

fn selected(resource: &Resource, spec: &Value, errors: &mut Errors) {
    match spec.get("selector") {
        None => errors.add(FieldError::required("spec.selector", "")),
        Some(document) => match LabelSelector::from_value(document) {
            Err(error) => errors.add(FieldError::invalid("spec.selector", document, &error.to_string())),
            Ok(selector) if selector.is_empty() => {
                let why = format!("empty selector is invalid for {}", resource.kind.to_lowercase());
                errors.add(FieldError::invalid("spec.selector", document, &why));
            }
            Ok(selector) => {
                let labels = spec.pointer("/template/metadata/labels");
                if !selector.matches(|key| labels?.get(key)?.as_str()) {
                    let labels = labels
                        .cloned()
                        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
                    let why = "`selector` does not match template `labels`";
                    errors.add(FieldError::invalid("spec.template.metadata.labels", &labels, why));
                }
            }
        },
    }
    pod::template(
        "spec.template",
        spec.get("template").unwrap_or(&Value::Null),
        errors,
    );
}

fn always_restarts(path: &str, spec: &Value, errors: &mut Errors) {
    let policy = text(&spec["template"]["spec"], "restartPolicy");
    let field = format!("{path}.spec.restartPolicy");
    if policy != "Always" && !policy.is_empty() && !errors.has(&field) {
        errors.add(FieldError::not_supported(field, policy, &["Always"]));
    }
}

fn counts(path: &str, spec: &Value, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        errors.not_negative(&format!("{path}.{field}"), spec.get(field));
    }
}

fn deployment(spec: &Value, errors: &mut Errors) {
    let strategy = &spec["strategy"];
    errors.one_of(
        "spec.strategy.type",
        text(strategy, "type"),
        &["Recreate", "RollingUpdate"],
    );
    match strategy.get("rollingUpdate") {
        Some(_) if text(strategy, "type") == "Recreate" => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.add(FieldError::forbidden("spec.strategy.rollingUpdate", why));
        }
        Some(rolling) => {
            let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
            errors.count_or_percent("spec.strategy.rollingUpdate.maxUnavailable", unavailable);
            errors.count_or_percent("spec.strategy.rollingUpdate.maxSurge", surge);
            if is_zero(unavailable) && is_zero(surge) {
                let why = "may not be 0 when `maxSurge` is 0";
                let value = unavailable.unwrap_or(&Value::Null);
                errors.add(FieldError::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    value,
                    why,
                ));
            }
        }
        None => {}
    }
    let seconds = |field: &str| spec.get(field).and_then(Value::as_i64);
    if let Some(deadline) = seconds("progressDeadlineSeconds")
        && deadline <= seconds("minReadySeconds").unwrap_or_default()
    {
        let field = "spec.progressDeadlineSeconds";
        errors.add(FieldError::invalid(
            field,
            &Value::from(deadline),
            "must be greater than minReadySeconds",
        ));
    }
}

fn job(path: &str, spec: &Value, errors: &mut Errors) {
    let fields = [
        "parallelism",
        "completions",
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ];
    counts(path, spec, &fields, errors);
    pod::template(
        &format!("{path}.template"),
        spec.get("template").unwrap_or(&Value::Null),
        errors,
    );
    let field = format!("{path}.template.spec.restartPolicy");
    match text(&spec["template"]["spec"], "restartPolicy") {
        "OnFailure" | "Never" => {}
        "" | "Always" => errors.add(FieldError::required(
            field,
            "valid values: \"OnFailure\", \"Never\"",
        )),
        other if !errors.has(&field) => {
            errors.add(FieldError::not_supported(field, other, &["OnFailure", "Never"]))
        }
        _ => {}
    }
    errors.one_of(
        &format!("{path}.completionMode"),
        text(spec, "completionMode"),
        &["Indexed", "NonIndexed"],
    );
    if text(spec, "completionMode") == "Indexed" && spec.get("completions").is_none() {
        let why = "when completion mode is Indexed";
        errors.add(FieldError::required(format!("{path}.completions"), why));
    }
}

fn cron_job(spec: &Value, errors: &mut Errors) {
    let schedule = text(spec, "schedule");
    if schedule.is_empty() {
        errors.add(FieldError::required("spec.schedule", ""));
    } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
        let why = format!(
            "expected exactly 5 fields, found {}: {:?}",
            schedule.split_whitespace().count(),
            schedule
        );
        errors.add(FieldError::invalid_text("spec.schedule", schedule, &why));
    }
    errors.one_of(
        "spec.concurrencyPolicy",
        text(spec, "concurrencyPolicy"),
        &["Allow", "Forbid", "Replace"],
    );
    counts(
        "spec",
        spec,
        &[
            "startingDeadlineSeconds",
            "successfulJobsHistoryLimit",
            "failedJobsHistoryLimit",
        ],
        errors,
    );
    job("spec.jobTemplate.spec", &spec["jobTemplate"]["spec"], errors);
}

fn autoscaler(spec: &Value, errors: &mut Errors) {
    let number = |field: &str| spec.get(field).and_then(Value::as_i64);
    let (low, high) = (
        number("minReplicas").unwrap_or(1),
        number("maxReplicas").unwrap_or_default(),
    );
    if low < 1 {
        errors.add(FieldError::invalid(
            "spec.minReplicas",
            &Value::from(low),
            "must be greater than or equal to 1",
        ));
    }
    if high < 1 {
        errors.add(FieldError::invalid(
            "spec.maxReplicas",
            &Value::from(high),
            "must be greater than 0",
        ));
    } else if high < low {
        let why = "must be greater than or equal to `minReplicas`";
        errors.add(FieldError::invalid("spec.maxReplicas", &Value::from(high), why));
    }
}

fn budget(spec: &Value, errors: &mut Errors) {
    errors.count_or_percent("spec.minAvailable", spec.get("minAvailable"));
    errors.count_or_percent("spec.maxUnavailable", spec.get("maxUnavailable"));
    if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
        errors.add(FieldError::invalid(
            "spec",
            spec,
            "minAvailable and maxUnavailable cannot be both set",
        ));
    }
    if let Some(document) = spec.get("selector")
        && let Err(error) = LabelSelector::from_value(document)
    {
        errors.add(FieldError::invalid("spec.selector", document, &error.to_string()));
    }
}

/// A replication controller: the selector is a plain map.
pub(super) fn replication_controller(spec: &Value, errors: &mut Errors) {
    counts("spec", spec, &["replicas", "minReadySeconds"], errors);
    let Some(selector) = spec
        .get("selector")
        .filter(|map| map.as_object().is_some_and(|map| !map.is_empty()))
    else {
        errors.add(FieldError::required("spec.selector", ""));
        return;
    };
    let labels = spec.pointer("/template/metadata/labels");
    if !LabelSelector::from_map_value(selector).matches(|key| labels?.get(key)?.as_str()) {
        let labels = labels.cloned().unwrap_or_default();
        let why = "`selector` does not match template `labels`";
        errors.add(FieldError::invalid("spec.template.metadata.labels", &labels, why));
    }
    pod::template(
        "spec.template",
        spec.get("template").unwrap_or(&Value::Null),
        errors,
    );
    always_restarts("spec.template", spec, errors);
}
