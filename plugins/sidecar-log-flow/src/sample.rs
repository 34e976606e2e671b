//! Which records of a flood are kept.

use crate::{Limit, Sample};
use capstan_sdk::{
    Fault,
    sidecar::{Line, Stream},
};
use regex_lite::Regex;

struct Rule {
    expression: Regex,
    one_of: u32,
    seen: u32,
}

/// So many records in each span of time.
struct Rate {
    lines: u32,
    span_ms: u64,
    began_ms: u64,
    passed: u32,
}

pub(crate) struct Sampler {
    rules: Vec<Rule>,
    rate: Option<Rate>,
    /// How many the rate has left out since it last said so, and when and where the last of them came.
    dropped: u64,
    last: (u64, Stream),
}

impl Sampler {
    pub(crate) fn new(samples: &[Sample], limit: Option<&Limit>) -> Result<Self, Fault> {
        let rule = |(at, sample): (usize, &Sample)| {
            let text = &sample.pattern;
            let refused = |e| {
                Fault::permanent(format!(
                    "sample[{at}].pattern: {text:?} is not a regular expression: {e}"
                ))
            };
            let expression = Regex::new(text).map_err(refused)?;
            Ok(Rule {
                expression,
                one_of: sample.one_of.max(1),
                seen: 0,
            })
        };
        Ok(Self {
            rules: samples.iter().enumerate().map(rule).collect::<Result<_, _>>()?,
            rate: limit.map(|limit| Rate {
                lines: limit.lines,
                span_ms: limit.per.0,
                began_ms: 0,
                passed: 0,
            }),
            dropped: 0,
            last: (0, Stream::Stdout),
        })
    }

    pub(crate) fn push(&mut self, record: Line, out: &mut Vec<Line>) {
        // The first rule that speaks of a record decides. The first of each lot is kept.
        if let Some(rule) = self
            .rules
            .iter_mut()
            .find(|rule| rule.expression.is_match(&record.text))
        {
            let kept = rule.seen == 0;
            rule.seen = (rule.seen + 1) % rule.one_of;
            if !kept {
                return;
            }
        }
        let Some(rate) = &mut self.rate else {
            out.push(record);
            return;
        };
        if record.time_ms >= rate.began_ms.saturating_add(rate.span_ms) {
            (rate.began_ms, rate.passed) = (record.time_ms, 0);
        }
        if rate.passed < rate.lines {
            rate.passed += 1;
            self.flush(out);
            out.push(record);
        } else {
            self.dropped += 1;
            self.last = (record.time_ms, record.stream);
        }
    }

    /// Says how many the rate has left out.
    pub(crate) fn flush(&mut self, out: &mut Vec<Line>) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            out.push(Line {
                time_ms: self.last.0,
                stream: self.last.1,
                text: format!("[{dropped} lines left out: more than the limit]"),
            });
        }
    }
}
