//! Problem daemons (`capstan:problem`): what is wrong with this node.

use crate::Fault;

/// What a daemon watches. Its number is its place in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Source {
    /// A followed file: absolute path, glob, or `/dev/kmsg`.
    Lines { path: String, lookback_ms: u64 },
    /// Host metrics every so many milliseconds.
    Samples { interval_ms: u64 },
    /// A tick every so many milliseconds.
    Ticks { interval_ms: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Line {
    pub time_ms: u64,
    pub text: String,
}

/// A host metric; names are listed in the WIT package.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Sample {
    pub name: String,
    pub value: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Condition {
    pub type_name: String,
    pub status: ConditionStatus,
    pub reason: String,
    pub message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Event {
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

/// What a daemon found. Repeating a condition costs nothing: changes only are written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Finding {
    Condition(Condition),
    Event(Event),
}

/// A problem daemon. Called from its own blocking thread, one call at a time.
pub trait Daemon: Send + Sync {
    /// Whether it runs on a node with these labels.
    fn selects(&self, node_labels: &std::collections::BTreeMap<String, String>) -> bool;

    /// Whether its grant covers reading this path or glob.
    fn may_read(&self, path: &str) -> bool;

    /// What to watch.
    fn sources(&self) -> Result<Vec<Source>, Fault>;

    /// Lines of one source, in order, at most 512; `dropped` were lost before them.
    fn on_lines(&self, source: u32, lines: &[Line], dropped: u64, now_ms: u64)
    -> Result<Vec<Finding>, Fault>;

    /// A reading of host metrics.
    fn on_samples(&self, samples: &[Sample], now_ms: u64) -> Result<Vec<Finding>, Fault>;

    /// Time passed.
    fn on_tick(&self, now_ms: u64) -> Result<Vec<Finding>, Fault>;
}
