//! Reading of the forms in which workloads serve metrics.

use crate::config::Format;
use capstan_sdk::Fault;
use serde_json::Value;

/// How deep a JSON page is followed.
const DEPTH_MAX: usize = 8;
/// How many samples a page may have.
const SAMPLES_MAX: usize = 10_000;

/// One value with its name as the workload has it.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
    pub(crate) counter: bool,
}

impl Sample {
    fn new(name: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            labels: Vec::new(),
            value,
            counter: false,
        }
    }
}

/// The form that a page seems to be in.
pub(crate) fn guess(body: &str) -> Format {
    let first = body
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    if first.starts_with(['{', '[']) {
        Format::Json
    } else if first.contains(':') && first.contains('|') {
        Format::Statsd
    } else {
        Format::Lines
    }
}

/// All samples of a page.
pub(crate) fn samples(format: Format, body: &str) -> Result<Vec<Sample>, Fault> {
    let mut samples = Vec::new();
    match format {
        Format::Json => {
            let page: Value = capstan_sdk::json::from_str(body)
                .map_err(|e| Fault::permanent(format!("the page is not JSON: {e}")))?;
            flatten(&page, String::new(), 0, &mut samples);
        }
        _ => {
            let read = if format == Format::Statsd { statsd } else { line };
            let lines = body.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
            for (number, text) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
                let unread = || Fault::permanent(format!("line {number} is no metric: {text:?}"));
                samples.push(read(text).ok_or_else(unread)?);
            }
        }
    }
    match samples.len() {
        0..=SAMPLES_MAX => Ok(samples),
        many => Err(Fault::permanent(format!(
            "the page has {many} samples; at most {SAMPLES_MAX} are translated"
        ))),
    }
}

/// `name value`, `name: value` or `name=value`.
fn line(text: &str) -> Option<Sample> {
    let at = text.rfind([' ', '\t', '=', ':'])?;
    let (name, value) = (
        text[..at].trim_end_matches([' ', '\t', '=', ':']),
        &text[at + 1..],
    );
    (!name.is_empty()).then_some(Sample::new(name, value.parse().ok()?))
}

/// `name:value|type|@rate|#tag:value,tag:value`.
fn statsd(text: &str) -> Option<Sample> {
    let (name, rest) = text.split_once(':')?;
    let mut parts = rest.split('|');
    let mut sample = Sample::new(name, parts.next()?.parse().ok()?);
    sample.counter = parts.next()? == "c";
    for part in parts {
        if let Some(rate) = part.strip_prefix('@').and_then(|rate| rate.parse::<f64>().ok()) {
            if sample.counter && rate > 0.0 {
                sample.value /= rate;
            }
        } else if let Some(tags) = part.strip_prefix('#') {
            let pairs = tags
                .split(',')
                .map(|tag| tag.split_once(':').unwrap_or((tag, "")));
            sample.labels = pairs
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
        }
    }
    Some(sample)
}

fn flatten(value: &Value, name: String, depth: usize, samples: &mut Vec<Sample>) {
    let below = |key: &str| {
        if name.is_empty() {
            key.to_owned()
        } else {
            format!("{name}_{key}")
        }
    };
    match value {
        _ if depth > DEPTH_MAX || samples.len() > SAMPLES_MAX => {}
        Value::Object(members) => members
            .iter()
            .for_each(|(key, value)| flatten(value, below(key), depth + 1, samples)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(at, item)| flatten(item, below(&at.to_string()), depth + 1, samples)),
        Value::Number(number) => samples.extend(number.as_f64().map(|value| Sample::new(&name, value))),
        Value::Bool(set) => samples.push(Sample::new(&name, f64::from(u8::from(*set)))),
        Value::Null | Value::String(_) => {}
    }
}
