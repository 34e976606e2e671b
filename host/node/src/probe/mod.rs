//! Probes: startup, liveness, readiness, by exec, HTTP, TCP.
//!
//! One task asks for each probe of each running container and reports only changes of verdict; the worker
//! keeps the verdicts and the planner reads them. A container without a probe is started and ready at once.
//! Invariant: a verdict belongs to one container id; a restarted container starts anew. gRPC probes are not
//! here: such a probe fails and says so.

mod ask;
mod counter;
pub(crate) mod http;
mod task;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Container, Probe};

pub(crate) use task::{Asked, run};

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    /// The container's probe of this kind.
    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        })
    }
}

/// A verdict that turned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) container: String,
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) passed: bool,
}

/// Why a container is to be restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    pub(crate) probe: Kind,
    /// The probe's own grace, where it has one.
    pub(crate) grace_seconds: Option<i64>,
}

#[derive(Debug, Clone)]
struct Verdict {
    id: String,
    started: bool,
    ready: bool,
    unhealthy: Option<Unhealthy>,
}

/// What the probes say of each container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdicts {
    containers: BTreeMap<String, Verdict>,
}

impl Verdicts {
    /// A container runs under a new id: its verdicts begin.
    pub(crate) fn begin(&mut self, container: &Container, id: &str) {
        let verdict = Verdict {
            id: id.to_owned(),
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            unhealthy: None,
        };
        self.containers.insert(container.name.clone(), verdict);
    }

    /// A container no longer runs.
    pub(crate) fn end(&mut self, container: &str) {
        self.containers.remove(container);
    }

    /// The id under which a container is known to run.
    pub(crate) fn id(&self, container: &str) -> Option<&str> {
        self.containers.get(container).map(|verdict| verdict.id.as_str())
    }

    /// Takes a report in; one about an earlier id changes nothing.
    pub(crate) fn record(&mut self, container: &Container, report: &Report) {
        let Some(verdict) = self
            .containers
            .get_mut(&report.container)
            .filter(|known| known.id == report.id)
        else {
            return;
        };
        match report.kind {
            Kind::Readiness => verdict.ready = report.passed,
            Kind::Startup if report.passed => verdict.started = true,
            kind if !report.passed => {
                let grace_seconds = kind
                    .of(container)
                    .and_then(|probe| probe.termination_grace_period_seconds);
                verdict.unhealthy = Some(Unhealthy {
                    probe: kind,
                    grace_seconds,
                });
            }
            _ => {}
        }
    }

    /// Whether its startup probe passed, or it has none.
    pub(crate) fn started(&self, container: &str) -> bool {
        self.containers
            .get(container)
            .is_some_and(|verdict| verdict.started)
    }

    /// Whether it may get traffic.
    pub(crate) fn ready(&self, container: &str) -> bool {
        self.containers
            .get(container)
            .is_some_and(|verdict| verdict.started && verdict.ready)
    }

    /// Why this run of it must end.
    pub(crate) fn unhealthy(&self, container: &str, id: &str) -> Option<&Unhealthy> {
        self.containers
            .get(container)
            .filter(|verdict| verdict.id == id)?
            .unhealthy
            .as_ref()
    }
}
