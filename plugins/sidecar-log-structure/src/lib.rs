//! Redacts secrets from log lines and structures lines as JSON, one object a line.
//!
//! Redaction comes first, so that a secret is in no field. A line that is a JSON object already keeps its
//! fields; its message, level and time are brought under the common names.

mod redact;
mod structure;
mod time;

use capstan_sdk::{
    Fault, Plugin,
    sidecar::{Line, Logs},
};
use redact::Redaction;
use std::collections::BTreeMap;

/// The configuration; see `config.schema.json`.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    structure: bool,
    redact_known: bool,
    redact: Vec<redact::Rule>,
    fields: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            structure: true,
            redact_known: true,
            redact: Vec::new(),
            fields: BTreeMap::new(),
        }
    }
}

/// The transform.
pub struct LogStructure {
    config: Config,
    redactions: Vec<Redaction>,
}

impl Plugin for LogStructure {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        let redactions = redact::all(&config.redact, config.redact_known)?;
        Ok(Self { config, redactions })
    }
}

impl Logs for LogStructure {
    fn line(&mut self, line: Line, out: &mut Vec<Line>) -> Result<(), Fault> {
        let mut text = line.text;
        for redaction in &self.redactions {
            redaction.apply(&mut text);
        }
        if self.config.structure {
            text = structure::structured(&text, line.time_ms, line.stream, &self.config.fields);
        }
        out.push(Line { text, ..line });
        Ok(())
    }
}

capstan_sdk::export!(sidecar: logs => LogStructure);
