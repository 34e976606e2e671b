//! The columns of plugins and of exceptions from their policies.
//!
//! `Health` is the one word that an operator looks for: what is wrong, if anything is.

use serde_json::{Value, json};

use super::pod::condition;
use super::table::{AGE, NAME, Spec, integer, text, wide};
use super::{age, list, number, or_none, string};

/// Of a call, where the object does not say; as the plugin host has it.
const DEADLINE: &str = "10ms";

pub(super) static PLUGINS: [Spec; 11] = [
    NAME,
    text("World", |object, _| {
        let worlds = list(object, "/status/worlds").filter_map(Value::as_str);
        or_none(&worlds.collect::<Vec<_>>().join(","))
    }),
    text("Revision", |object, _| {
        or_none(string(object, "/status/revision"))
    }),
    text("Ready", |object, _| {
        json!(match condition(object, "Ready") {
            "" => "Unknown",
            status => status,
        })
    }),
    text("Health", |object, _| json!(health(object))),
    integer("Calls", |object, _| json!(number(object, "/status/calls"))),
    text("P99", |object, _| {
        json!(micros(number(object, "/status/p99Micros")))
    }),
    integer("Traps", |object, _| json!(number(object, "/status/traps"))),
    AGE,
    wide("Verdicts", |object, _| {
        let counts = ["denied", "warned", "audited", "excepted"].map(|verdict| {
            let count = number(object, &format!("/status/verdicts/{verdict}"));
            (count > 0).then(|| format!("{count} {verdict}"))
        });
        or_none(&counts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }),
    wide("Last-Error", |object, _| {
        or_none(string(object, "/status/lastError"))
    }),
];

pub(super) static EXCEPTIONS: [Spec; 6] = [
    NAME,
    text("Plugins", |object, _| {
        let plugins = list(object, "/spec/plugins").filter_map(Value::as_str);
        or_none(&plugins.collect::<Vec<_>>().join(","))
    }),
    text("Expires", |object, _| or_none(string(object, "/spec/expires"))),
    text("Active", |object, now| {
        let end = age::seconds(string(object, "/spec/expires"));
        json!(if end.is_some_and(|end| now < end) { "True" } else { "False" })
    }),
    AGE,
    wide("Reason", |object, _| or_none(string(object, "/spec/reason"))),
];

/// What is wrong with a plugin, the worst first: failing, not as asked for, behind, slow.
fn health(object: &Value) -> String {
    let told = |kind: &str, status: &str| {
        list(object, "/status/conditions")
            .find(|one| string(one, "/type") == kind && string(one, "/status") == status)
            .map(|one| string(one, "/reason").to_owned())
    };
    if let Some(reason) = told("Degraded", "True") {
        return reason;
    }
    if let Some(candidate) = object.pointer("/status/candidate") {
        return format!("OnTrial ({} calls)", number(candidate, "/calls"));
    }
    if let Some(reason) = told("Ready", "False") {
        return reason;
    }
    let digest = string(object, "/status/digest");
    let is_behind = number(object, "/metadata/generation") > number(object, "/status/observedGeneration")
        || list(object, "/status/hosts").any(|host| string(host, "/digest") != digest);
    let deadline = match string(object, "/spec/limits/deadline") {
        "" => DEADLINE,
        own => own,
    };
    let is_slow = micros_of(deadline).is_some_and(|most| number(object, "/status/p99Micros") * 2 > most);
    match (is_behind, is_slow) {
        (true, _) => "Behind".into(),
        (false, true) => "Slow".into(),
        (false, false) if condition(object, "Ready").is_empty() => "Unknown".into(),
        (false, false) => "OK".into(),
    }
}

/// A span such as `1.5ms` in microseconds.
fn micros_of(span: &str) -> Option<i64> {
    let (number, factor) = match (span.strip_suffix("ms"), span.strip_suffix("us"), span.strip_suffix('s')) {
        (Some(number), ..) => (number, 1e3),
        (_, Some(number), _) => (number, 1.0),
        (.., Some(number)) => (number, 1e6),
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| (number * factor) as i64)
}

/// A span of microseconds in the unit that suits it.
fn micros(span_micros: i64) -> String {
    match span_micros {
        ..=0 => "<none>".to_string(),
        1..1_000 => format!("{span_micros}us"),
        1_000..1_000_000 => format!("{:.1}ms", span_micros as f64 / 1_000.0),
        _ => format!("{:.1}s", span_micros as f64 / 1_000_000.0),
    }
}
