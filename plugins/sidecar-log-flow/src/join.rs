//! Lines that belong together, such as a stack trace, as one.

use crate::Join;
use capstan_sdk::{Fault, sidecar::Line};
use regex_lite::Regex;

/// The longest record that is joined. The host takes longer lines apart again.
const RECORD_BYTES_MAX: usize = 16 << 10;

pub(crate) struct Joiner {
    /// A line that matches begins a record.
    start: Option<Regex>,
    /// A line that matches continues one.
    continuation: Option<Regex>,
    separator: String,
    lines_max: usize,
    held: Option<(Line, usize)>,
}

impl Joiner {
    pub(crate) fn new(join: &Join) -> Result<Self, Fault> {
        let expression = |field: &str, text: &Option<String>| {
            let refused =
                |e| Fault::permanent(format!("join.{field}: {text:?} is not a regular expression: {e}"));
            text.as_ref()
                .map(|text| Regex::new(text))
                .transpose()
                .map_err(refused)
        };
        Ok(Self {
            start: expression("start", &join.start)?,
            continuation: expression("continuation", &join.continuation)?,
            separator: join.separator.clone(),
            lines_max: join.lines_max,
            held: None,
        })
    }

    /// Takes a line; gives the record before where this one begins another.
    pub(crate) fn push(&mut self, line: Line, out: &mut Vec<Line>) {
        let fits = |(held, lines): &(Line, usize)| {
            let bytes = held.text.len() + self.separator.len() + line.text.len();
            *lines < self.lines_max && bytes <= RECORD_BYTES_MAX
        };
        match &mut self.held {
            Some(held) if Self::continues(&self.start, &self.continuation, &line.text) && fits(held) => {
                held.0.text.push_str(&self.separator);
                held.0.text.push_str(&line.text);
                held.1 += 1;
            }
            _ => {
                out.extend(self.take());
                self.held = Some((line, 1));
            }
        }
    }

    pub(crate) fn take(&mut self) -> Option<Line> {
        self.held.take().map(|(line, _)| line)
    }

    fn continues(start: &Option<Regex>, continuation: &Option<Regex>, text: &str) -> bool {
        let starts = start.as_ref().is_some_and(|start| start.is_match(text));
        // Where both are given a line must not begin a record, and must look like a continuation.
        !starts
            && continuation
                .as_ref()
                .map_or(start.is_some(), |more| more.is_match(text))
    }
}
