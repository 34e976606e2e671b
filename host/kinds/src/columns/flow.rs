//! Columns of flow schemas, priority levels and devices.
//! Invariants: as the siblings'.

use serde_json::{Value, json};

use super::table::{AGE, NAME, Spec, text};
use super::{list, shown, string};

pub(super) static SCHEMAS: [Spec; 6] = [
    NAME,
    text("PriorityLevel", |object, _| {
        json!(string(object, "/spec/priorityLevelConfiguration/name"))
    }),
    text("MatchingPrecedence", |object, _| {
        json!(super::number(object, "/spec/matchingPrecedence"))
    }),
    text("DistinguisherMethod", |object, _| {
        super::or_none(string(object, "/spec/distinguisherMethod/type"))
    }),
    AGE,
    text("MissingPL", |object, _| {
        let dangling = list(object, "/status/conditions").find(|one| string(one, "/type") == "Dangling");
        json!(dangling.map_or("?", |one| string(one, "/status")))
    }),
];

/// A number where there is one.
fn limit(object: &Value, pointer: &str) -> Value {
    let number = object.pointer(&format!("/spec/limited{pointer}"));
    number.cloned().unwrap_or_else(|| json!("<none>"))
}

pub(super) static LEVELS: [Spec; 7] = [
    NAME,
    text("Type", |object, _| json!(string(object, "/spec/type"))),
    text("NominalConcurrencyShares", |object, _| {
        limit(object, "/nominalConcurrencyShares")
    }),
    text("Queues", |object, _| {
        limit(object, "/limitResponse/queuing/queues")
    }),
    text("HandSize", |object, _| {
        limit(object, "/limitResponse/queuing/handSize")
    }),
    text("QueueLengthLimit", |object, _| {
        limit(object, "/limitResponse/queuing/queueLengthLimit")
    }),
    AGE,
];

pub(super) static CLAIMS: [Spec; 3] = [
    NAME,
    text("State", |object, _| {
        let ending = object.pointer("/metadata/deletionTimestamp").is_some();
        let mut states = Vec::new();
        if ending {
            states.push("deleted");
        }
        if object.pointer("/status/allocation").is_some() {
            states.push("allocated");
            if list(object, "/status/reservedFor").next().is_some() {
                states.push("reserved");
            }
        } else if !ending {
            states.push("pending");
        }
        json!(states.join(","))
    }),
    AGE,
];

pub(super) static SLICES: [Spec; 5] = [
    NAME,
    text("Node", |object, _| json!(string(object, "/spec/nodeName"))),
    text("Driver", |object, _| json!(string(object, "/spec/driver"))),
    text("Pool", |object, _| json!(string(object, "/spec/pool/name"))),
    AGE,
];

pub(super) static CAPACITIES: [Spec; 3] = [
    NAME,
    text("StorageClassName", |object, _| {
        json!(string(object, "/storageClassName"))
    }),
    text("Capacity", |object, _| {
        json!(shown(object.get("capacity"), "<unset>"))
    }),
];

pub(super) static ATTRIBUTES: [Spec; 3] = [
    NAME,
    text("DriverName", |object, _| json!(string(object, "/driverName"))),
    AGE,
];

pub(super) static COMPONENTS: [Spec; 4] = [
    NAME,
    text("Status", |object, _| {
        json!(match healthy(object).map(|one| string(one, "/status")) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        })
    }),
    text("Message", |object, _| {
        json!(healthy(object).map_or("", |one| string(one, "/message")))
    }),
    text("Error", |object, _| {
        json!(healthy(object).map_or("", |one| string(one, "/error")))
    }),
];

fn healthy(object: &Value) -> Option<&Value> {
    list(object, "/conditions").find(|one| string(one, "/type") == "Healthy")
}
