//! What a problem daemon is told, step by step, and what it finds.

use std::collections::BTreeMap;

use capstan_points::Fault;
use capstan_points::problem::{ConditionStatus, Daemon, Finding, Line, Sample};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, Form};
use crate::rig::Rig;

/// News in order.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    steps: Vec<Step>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Step {
    /// Lines of the source with this number, in the order of the daemon's own list.
    source: u32,
    lines: Option<Vec<String>>,
    dropped: u64,
    samples: Option<BTreeMap<String, f64>>,
    /// RFC 3339 or milliseconds; alone, it is a tick.
    at: Option<Value>,
}

/// A step in the daemon's terms.
enum Told {
    Lines(u32, Vec<Line>, u64, u64),
    Samples(Vec<Sample>, u64),
    Tick(u64),
}

impl Question {
    pub(crate) fn prepare<'a>(&'a self, rig: &'a Rig) -> Result<Ask<'a>, String> {
        let seat = rig.host.problem_seats().borrow().first().cloned();
        let daemon = seat.ok_or("no problem daemon is loaded")?.policy;
        let told: Vec<Told> = self.steps.iter().map(told).collect::<Result<_, _>>()?;
        Ok(Box::new(move |form| {
            let mut steps = Vec::with_capacity(told.len());
            for told in &told {
                steps.push(tell(&*daemon, told)?);
            }
            Ok(match form {
                Form::Silent => Value::Null,
                Form::Shown => answer(steps),
            })
        }))
    }
}

fn told(step: &Step) -> Result<Told, String> {
    let now_ms = super::time(step.at.as_ref())?;
    match (&step.lines, &step.samples) {
        (Some(_), Some(_)) => Err("a step tells lines or samples, not both".into()),
        (Some(lines), None) => {
            let line = |text: &String| Line {
                time_ms: now_ms,
                text: text.clone(),
            };
            Ok(Told::Lines(
                step.source,
                lines.iter().map(line).collect(),
                step.dropped,
                now_ms,
            ))
        }
        (None, Some(samples)) => {
            let sample = |(name, value): (&String, &f64)| Sample {
                name: name.clone(),
                value: *value,
            };
            Ok(Told::Samples(samples.iter().map(sample).collect(), now_ms))
        }
        (None, None) => Ok(Told::Tick(now_ms)),
    }
}

fn tell(daemon: &dyn Daemon, told: &Told) -> Result<Vec<Finding>, Fault> {
    match told {
        Told::Lines(source, lines, dropped, now_ms) => daemon.on_lines(*source, lines, *dropped, *now_ms),
        Told::Samples(samples, now_ms) => daemon.on_samples(samples, *now_ms),
        Told::Tick(now_ms) => daemon.on_tick(*now_ms),
    }
}

fn answer(steps: Vec<Vec<Finding>>) -> Value {
    let mut conditions = json!({});
    let mut told = Vec::new();
    for step in steps {
        let mut findings = Vec::new();
        for finding in step {
            findings.push(match finding {
                Finding::Condition(condition) => {
                    let status = match condition.status {
                        ConditionStatus::True => "True",
                        ConditionStatus::False => "False",
                        ConditionStatus::Unknown => "Unknown",
                    };
                    let mut now = json!({"status": status, "reason": condition.reason,
                                         "message": condition.message});
                    conditions[&condition.type_name] = now.clone();
                    now["condition"] = json!(condition.type_name);
                    now
                }
                Finding::Event(event) => {
                    let kind = if event.warning { "Warning" } else { "Normal" };
                    json!({"event": kind, "reason": event.reason, "message": event.message})
                }
            });
        }
        told.push(Value::Array(findings));
    }
    json!({"steps": told, "conditions": conditions})
}
