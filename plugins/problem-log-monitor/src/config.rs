//! node-problem-detector's rule file.

use capstan_sdk::Millis;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    #[serde(default = "kmsg")]
    pub(crate) plugin: String,
    #[serde(default)]
    pub(crate) plugin_config: BTreeMap<String, String>,
    #[serde(default = "kernel_log")]
    pub(crate) log_path: String,
    #[serde(default)]
    pub(crate) lookback: Millis,
    /// How long node-problem-detector waits at start: the host starts daemons when it is ready.
    #[serde(default, rename = "delay")]
    _delay: Millis,
    #[serde(default)]
    pub(crate) skip_list: Vec<String>,
    #[serde(default = "buffer_size")]
    pub(crate) buffer_size: usize,
    /// The host names the plugin as the source of events.
    #[serde(default, rename = "source")]
    _source: String,
    #[serde(default, rename = "metricsReporting")]
    _metrics_reporting: bool,
    #[serde(default)]
    pub(crate) conditions: Vec<Default>,
    pub(crate) rules: Vec<Rule>,
}

/// A condition as it is while nothing is wrong.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Default {
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    #[serde(default)]
    pub(crate) condition: String,
    pub(crate) reason: String,
    pub(crate) pattern: String,
    #[serde(default)]
    pub(crate) pattern_generated_message_suffix: String,
    pub(crate) clear_pattern: Option<String>,
    pub(crate) clear_after: Option<Millis>,
    /// How many such lines within `window` it takes.
    pub(crate) count: Option<u32>,
    pub(crate) window: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Temporary,
    Permanent,
}

fn kmsg() -> String {
    "kmsg".into()
}

fn kernel_log() -> String {
    "/dev/kmsg".into()
}

fn buffer_size() -> usize {
    10
}
