//! Rules of events, which are written by two versions of one kind.
//! Invariants: an event of the newer version says what it says once; only how often is written on.

use super::at::{At, IMMUTABLE};
use crate::name;
use crate::resource::Resource;

const LENGTH_MAX: usize = 128;
const NOTE_LENGTH_MAX: usize = 1024;

/// The names of the fields that the two versions call differently.
struct Names {
    about: &'static str,
    reporter: &'static str,
    note: &'static str,
}

pub(super) fn check(resource: &Resource, object: &At, old: Option<&At>) {
    let core = resource.group.is_empty();
    let names = if core {
        Names {
            about: "involvedObject",
            reporter: "reportingComponent",
            note: "message",
        }
    } else {
        Names {
            about: "regarding",
            reporter: "reportingController",
            note: "note",
        }
    };
    both(object, &names);
    if core {
        return;
    }
    match old {
        None => create(object),
        Some(old) => update(object, old),
    }
}

fn both(object: &At, names: &Names) {
    let about = object.at(names.about).named("involvedObject");
    let (namespace, own) = (about.text("namespace"), object.text("metadata.namespace"));
    let elsewhere = || about.invalid_as("namespace", namespace, "does not match event.namespace");
    if !object.has("eventTime") {
        let fits = if namespace.is_empty() {
            matches!(own, "" | "default")
        } else {
            namespace == own
        };
        if !fits {
            elsewhere();
        }
    } else {
        if namespace.is_empty() && !matches!(own, "default" | "kube-system") {
            elsewhere();
        }
        let reporter = object.text(if names.about == "regarding" {
            "reportingController"
        } else {
            names.reporter
        });
        if reporter.is_empty() {
            object.required(names.reporter, "");
        }
        for why in name::qualified(reporter) {
            object.invalid_as(names.reporter, reporter, &why);
        }
        for (field, told, most) in [
            ("reportingInstance", "reportingInstance", LENGTH_MAX),
            ("action", "action", LENGTH_MAX),
            ("reason", "reason", LENGTH_MAX),
            (names.note, "message", NOTE_LENGTH_MAX),
        ] {
            if object.text(field).is_empty() && told != "message" {
                object.required(told, "");
            }
            if object.text(field).len() > most {
                object.invalid_as(told, "", &format!("can have at most {most} characters"));
            }
        }
    }
    for why in name::dns1123_subdomain(own) {
        object.invalid_as("namespace", own, &why);
    }
}

fn series(object: &At) {
    let Some(series) = object.some("series") else {
        return;
    };
    if series.number("count") < 2 {
        series.invalid_as("count", "", "should be at least 2");
    }
    if !series.has("lastObservedTime") {
        series.required("lastObservedTime", "");
    }
}

fn create(object: &At) {
    series(object);
    if !object.has("eventTime") {
        object.required("eventTime", "");
    }
    let kind = object.text("type");
    if !matches!(kind, "Normal" | "Warning") {
        object.invalid_as("type", "", &format!("has invalid value: {kind}"));
    }
    for (field, told) in [
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
    ] {
        if object.has(field) {
            object.invalid_as(told, "", "needs to be unset");
        }
    }
    if object.number("deprecatedCount") != 0 {
        object.invalid_as("count", "", "needs to be unset");
    }
    let source = object.at("deprecatedSource");
    if !source.text("component").is_empty() || !source.text("host").is_empty() {
        object.invalid_as("source", "", "needs to be unset");
    }
}

fn update(object: &At, old: &At) {
    if object.get("series") != old.get("series") {
        series(object);
    }
    for (field, told) in [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        if object.get(field) != old.get(field) {
            let value = object.get(field).cloned().unwrap_or_default();
            object.invalid_as(told, value, IMMUTABLE);
        }
    }
}
