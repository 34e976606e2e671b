//! A problem daemon to start from: a condition that one line of a log sets and another clears.
//!
//! Its file must be granted: `capabilities: [{ name: node-logs, paths: [/var/log/disk.log] }]`.

use capstan_sdk::{
    Fault, HandOff, Plugin,
    problem::{Conditions, Findings, Line, LineSource, Monitor, Source},
};

const CONDITION: &str = "DiskFailing";

/// The configuration, by the schema that the host checks it against.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    path: String,
}

pub struct DiskFailing {
    path: String,
    conditions: Conditions,
}

impl Plugin for DiskFailing {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = r#"{
        "type": "object", "required": ["path"], "additionalProperties": false,
        "properties": { "path": { "type": "string", "pattern": "^/" } }
    }"#;

    fn new(config: Config) -> Result<Self, Fault> {
        let conditions = Conditions::default();
        Ok(Self {
            path: config.path,
            conditions,
        })
    }
}

impl Monitor for DiskFailing {
    fn sources(&self) -> Vec<Source> {
        let lookback_ms = 60_000; // what was logged while it started counts
        vec![Source::Lines(LineSource {
            path: self.path.clone(),
            lookback_ms,
        })]
    }

    fn on_line(&mut self, _: u32, line: Line, now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        if line.text.contains("I/O error") {
            self.conditions
                .set(CONDITION, "InputOutputError", line.text.as_str(), now_ms, found);
        } else if line.text.contains("disk replaced") {
            self.conditions
                .clear(CONDITION, "DiskReplaced", line.text.as_str(), now_ms, found);
        }
        Ok(())
    }
}

/// What the next revision is told, so that a swap forgets nothing.
impl HandOff for DiskFailing {
    fn save(&self) -> Vec<u8> {
        self.conditions.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.conditions = Conditions::restore(state)?;
        Ok(())
    }
}

capstan_sdk::export!(problem: monitor, hand_off => DiskFailing);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sets_the_condition_and_another_clears_it() {
        let mut daemon = DiskFailing::new(Config {
            path: "/var/log/disk.log".into(),
        })
        .expect("a daemon");
        let mut tell = |text: &str| {
            let (mut found, line) = (
                Vec::new(),
                Line {
                    time_ms: 1,
                    text: text.into(),
                },
            );
            daemon.on_line(0, line, 1, &mut found).expect("an answer");
            (found.len(), daemon.conditions.is_set(CONDITION))
        };
        assert_eq!(tell("sda: I/O error"), (1, true));
        assert_eq!(tell("nothing of note"), (0, true));
        assert_eq!(tell("disk replaced"), (1, false));
    }
}
