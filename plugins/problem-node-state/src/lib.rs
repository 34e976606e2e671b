//! What a node's own files say of it: `ReadonlyMount`, `NetworkErrors`, `ConntrackLow`, `FileHandlesLow` and
//! `Stalled`.
//!
//! Files of `/proc`, each granted by its path. A file that is not there, as that of a kernel module that is not
//! loaded, leaves its check out. Bad readings in a row set a condition, good ones clear it.

mod config;
mod files;

pub use config::Config;

use capstan_sdk::{
    Fault, HandOff, Plugin, granted,
    problem::{Conditions, Findings, Monitor, Source, Streak},
};
use config::CHECKS;
use files::Counters;

/// The daemon.
pub struct NodeState {
    config: Config,
    streaks: [Streak; CHECKS.len()],
    /// What the interfaces had counted at the last reading, and when.
    before: Option<(u64, Counters)>,
    conditions: Conditions,
    told: bool,
}

impl Plugin for NodeState {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self {
            streaks: std::array::from_fn(|_| Streak::new(config.readings, config.readings)),
            config,
            before: None,
            conditions: Conditions::default(),
            told: false,
        })
    }
}

impl Monitor for NodeState {
    fn sources(&self) -> Vec<Source> {
        vec![Source::Ticks(self.config.interval.0)]
    }

    fn on_tick(&mut self, now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        self.judge(|path| granted::file(path).ok(), now_ms, found);
        Ok(())
    }
}

impl NodeState {
    /// One round; `read` gives the text of a file, or none where it is not there.
    pub fn judge(&mut self, read: impl Fn(&str) -> Option<String>, now_ms: u64, found: &mut Findings) {
        if !std::mem::replace(&mut self.told, true) {
            self.conditions.repeat(found);
        }
        for (at, check) in CHECKS.iter().enumerate() {
            let Some(objection) = self.look(check.condition, &read, now_ms) else {
                continue;
            };
            let was = self.conditions.is_set(check.condition);
            let now = self.streaks[at].reading(objection.is_none());
            if let Some(message) = objection.filter(|_| now && !was) {
                self.conditions
                    .set(check.condition, check.bad, message, now_ms, found);
            } else if !now && (was || !self.conditions.is_known(check.condition)) {
                self.conditions
                    .clear(check.condition, check.good, check.well, now_ms, found);
            }
        }
    }

    /// What is wrong now, if anything; the outer none where it cannot be told.
    fn look(
        &mut self,
        condition: &str,
        read: &impl Fn(&str) -> Option<String>,
        now_ms: u64,
    ) -> Option<Option<String>> {
        let config = &self.config;
        match condition {
            "ReadonlyMount" => {
                let mounts = read(files::MOUNTS)?;
                let bad = files::read_only(&mounts, &config.writable);
                Some((!bad.is_empty()).then(|| format!("mounted read-only: {}", bad.join(", "))))
            }
            "NetworkErrors" => {
                let counters = files::counters(&read(files::INTERFACES)?);
                let (then_ms, then) = self.before.replace((now_ms, counters.clone()))?;
                let limit = config.network_errors_per_minute;
                Some(files::fastest(&then, &counters, now_ms.saturating_sub(then_ms)).and_then(
                    |(interface, rate)| {
                        (rate > limit).then(|| {
                            format!("{interface} had {rate:.0} errors and drops a minute; {limit} are tolerated")
                        })
                    },
                ))
            }
            "ConntrackLow" => {
                let number = |path| read(path)?.trim().parse::<f64>().ok();
                let (used, most) = (number(files::CONNTRACK_COUNT)?, number(files::CONNTRACK_MAX)?);
                Some(full("tracked connections", used, most, config.full_percent))
            }
            "FileHandlesLow" => {
                let text = read(files::FILE_HANDLES)?;
                let mut numbers = text.split_whitespace().map_while(|word| word.parse::<f64>().ok());
                let (used, _, most) = (numbers.next()?, numbers.next()?, numbers.next()?);
                Some(full("file handles", used, most, config.full_percent))
            }
            _ => {
                let stalls = [(files::MEMORY_PRESSURE, "memory"), (files::IO_PRESSURE, "disks")];
                let shares = stalls.map(|(path, what)| Some((what, files::stalled_percent(&read(path)?)?)));
                let worst = shares
                    .into_iter()
                    .flatten()
                    .max_by(|(_, a), (_, b)| a.total_cmp(b))?;
                let bad = worst.1 > config.stalled_percent;
                Some(bad.then(|| {
                    format!(
                        "all processes waited for {} {:.0}% of the last minute",
                        worst.0, worst.1
                    )
                }))
            }
        }
    }
}

fn full(what: &str, used: f64, most: f64, limit_percent: f64) -> Option<String> {
    let percent = 100.0 * used / most.max(1.0);
    (percent > limit_percent).then(|| format!("{used:.0} of {most:.0} {what} are in use"))
}

impl HandOff for NodeState {
    fn save(&self) -> Vec<u8> {
        self.conditions.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.conditions = Conditions::restore(state)?;
        for (streak, check) in self.streaks.iter_mut().zip(&CHECKS) {
            streak.resume(self.conditions.is_set(check.condition));
        }
        Ok(())
    }
}

capstan_sdk::export!(problem: monitor, hand_off => NodeState);
