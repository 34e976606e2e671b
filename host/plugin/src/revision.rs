//! The life of a revision up to its seat: fetch, verify, compile, configure, test, warm.
//!
//! [`prepare`] runs the steps in order and stops at the first that fails; nothing that serves is touched
//! before all have passed. The swap itself is the host's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use capstan_kinds::plugin::{self, Bind, Mode, PastRevision, Plugin, PluginSpec, Strategy};
use capstan_points::scheduler::Cluster;
use capstan_points::{FailurePolicy, Fault};
use sha2::{Digest, Sha256};

use crate::bridge::{admission, admission_binding::Binding, problem, remedy, scheduler, sidecar};
use crate::cache::{Cache, hex};
use crate::capability::Grants;
use crate::config_schema;
use crate::error::{LoadError, Step};
use crate::health::Health;
use crate::inspect::Surface;
use crate::limits::Limits;
use crate::program::Program;
use crate::services::Services;
use crate::slot::Fallen;
use crate::source::{self, Sources};
use crate::state::Context;
use crate::stats::Stats;
use crate::ticker::Ticker;
use crate::trust::Trust;

/// One revision of one plugin, with a seat at each point that it serves.
pub(crate) struct Revision {
    pub(crate) number: u64,
    /// The edition of the cluster's trust that last admitted it.
    pub(crate) trusted: AtomicU64,
    /// What it was made of: the same again is not loaded again.
    pub(crate) fingerprint: Fingerprint,
    /// Name and version by its own account.
    pub(crate) title: String,
    pub(crate) worlds: Vec<String>,
    pub(crate) failure_policy: FailurePolicy,
    pub(crate) admission_order: i32,
    /// A policy that enforces nothing fails no request either.
    pub(crate) admission_failure_policy: FailurePolicy,
    pub(crate) health: Arc<Health>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) scheduler: Option<Arc<scheduler::Policy>>,
    pub(crate) admission: Option<Arc<admission::Policy>>,
    pub(crate) problem: Option<Arc<problem::Daemon>>,
    pub(crate) remedy: Option<Arc<remedy::Remedy>>,
    pub(crate) sidecar: Option<Arc<sidecar::Sidecar>>,
}

/// What a revision is made of: spec without rollout, with its component's digest, and the configuration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fingerprint {
    pub(crate) spec: PluginSpec,
    pub(crate) digest: String,
    pub(crate) config: serde_json::Value,
}

impl Fingerprint {
    fn new(spec: &PluginSpec, digest: &str, config: serde_json::Value) -> Self {
        Self {
            spec: PluginSpec {
                rollout: None,
                digest: Some(digest.to_owned()),
                ..spec.clone()
            },
            digest: digest.to_owned(),
            config,
        }
    }

    /// Stands for it in `status.history`.
    pub(crate) fn key(&self) -> String {
        let text = serde_json::json!([self.spec, self.config]).to_string();
        hex(&Sha256::digest(text)[..8])
    }
}

/// Calls that a plugin's revisions answered, for the next one to be tried on.
#[derive(Default)]
pub(crate) struct Recordings {
    scheduler: Arc<scheduler::Recorded>,
    admission: Arc<admission::Recorded>,
    problem: Arc<problem::Recorded>,
    remedy: Arc<remedy::Recorded>,
    sidecar: Arc<sidecar::Recorded>,
}

/// What a revision is built with.
pub(crate) struct Workshop<'a> {
    pub(crate) engine: &'a wasmtime::Engine,
    pub(crate) ticker: &'a Arc<Ticker>,
    pub(crate) cache: &'a Cache,
    pub(crate) sources: Sources<'a>,
    pub(crate) services: &'a Arc<Services>,
    pub(crate) cluster: Option<Arc<dyn Cluster>>,
    pub(crate) recordings: &'a Recordings,
    pub(crate) trust: Arc<Trust>,
    pub(crate) running: Option<&'a Revision>,
    pub(crate) candidate: Option<&'a Revision>,
    /// What was rolled back or dropped, and why: it is not tried again.
    pub(crate) refused: Option<Arc<Fallen>>,
    /// What an earlier process wrote of the plugin's revisions, where this one knows none yet.
    pub(crate) history: &'a [PastRevision],
    pub(crate) number: u64,
}

/// What came of a load.
pub(crate) enum Prepared {
    /// The running revision is what is asked for.
    Unchanged,
    /// The revision on trial is.
    OnTrial,
    Fresh(Box<Revision>),
}

/// All steps up to the swap.
pub(crate) fn prepare(plugin: &Plugin, workshop: &Workshop<'_>) -> Result<Prepared, LoadError> {
    let spec = &plugin.spec;
    let fetched = source::component(spec, workshop.sources, workshop.trust.wants(spec))?;
    let config = match source::config(spec, workshop.services) {
        Err(error) if error.step() == Step::Fetched => return Err(error),
        config => config.map(|config| Fingerprint::new(spec, &fetched.digest, config)),
    };
    if let Ok(fingerprint) = &config {
        let is_it = |known: &&Revision| known.fingerprint == *fingerprint;
        let known = (workshop.running.filter(is_it), workshop.candidate.filter(is_it));
        if let Some(found) = known.0.or(known.1) {
            // Whom the cluster trusts may have changed since.
            if found.trusted.load(Ordering::Relaxed) != workshop.trust.edition {
                let surface = Surface::read(&fetched.bytes)?;
                workshop
                    .trust
                    .admit(spec, &surface, &fetched.bytes, &fetched.signatures)?;
                found.trusted.store(workshop.trust.edition, Ordering::Relaxed);
            }
            return Ok(match known {
                (Some(_), _) => Prepared::Unchanged,
                (None, _) => Prepared::OnTrial,
            });
        }
        refuse_fallen(workshop, fingerprint)?;
    }
    let surface = Surface::read(&fetched.bytes)?;
    workshop
        .trust
        .admit(spec, &surface, &fetched.bytes, &fetched.signatures)?;
    let grants = Grants::parse(&spec.capabilities)?;
    grants.admit_imports(&surface.imports)?;
    let component = workshop
        .cache
        .compile(workshop.engine, &fetched.digest, &fetched.bytes)?;
    let stats = Arc::new(Stats::default());
    let context = Arc::new(Context {
        plugin: plugin.metadata.name.clone(),
        grants,
        limits: Limits::parse(&spec.limits)?,
        services: Arc::clone(workshop.services),
        stats: Arc::clone(&stats),
        log_bound: Default::default(),
    });
    let mut program = Program::link(workshop.engine, workshop.ticker, &component, surface, context)?;
    let fingerprint = config?;
    trial_is_possible(spec, &program.surface.worlds())?;
    let description = program.describe().map_err(LoadError::Start)?;
    config_schema::check(&description.config_schema, &fingerprint.config)?;
    program.set_config(fingerprint.config.to_string());
    let program = Arc::new(program);
    let title = format!("{} {}", description.name, description.version);
    let revision = seat(workshop, &program, &stats, fingerprint, title)?;
    // Configuring is part of every start; a fault here is the configuration's.
    program.start().map_err(|fault| match fault.kind {
        capstan_points::FaultKind::Reported => LoadError::Config {
            field: "spec.config".into(),
            message: fault.message,
        },
        _ => LoadError::Start(fault),
    })?;
    program.self_test().map_err(LoadError::SelfTest)?;
    rehearse_and_warm(workshop, &revision)?;
    stats.clear();
    if spec.source.bundled.is_none() {
        workshop
            .sources
            .shelf
            .keep(&fetched.digest, &fetched.bytes, &fetched.signatures);
    }
    Ok(Prepared::Fresh(Box::new(revision)))
}

/// What failed while it served, or did not pass its trial, is not tried again as it is.
fn refuse_fallen(workshop: &Workshop<'_>, fingerprint: &Fingerprint) -> Result<(), LoadError> {
    let why = |outcome, reason: &str| match outcome {
        plugin::Outcome::Dropped => LoadError::Dropped(reason.to_owned()),
        _ => LoadError::RolledBack(reason.to_owned()),
    };
    let refused = workshop.refused.as_ref();
    if let Some(fallen) = refused.filter(|fallen| fallen.fingerprint == *fingerprint) {
        return Err(why(fallen.outcome, &fallen.reason));
    }
    let key = fingerprint.key();
    let past = workshop.history.iter().find(|past| past.key == key);
    match past {
        Some(past)
            if matches!(
                past.outcome,
                plugin::Outcome::RolledBack | plugin::Outcome::Dropped
            ) =>
        {
            Err(why(past.outcome, &past.reason))
        }
        _ => Ok(()),
    }
}

/// A candidate is tried where calls leave nothing behind in it.
fn trial_is_possible(spec: &PluginSpec, worlds: &[String]) -> Result<(), LoadError> {
    let strategy = spec.rollout.clone().unwrap_or_default().strategy;
    if strategy == Strategy::Replace || (worlds.iter().all(|world| world == "admission")) {
        return Ok(());
    }
    Err(LoadError::NotYetSupported {
        what: format!("spec.rollout.strategy {strategy:?} for {}", worlds.join(", ")),
        instead: "it is for admission; use Replace, which tries a new revision on recorded calls".into(),
        step: Step::Configured,
    })
}

/// A seat for each world that is exported and bound. Without any `bind`, worlds whose binding has a
/// sensible default are bound by it; the others must be told whom they concern.
fn seat(
    workshop: &Workshop<'_>,
    program: &Arc<Program>,
    stats: &Arc<Stats>,
    fingerprint: Fingerprint,
    title: String,
) -> Result<Revision, LoadError> {
    let Recordings {
        scheduler,
        admission,
        problem,
        remedy,
        sidecar,
    } = workshop.recordings;
    let worlds = program.surface.worlds();
    let bind = bindings(&fingerprint.spec.bind, &worlds)?;
    let has = |world: &str| worlds.iter().any(|w| w == world);
    let health = Arc::new(Health::new(Arc::clone(stats)));
    let nodes = bind.nodes.as_ref();
    let problem_bind = nodes.filter(|_| has("problem"));
    let remedy_bind = nodes.filter(|_| has("remedy"));
    let admission_bind = bind.admission.as_ref();
    let binding = admission_bind.map(|bind| Binding::parse(bind, &fingerprint, &title));
    let binding = binding.transpose()?;
    let failure_policy = match fingerprint.spec.failure_policy {
        plugin::FailurePolicy::Fail => FailurePolicy::Fail,
        plugin::FailurePolicy::Ignore => FailurePolicy::Ignore,
    };
    Ok(Revision {
        number: workshop.number,
        trusted: AtomicU64::new(workshop.trust.edition),
        title,
        failure_policy,
        admission_failure_policy: match admission_bind.map(|bind| bind.mode) {
            Some(Mode::Warn | Mode::Audit) => FailurePolicy::Ignore,
            _ => failure_policy,
        },
        admission_order: admission_bind.map_or(0, |bind| bind.order),
        scheduler: bind
            .scheduler
            .map(|bind| scheduler::Policy::new(program, &health, bind, Arc::clone(scheduler)))
            .transpose()?
            .map(Arc::new),
        admission: binding
            .map(|binding| admission::Policy::new(program, &health, binding, Arc::clone(admission)))
            .transpose()?
            .map(Arc::new),
        problem: problem_bind
            .map(|bind| problem::Daemon::new(program, &health, bind, Arc::clone(problem)))
            .transpose()?
            .map(Arc::new),
        remedy: remedy_bind
            .map(|bind| remedy::Remedy::new(program, &health, bind, Arc::clone(remedy)))
            .transpose()?
            .map(Arc::new),
        sidecar: bind
            .pods
            .map(|bind| sidecar::Sidecar::new(program, &health, &bind, Arc::clone(sidecar)))
            .transpose()?
            .map(Arc::new),
        stats: Arc::clone(stats),
        health,
        worlds,
        fingerprint,
    })
}

fn bindings(bind: &Bind, worlds: &[String]) -> Result<Bind, LoadError> {
    let has = |wanted: &[&str]| worlds.iter().any(|world| wanted.contains(&world.as_str()));
    let given = [
        ("scheduler", bind.scheduler.is_some(), has(&["scheduler"])),
        ("admission", bind.admission.is_some(), has(&["admission"])),
        ("nodes", bind.nodes.is_some(), has(&["problem", "remedy"])),
        ("pods", bind.pods.is_some(), has(&["sidecar"])),
    ];
    if let Some((field, ..)) = given.iter().find(|(_, bound, exported)| *bound && !exported) {
        let wanted = format!("absent: the component implements {}", worlds.join(", "));
        return Err(LoadError::spec(format!("spec.bind.{field}"), "set", wanted));
    }
    let mut bind = bind.clone();
    if given.iter().any(|(_, bound, _)| *bound) {
        return Ok(bind);
    }
    for (field, _, exported) in given {
        match field {
            _ if !exported => {}
            "scheduler" => bind.scheduler = Some(Default::default()),
            "nodes" => bind.nodes = Some(Default::default()),
            "admission" => {
                return Err(LoadError::spec(
                    "spec.bind.admission.rules",
                    "absent",
                    "the requests that it judges",
                ));
            }
            _ => {
                let wanted = "set: {} attaches it to every pod, a selector to some";
                return Err(LoadError::spec("spec.bind.pods", "absent", wanted));
            }
        }
    }
    Ok(bind)
}

/// Tries the revision on recorded calls and makes its instances ready. Stateful seats that rehearse in the
/// seated instance are warmed first; the hand-off, which moves the old revision's state, comes last.
fn rehearse_and_warm(workshop: &Workshop<'_>, revision: &Revision) -> Result<(), LoadError> {
    let replay = |(input, fault): (String, Fault)| LoadError::Replay { input, fault };
    if let Some(policy) = &revision.scheduler {
        policy
            .warm(workshop.cluster.as_deref())
            .map_err(LoadError::Warm)?;
        policy.rehearse().map_err(replay)?;
    }
    if let Some(policy) = &revision.admission {
        policy.rehearse().map_err(replay)?;
        policy.warm().map_err(LoadError::Warm)?;
    }
    if let Some(remedy) = &revision.remedy {
        remedy.rehearse().map_err(replay)?;
        remedy.warm().map_err(LoadError::Warm)?;
    }
    if let Some(sidecar) = &revision.sidecar {
        sidecar.rehearse().map_err(replay)?;
        sidecar.warm().map_err(LoadError::Warm)?;
    }
    if let Some(daemon) = &revision.problem {
        daemon.rehearse().map_err(replay)?;
        let old = workshop.running.and_then(|running| running.problem.as_ref());
        daemon.take_over(old).map_err(LoadError::Warm)?;
    }
    Ok(())
}
