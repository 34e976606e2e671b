//! `capstan:plugin/log`: lines of a plugin in the host's log, with its name, bounded in rate and length.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::bindings::plugin::capstan::plugin::log::{Host, Level};
use crate::journal::LogLine;
use crate::lock::lock;
use crate::state::State;

/// Lines that one plugin may log in a minute.
const LINES_PER_MINUTE_MAX: u32 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);
/// Bytes of one line that are kept.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Counts a plugin's lines by the minute.
#[derive(Debug)]
pub(crate) struct LogBound(Mutex<Window>);

#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u32,
}

impl Default for LogBound {
    fn default() -> Self {
        Self(Mutex::new(Window {
            since: Instant::now(),
            lines: 0,
        }))
    }
}

impl LogBound {
    /// Whether one more line may pass, and how many were dropped in the minute before.
    fn admit(&self) -> (bool, u32) {
        let mut window = lock(&self.0);
        let mut dropped = 0;
        if window.since.elapsed() >= MINUTE {
            dropped = window.lines.saturating_sub(LINES_PER_MINUTE_MAX);
            *window = Window {
                since: Instant::now(),
                lines: 0,
            };
        }
        window.lines = window.lines.saturating_add(1);
        (window.lines <= LINES_PER_MINUTE_MAX, dropped)
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

impl Host for State {
    fn write(&mut self, level: Level, message: String) {
        let plugin = self.context.plugin.as_str();
        let (admitted, dropped) = self.context.log_bound.admit();
        if dropped > 0 {
            tracing::warn!(target: "capstan::plugin", plugin, dropped, "log lines over the bound were dropped");
        }
        if !admitted {
            return;
        }
        let mut end = message.len().min(LINE_BYTES_MAX);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        let line = &message[..end];
        self.context.services.lines.write(
            plugin,
            LogLine {
                time: format!("{:.3}", jiff::Timestamp::now()),
                level: name(level),
                message: line.to_owned(),
            },
        );
        match level {
            Level::Debug => tracing::debug!(target: "capstan::plugin", plugin, "{line}"),
            Level::Info => tracing::info!(target: "capstan::plugin", plugin, "{line}"),
            Level::Warn => tracing::warn!(target: "capstan::plugin", plugin, "{line}"),
            Level::Error => tracing::error!(target: "capstan::plugin", plugin, "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_at_the_bound() {
        let bound = LogBound::default();
        let admitted = (0..2 * LINES_PER_MINUTE_MAX).filter(|_| bound.admit().0).count();
        assert_eq!(admitted, LINES_PER_MINUTE_MAX as usize);
    }
}
