//! Rules of the kinds that keep pods running: deployments and the sets under them.
//! Invariants: a workload selects the pods that its template makes, and goes on selecting them.

use serde_json::Value;

use super::at::At;
use super::{pod, selector, storage};
use crate::name;
use crate::resource::Resource;

const LABELS: &str = "`selector` does not match template `labels`";

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    let spec = object.at("spec");
    match resource.kind.as_str() {
        "Deployment" => deployment(&spec),
        "ReplicaSet" => {
            spec.not_negative(&["replicas", "minReadySeconds"]);
            // The original says so of replica sets too.
            selected(&spec, "deployment", "ReplicaSet");
        }
        "StatefulSet" => stateful_set(&spec, old.is_some()),
        "DaemonSet" => daemon_set(&spec),
        "ControllerRevision" => revision(object, old.is_none()),
        _ => {}
    }
    let Some(old) = old else { return };
    let before = old.at("spec");
    match resource.kind.as_str() {
        "Deployment" | "ReplicaSet" | "DaemonSet" => spec.frozen("selector", &before),
        "StatefulSet" => stateful_set_change(&spec, &before),
        "ControllerRevision" => object.frozen("data", old),
        _ => {}
    }
}

/// The selector, the template, and that they fit.
fn selected(spec: &At, empty: &str, kind: &str) {
    if !spec.has("selector") {
        spec.required("selector", "");
    } else {
        selector::check(spec, "selector");
        if selector::is_empty(&spec.at("selector")) {
            spec.invalid("selector", &format!("empty selector is invalid for {empty}"));
        }
    }
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    let empty = spec.has("selector") && selector::is_empty(&spec.at("selector"));
    match selector::selects(selector, spec.get("template.metadata.labels")) {
        None => return spec.invalid("selector", "invalid label selector"),
        Some(false) if !empty => labels_do_not_match(spec),
        Some(_) => {}
    }
    pod::template(&spec.at("template"));
    always(spec, kind);
}

fn labels_do_not_match(spec: &At) {
    let labels = spec
        .get("template.metadata.labels")
        .cloned()
        .unwrap_or(Value::Null);
    spec.invalid_as("template.metadata.labels", labels, LABELS);
}

/// The pods of such a workload never end by themselves.
fn always(spec: &At, kind: &str) {
    let template = spec.at("template");
    template.exactly_one_of("spec.restartPolicy", &["Always"]);
    if template.has("spec.activeDeadlineSeconds") {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        template.forbidden("spec.activeDeadlineSeconds", &why);
    }
}

fn deployment(spec: &At) {
    spec.not_negative(&["replicas"]);
    selected(spec, "deployment", "ReplicaSet");
    let strategy = spec.at("strategy");
    match strategy.text("type") {
        "Recreate" if strategy.has("rollingUpdate") => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            strategy.forbidden("rollingUpdate", why);
        }
        "Recreate" => {}
        "RollingUpdate" => match strategy.some("rollingUpdate") {
            None => strategy.required("rollingUpdate", "this should be defaulted and never be nil"),
            Some(rolling) => {
                rolling.count_or_percent("maxUnavailable");
                rolling.count_or_percent("maxSurge");
                if rolling.is_zero("maxUnavailable") && rolling.is_zero("maxSurge") {
                    rolling.invalid("maxUnavailable", "may not be 0 when `maxSurge` is 0");
                }
                rolling.percent_at_most_whole("maxUnavailable");
            }
        },
        _ => unsupported_strategy(&strategy, &["Recreate", "RollingUpdate"]),
    }
    spec.not_negative(&[
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ]);
    if let Some(deadline) = spec.int("progressDeadlineSeconds")
        && deadline <= spec.number("minReadySeconds")
    {
        spec.invalid("progressDeadlineSeconds", "must be greater than minReadySeconds");
    }
}

/// The original shows the whole strategy.
fn unsupported_strategy(strategy: &At, known: &[&str]) {
    let known: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
    let message = format!(
        "Unsupported value: {}: supported values: {}",
        strategy.value(),
        known.join(", ")
    );
    let cause = super::Cause::NotSupported;
    strategy.say(super::FieldError::new(strategy.path(""), cause, message));
}

fn daemon_set(spec: &At) {
    selector::check(spec, "selector");
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    if selector::selects(selector, spec.get("template.metadata.labels")) == Some(false) {
        labels_do_not_match(spec);
    }
    if spec.has("selector") && selector::is_empty(&spec.at("selector")) {
        spec.invalid("selector", "empty selector is invalid for daemonset");
    }
    pod::template(&spec.at("template"));
    always(spec, "DaemonSet");
    spec.not_negative(&["minReadySeconds"]);
    let strategy = spec.at("updateStrategy");
    match strategy.text("type") {
        "OnDelete" => {}
        "RollingUpdate" => match strategy.some("rollingUpdate") {
            None => strategy.required("rollingUpdate", ""),
            Some(rolling) => {
                for field in ["maxUnavailable", "maxSurge"] {
                    rolling.count_or_percent(field);
                }
                for field in ["maxUnavailable", "maxSurge"] {
                    rolling.percent_at_most_whole(field);
                }
                match (rolling.is_zero("maxUnavailable"), rolling.is_zero("maxSurge")) {
                    (false, false) => {
                        rolling.invalid("maxSurge", "may not be set when maxUnavailable is non-zero");
                    }
                    (true, true) => {
                        rolling.required("maxUnavailable", "cannot be 0 when maxSurge is 0");
                    }
                    _ => {}
                }
            }
        },
        _ => unsupported_strategy(&strategy, &["RollingUpdate", "OnDelete"]),
    }
    spec.not_negative(&["revisionHistoryLimit"]);
}

fn stateful_set(spec: &At, exists: bool) {
    match spec.text("podManagementPolicy") {
        "" => spec.required("podManagementPolicy", ""),
        "OrderedReady" | "Parallel" => {}
        _ => spec.invalid("podManagementPolicy", "must be 'OrderedReady' or 'Parallel'"),
    }
    let strategy = spec.at("updateStrategy");
    let rolling = strategy.some("rollingUpdate");
    match (strategy.text("type"), rolling) {
        ("", _) => spec.required("updateStrategy", ""),
        ("OnDelete", Some(_)) => {
            strategy.invalid("rollingUpdate", "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("RollingUpdate", Some(rolling)) => {
            rolling.not_negative(&["partition"]);
            if rolling.has("maxUnavailable") {
                rolling.count_or_percent("maxUnavailable");
                if rolling.is_zero("maxUnavailable") {
                    rolling.invalid("maxUnavailable", "cannot be 0");
                }
                rolling.percent_at_most_whole("maxUnavailable");
            }
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        _ => spec.invalid("updateStrategy", "must be 'RollingUpdate' or 'OnDelete'"),
    }
    if let Some(retention) = spec.some("persistentVolumeClaimRetentionPolicy") {
        for field in ["whenDeleted", "whenScaled"] {
            retention.exactly_one_of(field, &["Retain", "Delete"]);
        }
    }
    if !exists {
        for claim in spec.each("volumeClaimTemplates") {
            storage::claim_spec(&claim.at("spec"));
        }
        spec.may_name("serviceName", name::dns1123_label);
    }
    spec.not_negative(&["replicas", "minReadySeconds", "ordinals.start"]);
    if !spec.has("selector") {
        spec.required("selector", "");
    } else {
        selector::check(spec, "selector");
        if selector::is_empty(&spec.at("selector")) {
            spec.invalid("selector", "empty selector is invalid for statefulset");
        }
    }
    stateful_template(spec);
    always(spec, "StatefulSet");
}

/// The template as its pods will be: with the claims of the set, with names of their own.
fn stateful_template(spec: &At) {
    let selector = spec.get("selector").unwrap_or(&Value::Null);
    match selector::selects(selector, spec.get("template.metadata.labels")) {
        None => return spec.invalid("selector", ""),
        Some(false) if !selector::is_empty(&spec.at("selector")) || !spec.has("selector") => {
            labels_do_not_match(spec);
        }
        Some(_) => {}
    }
    let template = spec.at("template");
    let claims: Vec<&str> = spec
        .each("volumeClaimTemplates")
        .map(|claim| claim.text("metadata.name"))
        .collect();
    let mut made = template.value().clone();
    if let Some(pod) = made.get_mut("spec").and_then(Value::as_object_mut) {
        pod.remove("hostname");
        pod.remove("subdomain");
        if !claims.is_empty() {
            let own = claims
                .iter()
                .map(|name| serde_json::json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
            let rest = template
                .list("spec.volumes")
                .iter()
                .filter(|volume| !claims.contains(&volume["name"].as_str().unwrap_or_default()));
            let volumes = own.chain(rest.cloned()).collect();
            pod.insert("volumes".to_string(), Value::Array(volumes));
        }
    }
    pod::template(&At::new(&made, template.path(""), template.found()));
}

fn stateful_set_change(spec: &At, before: &At) {
    const MAY: [&str; 7] = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let rest = |spec: &At| -> Vec<(String, Value)> {
        let fields = spec.map("").into_iter().flatten();
        fields
            .filter(|(field, _)| !MAY.contains(&field.as_str()))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    };
    if rest(spec) != rest(before) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        spec.forbidden("", why);
    }
}

fn revision(object: &At, new: bool) {
    object.not_negative(&["revision"]);
    if !new {
        return;
    }
    match object.get("data") {
        None => object.required("data", "data is mandatory"),
        Some(Value::Object(_)) => {}
        Some(_) => object.required("data", "data must be a valid JSON object"),
    }
}

/// A replication controller: the selector is a plain map.
pub(super) fn replication_controller(object: &At) {
    let spec = object.at("spec");
    spec.not_negative(&["minReadySeconds"]);
    if spec.count("selector") == 0 {
        spec.required("selector", "");
    }
    match spec.int("replicas") {
        None => spec.required("replicas", ""),
        Some(_) => spec.not_negative(&["replicas"]),
    }
    if !spec.has("template") {
        return spec.required("template", "");
    }
    let labels = spec.map("template.metadata.labels");
    let matches = spec
        .map("selector")
        .into_iter()
        .flatten()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    if !matches {
        labels_do_not_match(&spec);
    }
    pod::template(&spec.at("template"));
    always(&spec, "ReplicationController");
}

/// Numbers that a controller reports: none below zero, no part more than the whole.
pub(super) fn status(resource: &Resource, new: &At, old: &At) {
    let (fields, parts): (&[&str], &[&str]) = match resource.kind.as_str() {
        "Deployment" => (
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
        ),
        "ReplicaSet" | "ReplicationController" => (
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "observedGeneration",
                "terminatingReplicas",
            ],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        ),
        "StatefulSet" => (
            &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ],
            &[
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
            ],
        ),
        "DaemonSet" => (
            &[
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ],
            &[],
        ),
        _ => return,
    };
    let at = new.at("status");
    at.not_negative(fields);
    for field in parts
        .iter()
        .filter(|field| at.number(field) > at.number("replicas"))
    {
        at.invalid_as(field, at.number(field), "cannot be greater than status.replicas");
    }
    if !parts.is_empty() && at.number("availableReplicas") > at.number("readyReplicas") {
        let of = if resource.kind == "StatefulSet" {
            "status.readyReplicas"
        } else {
            "readyReplicas"
        };
        let why = format!("cannot be greater than {of}");
        at.invalid_as("availableReplicas", at.number("availableReplicas"), &why);
    }
    let collisions = old.number("status.collisionCount");
    if at.number("collisionCount") < collisions {
        at.invalid_as(
            "collisionCount",
            at.number("collisionCount"),
            "cannot be decremented",
        );
    }
}
