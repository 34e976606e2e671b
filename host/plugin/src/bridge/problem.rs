//! `capstan:problem` as [`problem::Daemon`]: one resident instance, its state handed over on a swap.
//!
//! After a hand-off the old seat forwards what still reaches it to the new one: no line is lost between the
//! saved state and the swap.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capstan_kinds::plugin::NodesBind;
use capstan_kinds::selector::LabelSelector;
use capstan_points::Fault;
use capstan_points::problem::{self, Condition, ConditionStatus, Event, Finding, Line, Sample, Source};

use super::Ring;
use crate::bindings::problem::exports::capstan::problem::monitor as wit;
use crate::bindings::types;
use crate::error::LoadError;
use crate::health::Health;
use crate::live::{Answer, Live};
use crate::lock::lock;
use crate::program::Program;
use crate::resident::Resident;

/// Sources of one daemon, findings of one call.
const SOURCES_MAX: usize = 64;
const FINDINGS_MAX: usize = 1_000;
const INTERVAL_MS_MIN: u64 = 100;
/// What each line adds to a call's deadline: rules are many, and lines come by the hundred.
const LINE_ALLOWANCE: Duration = Duration::from_micros(200);

/// What a daemon was told.
#[derive(Debug, Clone)]
pub(crate) enum Told {
    Lines {
        source: u32,
        lines: Vec<Line>,
        dropped: u64,
        now_ms: u64,
    },
    Samples(Vec<Sample>, u64),
    Tick(u64),
}

pub(crate) type Recorded = Ring<Told>;

pub(crate) struct Daemon {
    resident: Resident<wit::Guest>,
    nodes: LabelSelector,
    program: Arc<Program>,
    recorded: Arc<Ring<Told>>,
    successor: Mutex<Option<Arc<Daemon>>>,
}

impl Daemon {
    pub(crate) fn new(
        program: &Arc<Program>,
        health: &Arc<Health>,
        bind: &NodesBind,
        recorded: Arc<Ring<Told>>,
    ) -> Result<Self, LoadError> {
        let indices = wit::GuestIndices::new(&program.pre)
            .map_err(|error| LoadError::Link(crate::cache::chain(&error)))?;
        let bind_exports = move |live: &mut Live| {
            let instance = live.instance;
            live.initialize(|store| indices.load(store, &instance))
        };
        Ok(Self {
            resident: Resident::new(Arc::clone(program), Arc::clone(health), Box::new(bind_exports)),
            nodes: super::selector("spec.bind.nodes.selector", bind.selector.as_ref())?,
            program: Arc::clone(program),
            recorded,
            successor: Mutex::new(None),
        })
    }

    /// Tells an instance of its own what the revision before was told.
    pub(crate) fn rehearse(&self) -> Result<(), (String, Fault)> {
        let rehearsal = |fault| ("a fresh instance".to_owned(), fault);
        let (mut live, guest) = self.resident.fresh().map_err(rehearsal)?;
        for told in self.recorded.recorded() {
            let input = match &told {
                Told::Lines { lines, .. } => format!("{} lines", lines.len()),
                Told::Samples(..) => "samples".to_owned(),
                Told::Tick(_) => "a tick".to_owned(),
            };
            live.call(allowance(&told), |store| tell(&guest, store, &told))
                .map_err(|fault| (input, fault))?;
        }
        Ok(())
    }

    /// Starts the instance, with the state of the seat before it where both export the hand-off. From then
    /// on the old seat forwards to this one.
    pub(crate) fn take_over(self: &Arc<Self>, old: Option<&Arc<Daemon>>) -> Result<(), Fault> {
        let Some(old) = old else {
            return self.resident.warm();
        };
        old.resident.between_calls(|old_program, seated| {
            let state = match seated {
                // An old revision that cannot give its state away must not keep its successor out for ever.
                Some((live, _)) => old_program.save_state(live).unwrap_or_else(|fault| {
                    let plugin = &old_program.context.plugin;
                    tracing::warn!(plugin, %fault, "the revision before gave no state; starting clean");
                    None
                }),
                None => None,
            };
            self.resident.between_calls(|program, fresh| -> Result<(), Fault> {
                let (mut live, mut guest) = self.resident.fresh()?;
                if let Some(state) = state
                    && let Err(fault) = program.restore_state(&mut live, &state)
                {
                    let plugin = &program.context.plugin;
                    tracing::warn!(plugin, %fault, "state of the revision before was not taken; starting clean");
                    (live, guest) = self.resident.fresh()?;
                }
                *fresh = Some((live, guest));
                Ok(())
            })?;
            // Set under the old seat's lock: a call that waits for it will see the successor.
            *lock(&old.successor) = Some(Arc::clone(self));
            Ok(())
        })
    }

    /// Answers for itself again, after its successor failed.
    pub(crate) fn reclaim(&self) {
        *lock(&self.successor) = None;
    }

    fn successor(&self) -> Option<Arc<Daemon>> {
        lock(&self.successor).clone()
    }

    fn tell(&self, told: Told) -> Result<Vec<Finding>, Fault> {
        if let Some(successor) = self.successor() {
            return successor.tell(told);
        }
        let answer = self.resident.call_unless(
            allowance(&told),
            || self.successor().is_some(),
            |guest, store| tell(guest, store, &told),
        );
        let Some(answer) = answer else {
            return self.tell(told);
        };
        let findings = self.resident.health.note(answer)?;
        if findings.len() > FINDINGS_MAX {
            let message = format!(
                "{} findings at once; at most {FINDINGS_MAX} make sense",
                findings.len()
            );
            return Err(self.resident.health.garbage(message));
        }
        self.recorded.record(told);
        Ok(findings.into_iter().map(finding).collect())
    }
}

fn allowance(told: &Told) -> Duration {
    match told {
        Told::Lines { lines, .. } => LINE_ALLOWANCE * u32::try_from(lines.len()).unwrap_or(u32::MAX),
        Told::Samples(..) | Told::Tick(_) => Duration::ZERO,
    }
}

fn tell(
    guest: &wit::Guest,
    store: &mut wasmtime::Store<crate::state::State>,
    told: &Told,
) -> Answer<Vec<wit::Finding>> {
    match told {
        Told::Lines {
            source,
            lines,
            dropped,
            now_ms,
        } => {
            let wit_lines: Vec<wit::Line> = lines
                .iter()
                .map(|l| wit::Line {
                    time_ms: l.time_ms,
                    text: l.text.clone(),
                })
                .collect();
            guest.call_on_lines(store, *source, &wit_lines, *dropped, *now_ms)
        }
        Told::Samples(samples, now_ms) => {
            let samples: Vec<wit::Sample> = samples
                .iter()
                .map(|s| wit::Sample {
                    name: s.name.clone(),
                    value: s.value,
                })
                .collect();
            guest.call_on_samples(store, &samples, *now_ms)
        }
        Told::Tick(now_ms) => guest.call_on_tick(store, *now_ms),
    }
}

fn finding(finding: wit::Finding) -> Finding {
    match finding {
        wit::Finding::Condition(condition) => Finding::Condition(Condition {
            type_name: condition.type_name,
            status: status(condition.status),
            reason: condition.reason,
            message: condition.message,
        }),
        wit::Finding::Event(event) => Finding::Event(Event {
            warning: event.event_type == types::EventType::Warning,
            reason: event.reason,
            message: event.message,
        }),
    }
}

pub(super) fn status(status: types::ConditionStatus) -> ConditionStatus {
    match status {
        types::ConditionStatus::Yes => ConditionStatus::True,
        types::ConditionStatus::No => ConditionStatus::False,
        types::ConditionStatus::Unknown => ConditionStatus::Unknown,
    }
}

impl problem::Daemon for Daemon {
    fn selects(&self, node_labels: &BTreeMap<String, String>) -> bool {
        self.nodes.matches_labels(node_labels)
    }

    fn may_read(&self, path: &str) -> bool {
        self.program.context.grants.covers_path("node-logs", path)
    }

    fn sources(&self) -> Result<Vec<Source>, Fault> {
        let sources = self.resident.call(
            Duration::ZERO,
            || {},
            |guest, store| Ok(Ok(guest.call_sources(store)?)),
        )?;
        if sources.len() > SOURCES_MAX {
            let message = format!("{} sources; at most {SOURCES_MAX} make sense", sources.len());
            return Err(self.resident.health.garbage(message));
        }
        let source = |source| match source {
            wit::Source::Lines(lines) => Source::Lines {
                path: lines.path,
                lookback_ms: lines.lookback_ms,
            },
            wit::Source::Samples(ms) => Source::Samples {
                interval_ms: ms.max(INTERVAL_MS_MIN),
            },
            wit::Source::Ticks(ms) => Source::Ticks {
                interval_ms: ms.max(INTERVAL_MS_MIN),
            },
        };
        Ok(sources.into_iter().map(source).collect())
    }

    fn on_lines(
        &self,
        source: u32,
        lines: &[Line],
        dropped: u64,
        now_ms: u64,
    ) -> Result<Vec<Finding>, Fault> {
        self.tell(Told::Lines {
            source,
            lines: lines.to_vec(),
            dropped,
            now_ms,
        })
    }

    fn on_samples(&self, samples: &[Sample], now_ms: u64) -> Result<Vec<Finding>, Fault> {
        self.tell(Told::Samples(samples.to_vec(), now_ms))
    }

    fn on_tick(&self, now_ms: u64) -> Result<Vec<Finding>, Fault> {
        self.tell(Told::Tick(now_ms))
    }
}
