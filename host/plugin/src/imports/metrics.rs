//! `capstan:plugin/metrics`: series of a plugin on the host's metrics page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use crate::bindings::plugin::capstan::plugin::metrics::Host;
use crate::lock::lock;
use crate::state::State;

/// Names that one plugin may have.
const NAMES_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// All plugins' series: by plugin, then by name.
#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<BTreeMap<String, Series>>);

#[derive(Debug, Default)]
struct Series {
    values: BTreeMap<String, (Kind, f64)>,
    dropped: u64,
}

impl Registry {
    fn update(&self, plugin: &str, name: &str, kind: Kind, change: impl FnOnce(f64) -> f64) {
        let mut all = lock(&self.0);
        let series = all.entry(plugin.to_owned()).or_default();
        let is_new = !series.values.contains_key(name);
        if is_new && (series.values.len() >= NAMES_MAX || !is_name(name)) {
            series.dropped += 1;
            return;
        }
        let (known, value) = series.values.entry(name.to_owned()).or_insert((kind, 0.0));
        if *known == kind {
            *value = change(*value);
        } else {
            series.dropped += 1;
        }
    }

    /// Forgets a plugin that is gone.
    pub(crate) fn remove(&self, plugin: &str) {
        lock(&self.0).remove(plugin);
    }

    /// Appends all series in the Prometheus text form.
    pub(crate) fn write_text(&self, page: &mut String) {
        let all = lock(&self.0);
        let mut by_name: BTreeMap<&str, Vec<(&str, Kind, f64)>> = BTreeMap::new();
        for (plugin, series) in all.iter() {
            for (name, (kind, value)) in &series.values {
                by_name.entry(name).or_default().push((plugin, *kind, *value));
            }
        }
        for (name, rows) in by_name {
            let kind = if rows[0].1 == Kind::Counter {
                "counter"
            } else {
                "gauge"
            };
            let _ = writeln!(page, "# TYPE capstan_plugin_{name} {kind}");
            for (plugin, _, value) in rows {
                let _ = writeln!(page, "capstan_plugin_{name}{{plugin=\"{plugin}\"}} {value}");
            }
        }
        let _ = writeln!(page, "# TYPE capstan_plugin_metrics_dropped_total counter");
        for (plugin, series) in all.iter() {
            let dropped = series.dropped;
            let _ = writeln!(
                page,
                "capstan_plugin_metrics_dropped_total{{plugin=\"{plugin}\"}} {dropped}"
            );
        }
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl Host for State {
    fn add(&mut self, name: String, value: f64) {
        if value >= 0.0 {
            let metrics = &self.context.services.metrics;
            metrics.update(&self.context.plugin, &name, Kind::Counter, |old| old + value);
        }
    }

    fn set(&mut self, name: String, value: f64) {
        self.context
            .services
            .metrics
            .update(&self.context.plugin, &name, Kind::Gauge, |_| value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded_and_shown_with_their_plugin() {
        let registry = Registry::default();
        for n in 0..NAMES_MAX + 5 {
            registry.update("a", &format!("n{n}"), Kind::Counter, |old| old + 1.0);
        }
        registry.update("a", "n0", Kind::Counter, |old| old + 1.0);
        registry.update("b", "bad name", Kind::Gauge, |_| 1.0);
        let mut page = String::new();
        registry.write_text(&mut page);
        assert!(page.contains("capstan_plugin_n0{plugin=\"a\"} 2\n"), "{page}");
        assert!(
            page.contains("dropped_total{plugin=\"a\"} 5\n")
                && page.contains("dropped_total{plugin=\"b\"} 1\n")
        );
    }
}
