//! What can be configured.

use capstan_sdk::sidecar::Endpoint;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub(crate) endpoints: Vec<Served>,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) prefix: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) types: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) help: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Auto,
    Lines,
    Statsd,
    Json,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Served {
    listen_port: u16,
    #[serde(default = "metrics")]
    listen_path: String,
    upstream_port: u16,
    #[serde(default = "root")]
    upstream_path: String,
}

fn metrics() -> String {
    "/metrics".into()
}

fn root() -> String {
    "/".into()
}

impl Served {
    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            listen_port: self.listen_port,
            listen_path: self.listen_path.clone(),
            upstream_port: self.upstream_port,
            upstream_path: self.upstream_path.clone(),
        }
    }
}
