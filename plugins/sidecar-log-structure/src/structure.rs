//! From a line to one JSON object.

use crate::time::rfc3339;
use capstan_sdk::sidecar::Stream;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Names under which programs write the same thing, the common name's usual ones first.
const MESSAGE: [&str; 4] = ["msg", "message", "log", "text"];
const LEVEL: [&str; 4] = ["level", "severity", "lvl", "loglevel"];
const TIME: [&str; 4] = ["ts", "time", "timestamp", "@timestamp"];
/// How far into a line a level is looked for: beyond a timestamp and a logger's name it is prose.
const LEVEL_WORDS: usize = 6;

/// `{"ts":…,"stream":…,"level":…,"msg":…, and the line's own fields}`.
pub(crate) fn structured(
    text: &str,
    time_ms: u64,
    stream: Stream,
    fields: &BTreeMap<String, String>,
) -> String {
    let mut own = match text.trim_start().starts_with('{') {
        true => capstan_sdk::json::from_str::<Map<String, Value>>(text).unwrap_or_default(),
        false => Map::new(),
    };
    let take = |own: &mut Map<String, Value>, names: &[&str]| names.iter().find_map(|name| own.remove(*name));
    let object = !own.is_empty();
    let ts = take(&mut own, &TIME)
        .filter(Value::is_string)
        .unwrap_or_else(|| rfc3339(time_ms).into());
    let level = take(&mut own, &LEVEL).and_then(|level| level.as_str().and_then(name_of_level));
    let level = level.or_else(|| if object { None } else { find_level(text) });
    let level = level.unwrap_or(if stream == Stream::Stderr { "error" } else { "info" });
    let message = take(&mut own, &MESSAGE).unwrap_or_else(|| if object { "".into() } else { text.into() });
    let stream = if stream == Stream::Stderr {
        "stderr"
    } else {
        "stdout"
    };
    let mut line = format!("{{\"ts\":{ts},\"stream\":\"{stream}\",\"level\":\"{level}\",\"msg\":{message}");
    let fixed = fields
        .iter()
        .filter(|(name, _)| !own.contains_key(*name))
        .map(|(name, value)| (name, Value::from(value.as_str())));
    let fixed: Vec<_> = fixed.collect();
    for (name, value) in own.iter().chain(fixed.iter().map(|(name, value)| (*name, value))) {
        line.push_str(&format!(",{}:{value}", Value::from(name.as_str())));
    }
    line.push('}');
    line
}

fn name_of_level(word: &str) -> Option<&'static str> {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphabetic());
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(word));
    match () {
        () if is(&["trace", "debug", "dbg", "fine"]) => Some("debug"),
        () if is(&["info", "inf", "notice", "information"]) => Some("info"),
        () if is(&["warn", "warning", "wrn"]) => Some("warn"),
        () if is(&["error", "err", "eror", "severe"]) => Some("error"),
        () if is(&["fatal", "panic", "critical", "crit", "emerg", "alert"]) => Some("fatal"),
        () => None,
    }
}

/// A level among a line's first words: `[WARN]`, `level=warn`, `ERROR:`, or klog's `W0102 …`.
fn find_level(text: &str) -> Option<&'static str> {
    let klog = text.as_bytes();
    if klog.len() > 5 && klog[1..5].iter().all(u8::is_ascii_digit) && klog[5] == b' ' {
        match klog[0] {
            b'I' => return Some("info"),
            b'W' => return Some("warn"),
            b'E' => return Some("error"),
            b'F' => return Some("fatal"),
            _ => {}
        }
    }
    text.split_whitespace().take(LEVEL_WORDS).find_map(|word| {
        // A word of prose such as "error" counts only where it is set off as a level is.
        let value = word.strip_prefix("level=");
        let set_off = value.is_some()
            || word.starts_with('[')
            || word.ends_with(':')
            || word.bytes().all(|b| !b.is_ascii_lowercase());
        if set_off {
            name_of_level(value.unwrap_or(word))
        } else {
            None
        }
    })
}
