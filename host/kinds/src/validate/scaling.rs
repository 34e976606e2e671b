//! Rules of what scales workloads and what protects their pods while nodes are emptied.
//! Invariants: one source a metric; whether a metric exists is the controller's to find out.

use super::at::{At, NOT_NEGATIVE};
use super::pod::resources;
use super::selector;
use crate::name;

const PERIOD_SECONDS_MAX: i64 = 1800;
const WINDOW_SECONDS_MAX: i64 = 3600;
const SOURCES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

pub(super) fn autoscaler(object: &At) {
    let spec = object.at("spec");
    if spec.int("minReplicas").is_some_and(|low| low < 1) {
        spec.invalid("minReplicas", "must be greater than or equal to 1");
    }
    let high = spec.number("maxReplicas");
    if high == 0 {
        spec.required("maxReplicas", "must be set and greater than 0");
    } else if high < 0 {
        spec.invalid("maxReplicas", "must be greater than or equal to 1");
    }
    if spec.int("minReplicas").is_some_and(|low| high < low) {
        let why = "must be greater than or equal to `minReplicas`";
        spec.invalid_as("maxReplicas", high, why);
    }
    reference(&spec.at("scaleTargetRef"));
    spec.each("metrics").for_each(|metric| self::metric(&metric));
    for direction in ["behavior.scaleUp", "behavior.scaleDown"] {
        if let Some(rules) = spec.some(direction) {
            self::rules(&rules);
        }
    }
}

fn reference(at: &At) {
    at.must_name("kind", name::path_segment);
    at.must_name("name", name::path_segment);
    let version = at.text("apiVersion");
    if version.matches('/').count() > 1 {
        at.invalid(
            "apiVersion",
            &format!("unexpected GroupVersion string: {version}"),
        );
    }
}

fn rules(at: &At) {
    let window = "stabilizationWindowSeconds";
    if let Some(seconds) = at.int(window) {
        if seconds < 0 {
            at.invalid(window, "must be greater than or equal to zero");
        }
        if seconds > WINDOW_SECONDS_MAX {
            at.invalid(
                window,
                &format!("must be less than or equal to {WINDOW_SECONDS_MAX}"),
            );
        }
    }
    if at.has("selectPolicy") {
        at.exactly_one_of("selectPolicy", &["Disabled", "Max", "Min"]);
    }
    if at.count("policies") == 0 {
        at.required("policies", "must specify at least one Policy");
    }
    for policy in at.each("policies") {
        policy.exactly_one_of("type", &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let number = policy.number(field);
            if number <= 0 {
                policy.invalid_as(field, number, super::at::POSITIVE);
            }
        }
        if policy.number("periodSeconds") > PERIOD_SECONDS_MAX {
            let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
            policy.invalid("periodSeconds", &why);
        }
    }
    if at.quantity("tolerance").is_some_and(|one| one.is_negative()) {
        at.invalid("tolerance", NOT_NEGATIVE);
    }
}

fn metric(at: &At) {
    let kind = at.text("type");
    if kind.is_empty() {
        at.required("type", "must specify a metric source type");
    }
    if !SOURCES.contains(&kind) {
        at.unsupported("type", &SOURCES);
    }
    let fields = ["object", "external", "pods", "resource", "containerResource"];
    let given: Vec<&str> = fields.into_iter().filter(|field| at.has(field)).collect();
    if let Some(first) = given.first() {
        source(&at.at(first), first);
    }
    let mut letters = kind.chars();
    let expected = match letters.next() {
        Some(first) if SOURCES.contains(&kind) => {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        }
        _ => {
            at.unsupported("type", &SOURCES);
            String::new()
        }
    };
    if !expected.is_empty() && !at.has(&expected) {
        let why = "must populate information for the given metric source";
        at.required(&expected, why);
    }
    if given.len() != 1 {
        for field in given.iter().filter(|field| **field != expected) {
            at.forbidden(field, "must populate the given metric source only");
        }
    }
}

fn source(at: &At, kind: &str) {
    match kind {
        "object" => reference(&at.at("describedObject")),
        "resource" | "containerResource" => {
            if at.text("name").is_empty() {
                at.required("name", "must specify a resource name");
            } else if kind == "containerResource" {
                resources::container_name(&at.at("name"), at.text("name"));
            }
            if kind == "containerResource" {
                if at.text("container").is_empty() {
                    at.required("container", "must specify a container");
                } else {
                    at.name("container", name::dns1123_label);
                }
            }
        }
        _ => {}
    }
    if !kind.to_lowercase().ends_with("resource") {
        let metric = at.at("metric");
        if metric.text("name").is_empty() {
            metric.required("name", "must specify a metric name");
        } else {
            metric.name("name", name::path_segment);
        }
        selector::check(&metric, "selector");
    }
    target(&at.at("target"), kind);
}

fn target(at: &At, kind: &str) {
    let (value, average) = (at.has("value"), at.has("averageValue"));
    let utilization = at.has("averageUtilization");
    if at.text("type").is_empty() {
        at.required("type", "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&at.text("type")) {
        let why = "must be either Utilization, Value, or AverageValue";
        at.invalid_as("type", at.text("type"), why);
    }
    for field in ["value", "averageValue"] {
        if at
            .quantity(field)
            .is_some_and(|one| one.is_zero() || one.is_negative())
        {
            at.invalid(field, "must be positive");
        }
    }
    if at.int("averageUtilization").is_some_and(|percent| percent < 1) {
        at.invalid("averageUtilization", "must be greater than 0");
    }
    match kind {
        "object" if !value && !average => {
            at.required("averageValue", "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            at.required("averageValue", why);
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            at.forbidden("value", why);
        }
        "pods" if !average => {
            at.required("averageValue", "must specify a positive target averageValue");
        }
        "resource" | "containerResource" if !utilization && !average => {
            let why = "must set either a target raw value or a target utilization";
            at.required("averageUtilization", why);
        }
        "resource" | "containerResource" if utilization && average => {
            let why = "may not set both a target raw value and a target utilization";
            at.forbidden("averageValue", why);
        }
        _ => {}
    }
}

pub(super) fn budget(object: &At) {
    let spec = object.at("spec");
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        spec.invalid("", "minAvailable and maxUnavailable cannot be both set");
    }
    for field in ["minAvailable", "maxUnavailable"] {
        spec.count_or_percent(field);
        spec.percent_at_most_whole(field);
    }
    selector::check(&spec, "selector");
    if spec.has("unhealthyPodEvictionPolicy") {
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        spec.exactly_one_of("unhealthyPodEvictionPolicy", &known);
    }
}

pub(super) fn budget_status(new: &At) {
    let fields = [
        "disruptionsAllowed",
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
    ];
    new.at("status").not_negative(&fields);
}
