//! Whether the container runtime answers: the condition `RuntimeUnhealthy`.
//!
//! The host asks the runtime and tells `runtime.up` and `runtime.latency-ms`; so many bad answers in a
//! row set the condition, so many good ones clear it.

use capstan_sdk::{
    Fault, HandOff, Millis, Plugin,
    problem::{Alarm, Findings, Monitor, Sample, Source, sample},
};
use serde::Deserialize;

const CONDITION: &str = "RuntimeUnhealthy";

/// The configuration; see `config.schema.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    interval: Millis,
    failures: u32,
    successes: u32,
    slower_than: Option<Millis>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Millis(5_000),
            failures: 3,
            successes: 2,
            slower_than: None,
        }
    }
}

/// The daemon.
pub struct RuntimeHealth {
    config: Config,
    alarm: Alarm,
}

impl Plugin for RuntimeHealth {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        let alarm = Alarm::new(CONDITION, config.failures, config.successes);
        Ok(Self { config, alarm })
    }
}

impl Monitor for RuntimeHealth {
    fn sources(&self) -> Vec<Source> {
        vec![Source::Samples(self.config.interval.0)]
    }

    fn on_samples(&mut self, samples: &[Sample], now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        let Some(up) = sample(samples, "runtime.up") else {
            return Ok(());
        };
        let slow = self.config.slower_than.is_some_and(|limit| {
            sample(samples, "runtime.latency-ms").is_some_and(|latency| latency > limit.0 as f64)
        });
        let bad = match (up > 0.0, slow) {
            (false, _) => Some(("RuntimeDown", "not at all")),
            (true, true) => Some(("RuntimeSlow", "slowly")),
            (true, false) => None,
        };
        let bad = bad.map(|(reason, what)| {
            let failures = self.config.failures;
            let message = format!("the container runtime answered {what} {failures} times in a row");
            (reason, message)
        });
        let well = ("RuntimeHealthy", "the container runtime answers");
        self.alarm.reading(bad, well, now_ms, found);
        Ok(())
    }
}

impl HandOff for RuntimeHealth {
    fn save(&self) -> Vec<u8> {
        self.alarm.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.alarm.restore(state)
    }
}

capstan_sdk::export!(problem: monitor, hand_off => RuntimeHealth);
