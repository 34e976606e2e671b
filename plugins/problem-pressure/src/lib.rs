//! Memory, disk, inode and process pressure, with hysteresis.
//!
//! The conditions are `MemoryLow`, `DiskSpaceLow`, `InodesLow` and `ProcessesLow`, not `MemoryPressure`,
//! `DiskPressure` and `PIDPressure`: those are the kubelet's own, which it writes with every status and
//! by which it evicts. Two writers of one condition would undo each other; these warn earlier.

use capstan_sdk::{
    Fault, HandOff, Millis, Plugin,
    problem::{Conditions, Findings, Hysteresis, Monitor, Sample, Source, Streak, sample},
};
use serde::Deserialize;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    interval: Millis,
    readings: u32,
    memory: Limits,
    disk: Limits,
    inodes: Limits,
    pids: Limits,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Limits {
    set_below_percent: f64,
    clear_at_percent: f64,
}

impl Default for Config {
    fn default() -> Self {
        let limits = |set_below_percent, clear_at_percent| Limits {
            set_below_percent,
            clear_at_percent,
        };
        Self {
            interval: Millis(10_000),
            readings: 3,
            memory: limits(5.0, 10.0),
            disk: limits(10.0, 15.0),
            inodes: limits(5.0, 10.0),
            pids: limits(10.0, 20.0),
        }
    }
}

/// One resource that can run low.
struct Watched {
    condition: &'static str,
    low: &'static str,
    enough: &'static str,
    what: &'static str,
    /// The samples of how much there is, and how much is left or used.
    samples: (&'static str, Left),
    limits: Hysteresis,
    streak: Streak,
}

enum Left {
    Available(&'static str),
    Used(&'static str),
}

impl Watched {
    /// The available part in percent; none where the host does not say.
    fn available_percent(&self, samples: &[Sample]) -> Option<f64> {
        let total = sample(samples, self.samples.0).filter(|total| *total > 0.0)?;
        let left = match self.samples.1 {
            Left::Available(name) => sample(samples, name)?,
            Left::Used(name) => total - sample(samples, name)?,
        };
        Some(100.0 * left / total)
    }
}

/// The daemon.
pub struct Pressure {
    interval: Millis,
    watched: [Watched; 4],
    conditions: Conditions,
    told: bool,
}

impl Plugin for Pressure {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        let all = [
            ("memory", config.memory),
            ("disk", config.disk),
            ("inodes", config.inodes),
            ("pids", config.pids),
        ];
        for (name, limits) in all {
            let (set, clear) = (limits.set_below_percent, limits.clear_at_percent);
            if clear < set {
                return Err(Fault::permanent(format!(
                    "{name}.clearAtPercent: {clear} is below setBelowPercent {set}"
                )));
            }
        }
        let watch = |condition, low, enough, what, samples, limits: Limits| Watched {
            condition,
            low,
            enough,
            what,
            samples,
            limits: Hysteresis {
                below: limits.set_below_percent,
                clear_at: limits.clear_at_percent,
            },
            streak: Streak::new(config.readings, config.readings),
        };
        let (memory, disk) = (
            Left::Available("memory.available-bytes"),
            Left::Available("disk.available-bytes"),
        );
        let (inodes, pids) = (Left::Available("disk.available-inodes"), Left::Used("pids.used"));
        let watched = [
            watch(
                "MemoryLow",
                "LittleMemory",
                "EnoughMemory",
                "memory",
                ("memory.total-bytes", memory),
                config.memory,
            ),
            watch(
                "DiskSpaceLow",
                "LittleDiskSpace",
                "EnoughDiskSpace",
                "disk space",
                ("disk.total-bytes", disk),
                config.disk,
            ),
            watch(
                "InodesLow",
                "FewInodes",
                "EnoughInodes",
                "inodes",
                ("disk.total-inodes", inodes),
                config.inodes,
            ),
            watch(
                "ProcessesLow",
                "FewProcesses",
                "EnoughProcesses",
                "processes",
                ("pids.maximum", pids),
                config.pids,
            ),
        ];
        Ok(Self {
            interval: config.interval,
            watched,
            conditions: Conditions::default(),
            told: false,
        })
    }
}

impl Monitor for Pressure {
    fn sources(&self) -> Vec<Source> {
        vec![Source::Samples(self.interval.0)]
    }

    fn on_samples(&mut self, samples: &[Sample], now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        if !self.told {
            self.told = true;
            self.conditions.repeat(found);
        }
        for watched in &mut self.watched {
            let Some(available) = watched.available_percent(samples) else {
                continue;
            };
            let was = self.conditions.is_set(watched.condition);
            let now = watched.streak.reading(!watched.limits.judge(was, available));
            let (kind, what) = (watched.condition, watched.what);
            if now && !was {
                let below = watched.limits.below;
                let message = format!(
                    "{available:.0}% of the node's {what} is available, below the threshold of {below}%"
                );
                self.conditions.set(kind, watched.low, message, now_ms, found);
            } else if !now && (was || !self.conditions.is_known(kind)) {
                self.conditions.clear(
                    kind,
                    watched.enough,
                    format!("the node has enough {what}"),
                    now_ms,
                    found,
                );
            }
        }
        Ok(())
    }
}

impl HandOff for Pressure {
    fn save(&self) -> Vec<u8> {
        self.conditions.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.conditions = Conditions::restore(state)?;
        for watched in &mut self.watched {
            watched.streak.resume(self.conditions.is_set(watched.condition));
        }
        Ok(())
    }
}

capstan_sdk::export!(problem: monitor, hand_off => Pressure);
