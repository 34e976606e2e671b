//! What can be configured.

use capstan_sdk::Fault;
use serde::Deserialize;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    pub(crate) host_paths: Option<HostPaths>,
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) host_ports: Option<HostPorts>,
    pub(crate) host_namespaces: Option<HostNamespaces>,
    pub(crate) exempt_namespaces: Vec<String>,
}

impl Config {
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let ranges = self.host_ports.iter().flat_map(|ports| &ports.allowed);
        match ranges.enumerate().find(|(_, range)| range.to < range.from) {
            Some((at, range)) => Err(Fault::permanent(format!(
                "hostPorts.allowed[{at}].to: {} is below from {}",
                range.to, range.from
            ))),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HostPaths {
    allowed: Vec<Folder>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Folder {
    path: String,
    #[serde(default)]
    read_only: bool,
}

impl HostPaths {
    /// Whether the path may be mounted, and if so whether read-only alone. A folder that allows more wins.
    pub(crate) fn allow(&self, path: &str) -> Option<bool> {
        // A way back up could lead anywhere.
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        let below = |folder: &&Folder| {
            let rest = path.strip_prefix(folder.path.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = self.allowed.iter().filter(below);
        found.map(|folder| folder.read_only).min()
    }

    pub(crate) fn hint(&self) -> String {
        let paths: Vec<&str> = self.allowed.iter().map(|folder| folder.path.as_str()).collect();
        hint(paths)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Capabilities {
    pub(crate) allowed: Vec<String>,
    pub(crate) require_drop: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HostPorts {
    allowed: Vec<Range>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: i64,
    to: i64,
}

impl HostPorts {
    pub(crate) fn allow(&self, port: i64) -> bool {
        self.allowed
            .iter()
            .any(|range| (range.from..=range.to).contains(&port))
    }

    pub(crate) fn hint(&self) -> String {
        let ranges: Vec<String> = self
            .allowed
            .iter()
            .map(|range| format!("{} to {}", range.from, range.to))
            .collect();
        hint(ranges.iter().map(String::as_str).collect())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HostNamespaces {
    pub(crate) allowed: Vec<String>,
}

fn hint(allowed: Vec<&str>) -> String {
    if allowed.is_empty() {
        "none is".into()
    } else {
        format!("allowed: {}", allowed.join(", "))
    }
}
