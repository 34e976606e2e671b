//! Log monitor: node-problem-detector's system log monitor with its rule files unchanged.
//!
//! A `temporary` rule makes an event, a `permanent` rule sets a condition. Conditions are also cleared,
//! which the original leaves to a restart: by a rule's `clearPattern`, or `clearAfter` its last match. A rule
//! with `count` and `window` speaks only once so many lines came so close together; counts begin anew with a
//! new revision, conditions are handed over.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;
mod pattern;

pub use config::Config;

use capstan_sdk::{
    Fault, HandOff, Plugin,
    problem::{Conditions, Event, EventType, Finding, Findings, Line, LineSource, Monitor, Source, Window},
};
use config::{Kind, Rule};
use pattern::{Lines, Pattern};

/// How often conditions are looked at for `clearAfter`.
const TICK_MS: u64 = 1_000;
/// Reason of a condition that is on the node though no rule speaks of it any more.
const NOT_WATCHED: &str = "NoLongerWatched";

/// The daemon.
pub struct LogMonitor {
    config: Config,
    rules: Vec<Ready>,
    /// Takes the message out of a line of a service's log.
    message: Option<regex_lite::Regex>,
    lines: Lines,
    conditions: Conditions,
    told: bool,
}

struct Ready {
    pattern: Pattern,
    clear: Option<Pattern>,
    window: Option<Window>,
}

impl Ready {
    /// Whether a match now is one that counts: any, or the one that makes it too many.
    fn counts(&mut self, now_ms: u64) -> bool {
        self.window.as_mut().is_none_or(|window| window.hit(now_ms))
    }
}

impl Plugin for LogMonitor {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        if !matches!(config.plugin.as_str(), "kmsg" | "filelog") {
            return Err(Fault::permanent(format!(
                "plugin: {:?} is not supported; use kmsg or filelog",
                config.plugin
            )));
        }
        let rules = config
            .rules
            .iter()
            .enumerate()
            .map(|(at, rule)| ready(&config, at, rule))
            .collect::<Result<_, _>>()?;
        let message = config.plugin_config.get("message").map(|text| {
            let refused = |e| {
                Fault::permanent(format!(
                    "pluginConfig.message: {text:?} is not a regular expression: {e}"
                ))
            };
            regex_lite::Regex::new(text).map_err(refused)
        });
        let (message, lines) = (message.transpose()?, Lines::new(config.buffer_size));
        Ok(Self {
            config,
            rules,
            message,
            lines,
            conditions: Conditions::default(),
            told: false,
        })
    }
}

fn ready(config: &Config, at: usize, rule: &Rule) -> Result<Ready, Fault> {
    let known = config
        .conditions
        .iter()
        .any(|condition| condition.type_name == rule.condition);
    if rule.kind == Kind::Permanent && !known {
        let wanted = &rule.condition;
        return Err(Fault::permanent(format!(
            "rules[{at}].condition: {wanted:?} is not one of the conditions"
        )));
    }
    let clear = rule
        .clear_pattern
        .as_ref()
        .map(|text| Pattern::new(&format!("rules[{at}].clearPattern"), text));
    Ok(Ready {
        pattern: Pattern::new(&format!("rules[{at}].pattern"), &rule.pattern)?,
        clear: clear.transpose()?,
        window: window(at, rule)?,
    })
}

fn window(at: usize, rule: &Rule) -> Result<Option<Window>, Fault> {
    match (rule.count, rule.window) {
        (None, None) => Ok(None),
        (Some(count), Some(span)) => Ok(Some(Window::new(count, span.0))),
        (Some(_), None) => Err(Fault::permanent(format!(
            "rules[{at}].window: count needs one, such as 10m"
        ))),
        (None, Some(_)) => Err(Fault::permanent(format!(
            "rules[{at}].count: window needs one, such as 5"
        ))),
    }
}

impl Monitor for LogMonitor {
    fn sources(&self) -> Vec<Source> {
        let lines = LineSource {
            path: self.config.log_path.clone(),
            lookback_ms: self.config.lookback.0,
        };
        vec![Source::Lines(lines), Source::Ticks(TICK_MS)]
    }

    fn on_line(&mut self, _: u32, line: Line, now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        self.tell_once(now_ms, found);
        let text = match &self.message {
            None => line.text.as_str(),
            Some(message) => match message.captures(&line.text).and_then(|groups| groups.get(1)) {
                Some(group) => group.as_str(),
                None => return Ok(()),
            },
        };
        if self
            .config
            .skip_list
            .iter()
            .any(|skipped| text.contains(skipped.as_str()))
        {
            return Ok(());
        }
        self.lines.push(text);
        let Self {
            config,
            rules,
            lines,
            conditions,
            ..
        } = self;
        for (rule, ready) in config.rules.iter().zip(rules.iter_mut()) {
            if let Some(matched) = ready.pattern.find(lines) {
                if ready.counts(now_ms) {
                    report(conditions, rule, matched, now_ms, found);
                    // The next event takes as many lines again; a condition is kept alive by each.
                    if rule.kind == Kind::Temporary {
                        ready.window.iter_mut().for_each(Window::clear);
                    }
                }
            }
            if ready
                .clear
                .as_ref()
                .is_some_and(|clear| clear.find(lines).is_some())
            {
                clear(conditions, config, rule, now_ms, found);
            }
        }
        Ok(())
    }

    fn on_tick(&mut self, now_ms: u64, found: &mut Findings) -> Result<(), Fault> {
        self.tell_once(now_ms, found);
        let Self {
            config, conditions, ..
        } = self;
        for rule in &config.rules {
            let Some(after) = rule.clear_after else { continue };
            if conditions
                .seen_ms(&rule.condition)
                .is_some_and(|seen| seen.saturating_add(after.0) <= now_ms)
            {
                clear(conditions, config, rule, now_ms, found);
            }
        }
        Ok(())
    }
}

impl LogMonitor {
    /// Says at first how every condition stands, and clears those that only an earlier revision knew.
    fn tell_once(&mut self, now_ms: u64, found: &mut Findings) {
        if self.told {
            return;
        }
        self.told = true;
        let Self {
            config, conditions, ..
        } = self;
        conditions.repeat(found);
        for type_name in conditions.types() {
            if !config.conditions.iter().any(|known| known.type_name == type_name) {
                conditions.clear(
                    &type_name,
                    NOT_WATCHED,
                    "no rule sets this condition any more",
                    now_ms,
                    found,
                );
            }
        }
        for known in &config.conditions {
            if !conditions.is_known(&known.type_name) {
                conditions.clear(&known.type_name, &known.reason, &*known.message, now_ms, found);
            }
        }
    }
}

fn report(conditions: &mut Conditions, rule: &Rule, matched: &str, now_ms: u64, found: &mut Findings) {
    let message = format!("{matched}{}", rule.pattern_generated_message_suffix);
    if rule.kind == Kind::Permanent {
        if conditions.is_set(&rule.condition)
            && conditions.reason(&rule.condition) == Some(rule.reason.as_str())
        {
            conditions.touch(&rule.condition, now_ms);
            return;
        }
        conditions.set(&rule.condition, &rule.reason, message.as_str(), now_ms, found);
    }
    found.push(Finding::Event(Event {
        event_type: EventType::Warning,
        reason: rule.reason.clone(),
        message,
    }));
}

/// Clears what this very rule has set.
fn clear(conditions: &mut Conditions, config: &Config, rule: &Rule, now_ms: u64, found: &mut Findings) {
    if !conditions.is_set(&rule.condition) || conditions.reason(&rule.condition) != Some(rule.reason.as_str())
    {
        return;
    }
    if let Some(known) = config
        .conditions
        .iter()
        .find(|known| known.type_name == rule.condition)
    {
        conditions.clear(&known.type_name, &known.reason, &*known.message, now_ms, found);
    }
}

impl HandOff for LogMonitor {
    fn save(&self) -> Vec<u8> {
        self.conditions.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.conditions = Conditions::restore(state)?;
        Ok(())
    }
}

capstan_sdk::export!(problem: monitor, hand_off => LogMonitor);
