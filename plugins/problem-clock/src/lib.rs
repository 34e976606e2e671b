//! Clock skew: the conditions `ClockSkewed`, and the event `ClockStepped`.
//!
//! A step shows against the kernel's uptime, which no one sets. Skew shows against the other nodes: their leases
//! are renewed every few seconds by their own clocks, so one from the future is of a node that is ahead of this
//! one. It takes most of the other nodes to call this one wrong, and some readings in a row.

mod judge;

use capstan_sdk::{
    Fault, HandOff, Millis, Plugin,
    granted::{self, Kind},
    problem::{Alarm, Event, EventType, Finding, Findings, Monitor, Source},
};
use judge::{Lease, Skew};
use serde::Deserialize;

const CONDITION: &str = "ClockSkewed";
const UPTIME: &str = "/proc/uptime";
const LEASES: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    plural: "leases",
};
const LEASES_NAMESPACE: &str = "kube-node-lease";

/// The configuration; see `config.schema.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    interval: Millis,
    step: Millis,
    skew: Millis,
    readings: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Millis(10_000),
            step: Millis(1_000),
            skew: Millis(5_000),
            readings: 3,
        }
    }
}

/// The daemon.
pub struct Clock {
    config: Config,
    /// When the node was started, by its clock: uptime before now.
    started_ms: Option<i64>,
    alarm: Alarm,
}

impl Plugin for Clock {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self {
            alarm: Alarm::new(CONDITION, config.readings, config.readings),
            config,
            started_ms: None,
        })
    }
}

impl Monitor for Clock {
    fn sources(&self) -> Vec<Source> {
        vec![Source::Ticks(self.config.interval.0)]
    }

    fn on_tick(&mut self, now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        let uptime = granted::file(UPTIME)?;
        let leases = granted::list::<Lease>(LEASES, LEASES_NAMESPACE, "")?;
        self.judge(&uptime, &leases, now_ms, found)
    }
}

impl Clock {
    /// One round: the text of `/proc/uptime` and the leases of all nodes, this one's among them.
    ///
    /// # Errors
    /// When the uptime is no number.
    pub fn judge(
        &mut self,
        uptime: &str,
        leases: &[Lease],
        now_ms: u64,
        found: &mut Findings,
    ) -> Result<(), Fault> {
        let uptime_ms = judge::uptime_ms(uptime)
            .ok_or_else(|| Fault::permanent(format!("{UPTIME}: {uptime:?} does not begin with seconds")))?;
        let started_ms = now_ms.cast_signed() - uptime_ms.cast_signed();
        let step_ms = self.started_ms.map_or(0, |before| started_ms - before);
        self.started_ms = Some(started_ms);
        if step_ms.unsigned_abs() > self.config.step.0 {
            let way = if step_ms > 0 { "forward" } else { "back" };
            found.push(Finding::Event(Event {
                event_type: EventType::Warning,
                reason: "ClockStepped".into(),
                message: format!("the node's clock was set {way} by {} ms", step_ms.unsigned_abs()),
            }));
        }
        let skew = judge::skew(leases, now_ms, self.config.skew.0);
        let bad = skew.map(|Skew { way, by_ms, nodes }| {
            let message = format!(
                "by the leases of {nodes} other nodes this node's clock is {way} by {by_ms} ms or more"
            );
            ("ClockOff", message)
        });
        let well = ("ClockRight", "the node's clock is as the other nodes'");
        self.alarm.reading(bad, well, now_ms, found);
        Ok(())
    }
}

impl HandOff for Clock {
    fn save(&self) -> Vec<u8> {
        self.alarm.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.alarm.restore(state)
    }
}

pub use judge::{Lease as NodeLease, LeaseSpec};

capstan_sdk::export!(problem: monitor, hand_off => Clock);
