//! Whether the container runtime answers: the condition `RuntimeUnhealthy`.
//!
//! The host asks the runtime and tells `runtime.up` and `runtime.latency-ms`; so many bad answers in a
//! row set the condition, so many good ones clear it.

use capstan_sdk::{
    Fault, HandOff, Millis, Plugin,
    problem::{Conditions, Findings, Monitor, Sample, Source, Streak, sample},
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
    streak: Streak,
    conditions: Conditions,
    told: bool,
}

impl Plugin for RuntimeHealth {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        let streak = Streak::new(config.failures, config.successes);
        Ok(Self {
            config,
            streak,
            conditions: Conditions::default(),
            told: false,
        })
    }
}

impl Monitor for RuntimeHealth {
    fn sources(&self) -> Vec<Source> {
        vec![Source::Samples(self.config.interval.0)]
    }

    fn on_samples(&mut self, samples: &[Sample], now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        if !self.told {
            self.told = true;
            self.conditions.repeat(found);
        }
        let Some(up) = sample(samples, "runtime.up") else {
            return Ok(());
        };
        let slow = self.config.slower_than.is_some_and(|limit| {
            sample(samples, "runtime.latency-ms").is_some_and(|latency| latency > limit.0 as f64)
        });
        let (up, failures) = (up > 0.0, self.config.failures);
        let (was, now) = (
            self.conditions.is_set(CONDITION),
            self.streak.reading(up && !slow),
        );
        if now && !was {
            let (reason, what) = if up {
                ("RuntimeSlow", "slowly")
            } else {
                ("RuntimeDown", "not at all")
            };
            let message = format!("the container runtime answered {what} {failures} times in a row");
            self.conditions.set(CONDITION, reason, message, now_ms, found);
        } else if !now && (was || !self.conditions.is_known(CONDITION)) {
            self.conditions.clear(
                CONDITION,
                "RuntimeHealthy",
                "the container runtime answers",
                now_ms,
                found,
            );
        }
        Ok(())
    }
}

impl HandOff for RuntimeHealth {
    fn save(&self) -> Vec<u8> {
        self.conditions.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.conditions = Conditions::restore(state)?;
        self.streak.resume(self.conditions.is_set(CONDITION));
        Ok(())
    }
}

capstan_sdk::export!(problem: monitor, hand_off => RuntimeHealth);
