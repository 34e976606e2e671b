//! What was measured, as a line and as JSON.

use serde_json::{Value, json};

/// A load and what came of it.
pub(crate) struct Row {
    pub(crate) part: &'static str,
    pub(crate) shape: String,
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    /// Pods a second.
    pub(crate) a_second: f64,
    /// 0 for none.
    pub(crate) goal: f64,
    /// Median and 99th percentile of a cycle with the assumption; zero where it was not measured.
    pub(crate) attempt_us: [f64; 2],
    /// Median and 99th percentile from the creation of a pod until a watcher sees it bound.
    pub(crate) end_to_end_ms: Option<[f64; 2]>,
    /// What the run added to the process.
    pub(crate) megabytes: f64,
}

/// The heads of [`Row::print`]'s columns.
pub(crate) fn heads(part: &str) {
    println!(
        "\n{part:<38} {:>7} {:>9} {:>7} {:>10} {:>10} {:>8}",
        "nodes", "pods/s", "goal", "p50", "p99", "MB"
    );
}

impl Row {
    pub(crate) fn print(&self) {
        let ([half, most], unit) = match self.end_to_end_ms {
            Some(times) => (times, "ms"),
            None => (self.attempt_us, "µs"),
        };
        let goal = match self.goal {
            0.0 => "-".to_owned(),
            goal => format!("{goal:.0}"),
        };
        let missed = if self.a_second < self.goal { "  missed" } else { "" };
        println!(
            "{:<38} {:>7} {:>9.0} {goal:>7} {half:>7.0} {unit} {most:>7.0} {unit} {:>8.0}{missed}",
            self.shape, self.nodes, self.a_second, self.megabytes
        );
    }

    fn json(&self) -> Value {
        json!({
            "part": self.part, "shape": self.shape, "nodes": self.nodes, "pods": self.pods,
            "podsPerSecond": self.a_second, "goal": self.goal, "attemptMicrosecondsP50P99": self.attempt_us,
            "endToEndMillisecondsP50P99": self.end_to_end_ms, "megabytes": self.megabytes,
        })
    }
}

pub(crate) fn json(rows: &[Row]) -> String {
    format!("{:#}\n", Value::from_iter(rows.iter().map(Row::json)))
}
