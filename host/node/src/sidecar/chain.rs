//! The streams that one container's lines pass through, in the order of the seats. Blocking.
//!
//! Invariants: lines leave in order; on a fault under `Ignore` they pass as they came, under `Fail` none
//! passes and the batch is the caller's to bring again.

use std::collections::BTreeMap;

use capstan_points::sidecar::{Line, LogStream, Sidecar, StreamContext};
use capstan_points::{FailurePolicy, Fault, Seat};

struct Link {
    seat: Seat<dyn Sidecar>,
    /// `None` after a fault; opened again with the next lines.
    stream: Option<Box<dyn LogStream>>,
}

/// The links of one container.
#[derive(Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
}

impl Chain {
    /// Links for the seats that transform this pod's logs.
    pub(crate) fn new(row: &[Seat<dyn Sidecar>], namespace: &str, labels: &BTreeMap<String, String>) -> Self {
        let ours = row
            .iter()
            .filter(|seat| seat.policy.transforms_logs() && seat.policy.selects(namespace, labels));
        Self {
            links: ours
                .map(|seat| Link {
                    seat: seat.clone(),
                    stream: None,
                })
                .collect(),
        }
    }

    /// Whether lines pass untouched.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether it is made of the same revisions.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let revisions = |chain: &Self| {
            chain
                .links
                .iter()
                .map(|link| link.seat.revision)
                .collect::<Vec<_>>()
        };
        revisions(self) == revisions(other)
    }

    /// What takes the place of these lines.
    pub(crate) fn pass(&mut self, context: &StreamContext, lines: Vec<Line>) -> Result<Vec<Line>, Fault> {
        let mut passing = lines;
        for link in &mut self.links {
            passing = link.pass(context, passing)?;
        }
        Ok(passing)
    }

    /// What was held back; the chain ends with it.
    pub(crate) fn flush(mut self, context: &StreamContext) -> Vec<Line> {
        let mut carried: Vec<Line> = Vec::new();
        for link in &mut self.links {
            if !carried.is_empty() {
                carried = link.pass(context, carried.clone()).unwrap_or(carried);
            }
            let Some(stream) = &mut link.stream else { continue };
            match stream.flush() {
                Ok(lines) => carried.extend(lines),
                Err(fault) => {
                    tracing::warn!(plugin = link.seat.plugin, %fault, "held log lines were not flushed")
                }
            }
        }
        carried
    }
}

impl Link {
    fn pass(&mut self, context: &StreamContext, lines: Vec<Line>) -> Result<Vec<Line>, Fault> {
        let came = (self.seat.failure_policy == FailurePolicy::Ignore).then(|| lines.clone());
        let passed = self.try_pass(context, lines);
        let Err(fault) = &passed else { return passed };
        self.stream = None;
        tracing::warn!(plugin = self.seat.plugin, %fault, pod = context.pod, "log lines were not transformed");
        came.map_or(passed, Ok)
    }

    fn try_pass(&mut self, context: &StreamContext, lines: Vec<Line>) -> Result<Vec<Line>, Fault> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(self.seat.policy.open(context)?),
        };
        stream.on_lines(lines)
    }
}
