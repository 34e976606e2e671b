//! What can be configured.

use serde::Deserialize;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// Which nodes score higher.
    pub strategy: Strategy,
    /// The resources that scores weigh.
    pub resources: Vec<Resource>,
    /// Resources that the filter passes over.
    pub ignored_resources: Vec<String>,
    /// Whether even use scores too.
    pub balance: bool,
}

/// Which nodes score higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Strategy {
    /// Emptier ones.
    LeastAllocated,
    /// Fuller ones.
    MostAllocated,
}

/// A resource that scores weigh.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// For instance `cpu`.
    pub name: String,
    /// Its part in the mean.
    #[serde(default = "one")]
    pub weight: i64,
}

fn one() -> i64 {
    1
}

impl Default for Config {
    fn default() -> Self {
        let resource = |name: &str| Resource {
            name: name.into(),
            weight: 1,
        };
        Self {
            strategy: Strategy::LeastAllocated,
            resources: vec![resource("cpu"), resource("memory")],
            ignored_resources: Vec::new(),
            balance: true,
        }
    }
}
