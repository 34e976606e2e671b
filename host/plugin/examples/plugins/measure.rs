//! Hosts to measure, quantiles, memory, and the table.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::plugin::Plugin;
use capstan_plugin::{Host, Options};
use serde_json::{Value, json};

/// A host with these components bundled, its compile cache in the folder.
pub(crate) fn host(folder: &Path, components: &[(String, Vec<u8>)]) -> Arc<Host> {
    let bundled = components
        .iter()
        .map(|(name, bytes)| (name.clone(), Cow::Owned(bytes.clone())));
    let options = Options {
        cache_dir: folder.to_owned(),
        bundled: bundled.collect(),
        name: "bench".into(),
        ..Default::default()
    };
    Host::open(options).expect("the host opens")
}

pub(crate) fn plugin(name: &str, spec: Value) -> Plugin {
    serde_json::from_value(json!({"metadata": {"name": name, "generation": 1}, "spec": spec}))
        .expect("a manifest")
}

/// The value at a share of the sorted times, in microseconds.
pub(crate) fn micros(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let at = ((times.len() as f64 - 1.0) * share).round() as usize;
    times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

/// Memory of this process that is its own, in bytes: what it shares with nobody.
pub(crate) fn memory_bytes() -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let private = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kilobytes = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kilobytes.sum::<f64>() * 1024.0
}

/// What was measured, against its goal.
#[derive(Default)]
pub(crate) struct Table(Vec<Value>);

impl Table {
    pub(crate) fn row(&mut self, what: &str, value: f64, unit: &str, goal: Option<f64>) {
        let goal_text = goal.map_or(String::new(), |goal| format!("   goal {goal} {unit}"));
        println!("{what:<64} {value:>12.2} {unit}{goal_text}");
        self.0
            .push(json!({"what": what, "value": value, "unit": unit, "goal": goal}));
    }

    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(&self.0).expect("JSON is written");
        if let Err(error) = std::fs::write(path, text) {
            eprintln!("{}: {error}", path.display());
        }
    }
}
