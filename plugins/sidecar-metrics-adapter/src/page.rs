//! Writing of the Prometheus text form.

use crate::{config::Config, read::Sample};
use std::{collections::BTreeMap, fmt::Write};

/// All samples, each name once with its help and type, then its series.
pub(crate) fn write(config: &Config, samples: Vec<Sample>) -> String {
    // A series given twice would spoil the page: the last value stands, counters add up.
    let mut names: BTreeMap<String, (String, bool, BTreeMap<String, f64>)> = BTreeMap::new();
    for sample in samples {
        let name = format!("{}{}", config.prefix, valid(&sample.name, true));
        let labels = labels(config, &sample.labels);
        let (_, counter, series) = names
            .entry(name)
            .or_insert_with(|| (sample.name, sample.counter, BTreeMap::new()));
        let value = series.entry(labels).or_insert(0.0);
        *value = if *counter {
            *value + sample.value
        } else {
            sample.value
        };
    }
    let mut page = String::new();
    for (name, (original, counter, series)) in names {
        let known =
            |texts: &BTreeMap<String, String>| texts.get(&name).or_else(|| texts.get(&original)).cloned();
        let help = known(&config.help).unwrap_or_else(|| format!("{original} as the workload reports it"));
        let kind = known(&config.types).unwrap_or_else(|| if counter { "counter" } else { "gauge" }.into());
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in series {
            let _ = writeln!(page, "{name}{labels} {value}");
        }
    }
    page
}

fn labels(config: &Config, own: &[(String, String)]) -> String {
    let fixed = config
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    let own = own.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let all: BTreeMap<String, &str> = fixed
        .chain(own)
        .map(|(key, value)| (valid(key, false), value))
        .collect();
    let escaped = |value: &str| {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let each: Vec<String> = all
        .iter()
        .map(|(key, value)| format!("{key}=\"{}\"", escaped(value)))
        .collect();
    if each.is_empty() {
        String::new()
    } else {
        format!("{{{}}}", each.join(","))
    }
}

/// A name in the characters that Prometheus allows.
fn valid(name: &str, colons: bool) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let mut valid: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if valid.is_empty() || valid.starts_with(|c: char| c.is_ascii_digit()) {
        valid.insert(0, '_');
    }
    valid
}
