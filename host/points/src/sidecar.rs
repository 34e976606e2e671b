//! Sidecar logic (`capstan:sidecar`): a pod's log lines and metrics page, without a sidecar container.

use crate::Fault;

/// Whose stream or page it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct StreamContext {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub labels: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A log line without its line end, at most 16 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Line {
    pub time_ms: u64,
    pub stream: Stream,
    pub text: String,
}

/// One container's stream through one plugin. Blocking calls, one at a time.
pub trait LogStream: Send {
    /// What takes the place of these lines.
    fn on_lines(&mut self, lines: Vec<Line>) -> Result<Vec<Line>, Fault>;

    /// Lines held back until now.
    fn flush(&mut self) -> Result<Vec<Line>, Fault>;
}

/// What the host serves for a selected pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Endpoint {
    pub listen_port: u16,
    pub listen_path: String,
    pub upstream_port: u16,
    pub upstream_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Page {
    pub content_type: String,
    pub body: String,
}

/// A sidecar plugin. Blocking calls from any blocking thread.
pub trait Sidecar: Send + Sync {
    /// Whether it is attached to a pod of this namespace with these labels.
    fn selects(&self, namespace: &str, pod_labels: &std::collections::BTreeMap<String, String>) -> bool;

    /// Whether it transforms log lines.
    fn transforms_logs(&self) -> bool;

    /// A fresh instance for one container's stream.
    fn open(&self, context: &StreamContext) -> Result<Box<dyn LogStream>, Fault>;

    /// Pages to serve for each selected pod; none where it is no adapter.
    fn endpoints(&self) -> Result<Vec<Endpoint>, Fault>;

    /// The workload's page in its new form.
    fn translate(&self, context: &StreamContext, page: Page) -> Result<Page, Fault>;
}
