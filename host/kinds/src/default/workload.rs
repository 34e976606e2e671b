//! Defaults of the kinds that run pods: apps and batch.
//! Invariants: the numbers are the original's; a job's selector and pod labels are made when it is created,
//! not here.

use serde_json::{Value, json};

use super::{Fields, each, is_empty, made, object, pod, put, put_text, text};

pub(super) fn apply(kind: &str, document: &mut Fields) {
    match kind {
        "Deployment" => with_spec(document, deployment),
        "ReplicaSet" => with_spec(document, |spec| put(spec, "replicas", 1)),
        "StatefulSet" => with_spec(document, stateful_set),
        "DaemonSet" => with_spec(document, daemon_set),
        "Job" => {
            labels_from_template(document);
            with_spec(document, job);
        }
        "CronJob" => {
            with_spec(document, cron_job);
            if let Some(template) = object(document, "spec").and_then(|spec| object(spec, "jobTemplate")) {
                with_spec(template, |_| {});
            }
        }
        _ => {}
    }
}

/// Defaults of a spec and of the pod template in it.
pub(super) fn with_spec(document: &mut Fields, defaults: impl FnOnce(&mut Fields)) {
    let Some(spec) = made(document, "spec") else {
        return;
    };
    defaults(spec);
    if let Some(template) = object(spec, "template").and_then(|template| object(template, "spec")) {
        pod::spec(template);
    }
}

fn deployment(spec: &mut Fields) {
    put(spec, "replicas", 1);
    put(spec, "revisionHistoryLimit", 10);
    put(spec, "progressDeadlineSeconds", 600);
    if let Some(strategy) = made(spec, "strategy") {
        put_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            put(rolling, "maxUnavailable", "25%");
            put(rolling, "maxSurge", "25%");
        }
    }
}

fn stateful_set(spec: &mut Fields) {
    put(spec, "replicas", 1);
    put(spec, "revisionHistoryLimit", 10);
    put_text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = made(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            put_text(strategy, "type", "RollingUpdate");
            put(strategy, "rollingUpdate", json!({}));
        }
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = object(strategy, "rollingUpdate")
        {
            put(rolling, "partition", 0);
        }
    }
    if let Some(retention) = made(spec, "persistentVolumeClaimRetentionPolicy") {
        put_text(retention, "whenDeleted", "Retain");
        put_text(retention, "whenScaled", "Retain");
    }
    for claim in each(spec, "volumeClaimTemplates") {
        put(claim, "apiVersion", "v1");
        put(claim, "kind", "PersistentVolumeClaim");
        if let Some(spec) = made(claim, "spec") {
            put_text(spec, "volumeMode", "Filesystem");
        }
        put(claim, "status", json!({"phase": "Pending"}));
    }
}

fn daemon_set(spec: &mut Fields) {
    put(spec, "revisionHistoryLimit", 10);
    if let Some(strategy) = made(spec, "updateStrategy") {
        put_text(strategy, "type", "RollingUpdate");
        if text(strategy, "type") == "RollingUpdate"
            && let Some(rolling) = made(strategy, "rollingUpdate")
        {
            put(rolling, "maxUnavailable", 1);
            put(rolling, "maxSurge", 0);
        }
    }
}

fn labels_from_template(document: &mut Fields) {
    let labels = document
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .cloned();
    if let (Some(labels), Some(metadata)) = (labels, made(document, "metadata"))
        && is_empty(metadata, "labels")
    {
        metadata.insert("labels".to_string(), labels);
    }
}

fn job(spec: &mut Fields) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        put(spec, "completions", 1);
    }
    put(spec, "parallelism", 1);
    let backoff = if spec.contains_key("backoffLimitPerIndex") {
        i32::MAX
    } else {
        6
    };
    put(spec, "backoffLimit", backoff);
    put_text(spec, "completionMode", "NonIndexed");
    put(spec, "suspend", false);
    put(spec, "manualSelector", false);
    let replacement = if spec.contains_key("podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    put_text(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = object(spec, "podFailurePolicy") {
        for rule in each(policy, "rules") {
            each(rule, "onPodConditions").for_each(|pattern| put_text(pattern, "status", "True"));
        }
    }
}

fn cron_job(spec: &mut Fields) {
    put_text(spec, "concurrencyPolicy", "Allow");
    put(spec, "suspend", false);
    put(spec, "successfulJobsHistoryLimit", 3);
    put(spec, "failedJobsHistoryLimit", 1);
}

/// A replication controller selects what its template makes.
pub(super) fn replication_controller(document: &mut Fields) {
    let labels = document
        .get("spec")
        .and_then(|spec| spec.pointer("/template/metadata/labels"))
        .cloned();
    if let Some(labels @ Value::Object(_)) = labels {
        if let Some(spec) = object(document, "spec")
            && is_empty(spec, "selector")
        {
            spec.insert("selector".to_string(), labels);
        }
        labels_from_template(document);
    }
    with_spec(document, |spec| put(spec, "replicas", 1));
}
