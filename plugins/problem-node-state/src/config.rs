//! What can be configured, and the words of each check.

use capstan_sdk::Millis;
use serde::Deserialize;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    pub(crate) interval: Millis,
    pub(crate) readings: u32,
    pub(crate) writable: Vec<String>,
    pub(crate) network_errors_per_minute: f64,
    pub(crate) full_percent: f64,
    pub(crate) stalled_percent: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Millis(10_000),
            readings: 3,
            writable: ["/", "/var", "/var/lib", "/tmp"].map(str::to_owned).to_vec(),
            network_errors_per_minute: 100.0,
            full_percent: 90.0,
            stalled_percent: 20.0,
        }
    }
}

/// A condition and its words.
pub(crate) struct Check {
    pub(crate) condition: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) good: &'static str,
    pub(crate) well: &'static str,
}

pub(crate) const CHECKS: [Check; 5] = [
    Check {
        condition: "ReadonlyMount",
        bad: "MountedReadOnly",
        good: "MountedWritable",
        well: "what must be writable is",
    },
    Check {
        condition: "NetworkErrors",
        bad: "ManyNetworkErrors",
        good: "FewNetworkErrors",
        well: "the interfaces make few errors",
    },
    Check {
        condition: "ConntrackLow",
        bad: "FewConnectionsLeft",
        good: "EnoughConnections",
        well: "the table of connections has room",
    },
    Check {
        condition: "FileHandlesLow",
        bad: "FewFileHandlesLeft",
        good: "EnoughFileHandles",
        well: "there are enough file handles",
    },
    Check {
        condition: "Stalled",
        bad: "ProcessesWait",
        good: "ProcessesRun",
        well: "processes seldom wait for memory and disks",
    },
];
