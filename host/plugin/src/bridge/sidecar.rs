//! `capstan:sidecar` as [`sidecar::Sidecar`]: an instance for each log stream, one resident for pages.
//!
//! A stream keeps the revision that it was opened with; its owner flushes and opens anew on a swap. A
//! stream whose instance failed gets a fresh one at the next lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::plugin::PodsBind;
use capstan_kinds::selector::LabelSelector;
use capstan_points::Fault;
use capstan_points::sidecar::{self, Endpoint, Line, LogStream, Page, Stream, StreamContext};

use super::Ring;
use crate::bindings::sidecar::capstan::sidecar::types as wit;
use crate::bindings::sidecar::exports::capstan::sidecar::{adapter, logs};
use crate::bindings::types::Pair;
use crate::error::LoadError;
use crate::health::Health;
use crate::live::{Answer, Live};
use crate::program::Program;
use crate::resident::{Resident, survives};

const ENDPOINTS_MAX: usize = 16;
/// Lines that one call may give back for each that it got, and besides.
const LINES_FACTOR_MAX: usize = 16;
const LINES_EXTRA_MAX: usize = 1_024;
const LINE_ALLOWANCE: Duration = Duration::from_micros(200);
/// A page of 1 MiB is parsed and written anew.
const PAGE_ALLOWANCE: Duration = Duration::from_millis(90);

/// What a sidecar was given.
#[derive(Debug, Clone)]
pub(crate) enum Given {
    Lines(StreamContext, Vec<Line>),
    Page(StreamContext, Page),
}

pub(crate) type Recorded = Ring<Given>;

pub(crate) struct Sidecar {
    logs: Option<Arc<Logs>>,
    adapter: Option<Resident<adapter::Guest>>,
    namespaces: Vec<String>,
    pods: LabelSelector,
    recorded: Arc<Ring<Given>>,
}

struct Logs {
    program: Arc<Program>,
    health: Arc<Health>,
    indices: logs::GuestIndices,
}

impl Sidecar {
    pub(crate) fn new(
        program: &Arc<Program>,
        health: &Arc<Health>,
        bind: &PodsBind,
        recorded: Arc<Ring<Given>>,
    ) -> Result<Self, LoadError> {
        let link = |error: wasmtime::Error| LoadError::Link(crate::cache::chain(&error));
        let has = |interface: &str| program.surface.exports(interface);
        let logs = has("sidecar/logs")
            .then(|| logs::GuestIndices::new(&program.pre))
            .transpose()
            .map_err(link)?;
        let adapter = has("sidecar/adapter").then(|| adapter::GuestIndices::new(&program.pre));
        let adapter = adapter.transpose().map_err(link)?.map(|indices| {
            let bind_exports = move |live: &mut Live| {
                let instance = live.instance;
                live.initialize(|store| indices.load(store, &instance))
            };
            Resident::new(Arc::clone(program), Arc::clone(health), Box::new(bind_exports))
        });
        let (program, health) = (Arc::clone(program), Arc::clone(health));
        Ok(Self {
            logs: logs.map(|indices| {
                Arc::new(Logs {
                    program,
                    health,
                    indices,
                })
            }),
            adapter,
            namespaces: bind.namespaces.clone(),
            pods: super::selector("spec.bind.pods.selector", bind.selector.as_ref())?,
            recorded,
        })
    }

    pub(crate) fn warm(&self) -> Result<(), Fault> {
        self.adapter.as_ref().map_or(Ok(()), Resident::warm)
    }

    pub(crate) fn rehearse(&self) -> Result<(), (String, Fault)> {
        self.recorded
            .recorded()
            .into_iter()
            .try_for_each(|given| match given {
                Given::Lines(context, lines) => {
                    let input = format!("{} log lines", lines.len());
                    let Some(logs) = &self.logs else { return Ok(()) };
                    let mut stream = Open {
                        logs: Arc::clone(logs),
                        context,
                        live: None,
                        recorded: None,
                    };
                    stream.on_lines(lines).map(drop).map_err(|fault| (input, fault))
                }
                Given::Page(context, page) => self
                    .ask_page(&context, &page)
                    .map(drop)
                    .map_err(|fault| ("a metrics page".into(), fault)),
            })
    }

    fn ask_page(&self, context: &StreamContext, page: &Page) -> Result<Page, Fault> {
        let Some(adapter) = &self.adapter else {
            return Ok(page.clone());
        };
        let context = to_context(context);
        let page = adapter::Page {
            content_type: page.content_type.clone(),
            body: page.body.clone(),
        };
        let page = adapter.call(
            PAGE_ALLOWANCE,
            || {},
            |guest, store| guest.call_translate(store, &context, &page),
        )?;
        Ok(Page {
            content_type: page.content_type,
            body: page.body,
        })
    }
}

/// One container's stream.
struct Open {
    logs: Arc<Logs>,
    context: StreamContext,
    live: Option<(Live, logs::Guest)>,
    recorded: Option<Arc<Ring<Given>>>,
}

impl Open {
    fn start(&self) -> Result<(Live, logs::Guest), Fault> {
        let mut live = self.logs.program.start()?;
        let instance = live.instance;
        let guest = live.initialize(|store| self.logs.indices.load(store, &instance))?;
        let context = to_context(&self.context);
        live.call(Duration::ZERO, |store| guest.call_open(store, &context))?;
        Ok((live, guest))
    }

    fn call(
        &mut self,
        allowance: Duration,
        call: impl FnOnce(&logs::Guest, &mut wasmtime::Store<crate::state::State>) -> Answer<Vec<wit::Line>>,
    ) -> Result<Vec<wit::Line>, Fault> {
        self.logs.health.admit()?;
        let seated = self.live.take().map_or_else(|| self.start(), Ok);
        let answer = seated.and_then(|(mut live, guest)| {
            let answer = live.call(allowance, |store| call(&guest, store));
            if survives(&answer) {
                self.live = Some((live, guest));
            }
            answer
        });
        self.logs.health.note(answer)
    }
}

impl LogStream for Open {
    fn on_lines(&mut self, lines: Vec<Line>) -> Result<Vec<Line>, Fault> {
        let allowance = LINE_ALLOWANCE * u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let given: Vec<wit::Line> = lines.iter().map(to_line).collect();
        let answer = self.call(allowance, |guest, store| guest.call_on_lines(store, &given))?;
        let most = lines.len() * LINES_FACTOR_MAX + LINES_EXTRA_MAX;
        if answer.len() > most {
            let message = format!(
                "{} lines for {}; at most {most} make sense",
                answer.len(),
                lines.len()
            );
            return Err(self.logs.health.garbage(message));
        }
        if let Some(recorded) = &self.recorded {
            recorded.record(Given::Lines(self.context.clone(), lines));
        }
        Ok(answer.into_iter().map(from_line).collect())
    }

    fn flush(&mut self) -> Result<Vec<Line>, Fault> {
        if self.live.is_none() {
            return Ok(Vec::new());
        }
        let lines = self.call(Duration::ZERO, |guest, store| guest.call_flush(store))?;
        Ok(lines.into_iter().map(from_line).collect())
    }
}

fn to_context(context: &StreamContext) -> wit::StreamContext {
    wit::StreamContext {
        namespace: context.namespace.clone(),
        pod: context.pod.clone(),
        container: context.container.clone(),
        labels: context
            .labels
            .iter()
            .map(|(key, value)| Pair {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
    }
}

fn to_line(line: &Line) -> wit::Line {
    let stream = match line.stream {
        Stream::Stdout => wit::Stream::Stdout,
        Stream::Stderr => wit::Stream::Stderr,
    };
    wit::Line {
        time_ms: line.time_ms,
        stream,
        text: line.text.clone(),
    }
}

fn from_line(line: wit::Line) -> Line {
    let stream = match line.stream {
        wit::Stream::Stdout => Stream::Stdout,
        wit::Stream::Stderr => Stream::Stderr,
    };
    Line {
        time_ms: line.time_ms,
        stream,
        text: line.text,
    }
}

impl sidecar::Sidecar for Sidecar {
    fn selects(&self, namespace: &str, pod_labels: &BTreeMap<String, String>) -> bool {
        (self.namespaces.is_empty() || self.namespaces.iter().any(|n| n == namespace))
            && self.pods.matches_labels(pod_labels)
    }

    fn transforms_logs(&self) -> bool {
        self.logs.is_some()
    }

    fn open(&self, context: &StreamContext) -> Result<Box<dyn LogStream>, Fault> {
        let Some(logs) = &self.logs else {
            return Err(Fault::new(
                capstan_points::FaultKind::Host,
                "the plugin does not export capstan:sidecar/logs",
            ));
        };
        logs.health.admit()?;
        let recorded = Some(Arc::clone(&self.recorded));
        let mut stream = Open {
            logs: Arc::clone(logs),
            context: context.clone(),
            live: None,
            recorded,
        };
        let started = stream.start();
        stream.live = Some(logs.health.note(started)?);
        Ok(Box::new(stream))
    }

    fn endpoints(&self) -> Result<Vec<Endpoint>, Fault> {
        let Some(adapter) = &self.adapter else {
            return Ok(Vec::new());
        };
        let endpoints = adapter.call(
            Duration::ZERO,
            || {},
            |guest, store| Ok(Ok(guest.call_endpoints(store)?)),
        )?;
        let is_path = |path: &str| path.starts_with('/');
        let bad = endpoints
            .iter()
            .find(|e| !is_path(&e.listen_path) || !is_path(&e.upstream_path));
        if let Some(bad) = bad {
            let message = format!(
                "paths start with /: {:?}, {:?}",
                bad.listen_path, bad.upstream_path
            );
            return Err(adapter.health.garbage(message));
        }
        if endpoints.len() > ENDPOINTS_MAX {
            let message = format!(
                "{} endpoints; at most {ENDPOINTS_MAX} make sense",
                endpoints.len()
            );
            return Err(adapter.health.garbage(message));
        }
        let endpoint = |e: adapter::Endpoint| Endpoint {
            listen_port: e.listen_port,
            listen_path: e.listen_path,
            upstream_port: e.upstream_port,
            upstream_path: e.upstream_path,
        };
        Ok(endpoints.into_iter().map(endpoint).collect())
    }

    fn translate(&self, context: &StreamContext, page: Page) -> Result<Page, Fault> {
        let translated = self.ask_page(context, &page)?;
        self.recorded.record(Given::Page(context.clone(), page));
        Ok(translated)
    }
}
