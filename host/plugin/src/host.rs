//! The plugin host: who sits where, and how a revision takes a seat, keeps it and loses it.
//!
//! One [`Host`] a process. Loading is serialized for each plugin and never stops another; the swap replaces
//! a row of seats at once, and calls under way keep the revision that they pinned. A revision that fails too
//! often gives its seat back to the one before it. Used by the composition root and by [`crate::run`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use capstan_kinds::plugin::{Outcome, PastRevision, Plugin, Rule, Strategy};
use capstan_kinds::plugin_trust::PluginTrust;
use capstan_kinds::policy_exception::PolicyException;
use capstan_points::scheduler::Cluster;
use capstan_points::{FailurePolicy, Seat, Seating, Seats, admission, problem, remedy, scheduler, sidecar};

use crate::bridge::admission_trial::Trial;
use crate::cache::{Cache, Precompiled};
use crate::decision::Decision;
use crate::error::{HostError, LoadError};
use crate::exceptions::Exceptions;
use crate::journal::{Entry, LogLine};
use crate::lock::lock;
use crate::page;
use crate::report::{self, Report};
use crate::revision::{self, Prepared, Revision, Workshop};
use crate::services::{Api, Services};
use crate::shelf::Shelf;
use crate::slot::{Candidate, Slot};
use crate::source::{Bundled, Sources};
use crate::ticker::Ticker;
use crate::trial;
use crate::trust::Trust;

/// Plugins of one host.
const PLUGINS_MAX: usize = 256;
/// Threads that compile at once.
const COMPILERS_MAX: usize = 4;
/// Of a hundred objects, how many a canary decides where the object does not say.
const CANARY_PERCENT: u32 = 10;

/// How a host is set up.
#[derive(Debug, Default)]
pub struct Options {
    /// Where compiled components are kept; made if it is not there.
    pub cache_dir: PathBuf,
    /// Components that `source: {bundled: NAME}` finds.
    pub bundled: Bundled,
    /// Bundled components in compiled form, as [`crate::precompile`] left them.
    pub precompiled: Precompiled,
    /// The name of this process in `status.hosts`, usually the node's.
    pub name: String,
}

/// A plugin that took its seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Name of the Plugin object.
    pub plugin: String,
    /// Name and version by the component's own account.
    pub title: String,
    /// `sha256:…` of the component.
    pub digest: String,
    /// Worlds that it implements.
    pub worlds: Vec<String>,
    /// The revision's number, unique within the process.
    pub revision: u64,
    /// Whether it is new; false when exactly this was running already.
    pub changed: bool,
}

/// The seats of every point.
#[derive(Default)]
struct Rows {
    scheduler: Seating<dyn scheduler::Policy>,
    admission: Seating<dyn admission::Policy>,
    problem: Seating<dyn problem::Daemon>,
    remedy: Seating<dyn remedy::Remedy>,
    sidecar: Seating<dyn sidecar::Sidecar>,
}

/// The plugin host of a process.
pub struct Host {
    name: String,
    engine: wasmtime::Engine,
    ticker: Arc<Ticker>,
    cache: Cache,
    shelf: Shelf,
    bundled: Bundled,
    services: Arc<Services>,
    cluster: Mutex<Option<Arc<dyn Cluster>>>,
    trust: Mutex<Arc<Trust>>,
    slots: Mutex<BTreeMap<String, Arc<Slot>>>,
    rows: Mutex<Rows>,
    last_number: AtomicU64,
    this: Weak<Host>,
}

impl Host {
    /// Opens the engine and the compile cache. Nothing runs yet.
    pub fn open(options: Options) -> Result<Arc<Self>, HostError> {
        let engine = crate::engine::open().map_err(|e| HostError::Engine(crate::cache::chain(&e)))?;
        let ticker = Arc::new(Ticker::start(engine.clone()).map_err(HostError::Thread)?);
        let cache = Cache::open(&options.cache_dir, &engine, options.precompiled)?;
        Ok(Arc::new_cyclic(|this| Self {
            name: options.name,
            engine,
            ticker,
            cache,
            shelf: Shelf::within(&options.cache_dir),
            bundled: options.bundled,
            services: Arc::default(),
            cluster: Mutex::default(),
            trust: Mutex::default(),
            slots: Mutex::default(),
            rows: Mutex::default(),
            last_number: AtomicU64::new(0),
            this: Weak::clone(this),
        }))
    }

    /// The name of this process in `status.hosts`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that a new scheduler policy is told before it takes its seat.
    pub fn set_cluster(&self, cluster: Arc<dyn Cluster>) {
        *lock(&self.cluster) = Some(cluster);
    }

    /// The API behind `kube-read`, `configMap` sources and `configFrom`. Must be called within a runtime.
    pub fn set_client(&self, client: kube::Client) {
        self.services.set_api(Api {
            client,
            runtime: tokio::runtime::Handle::current(),
        });
    }

    /// Whom the cluster trusts from now on. What runs is judged by it when it is loaded the next time.
    pub fn set_trust(&self, objects: &[PluginTrust]) {
        *lock(&self.trust) = Arc::new(Trust::of(objects));
    }

    /// What is excepted from now on.
    pub fn set_exceptions(&self, objects: &[PolicyException]) {
        self.services.set_exceptions(Exceptions::of(objects));
    }

    /// What a plugin decided lately, after entry number `after`, oldest first.
    pub fn decisions(&self, plugin: &str, after: u64) -> Vec<Entry<Decision>> {
        self.services.decisions.after(plugin, after)
    }

    /// What a plugin logged lately, after entry number `after`, oldest first.
    pub fn log_lines(&self, plugin: &str, after: u64) -> Vec<Entry<LogLine>> {
        self.services.lines.after(plugin, after)
    }

    /// Scheduler policies, by name.
    pub fn scheduler_seats(&self) -> Seats<dyn scheduler::Policy> {
        lock(&self.rows).scheduler.seats()
    }

    /// Admission policies, by `bind.admission.order`, then name.
    pub fn admission_seats(&self) -> Seats<dyn admission::Policy> {
        lock(&self.rows).admission.seats()
    }

    /// The admission policies that judge what stands already, and the requests that they are about.
    pub(crate) fn scanned(&self) -> (Vec<Seat<dyn admission::Policy>>, Vec<Rule>) {
        let rules_of = |name: &str| -> Option<Vec<Rule>> {
            let running = lock(&self.slots).get(name)?.running()?;
            let bind = running.fingerprint.spec.bind.admission.as_ref()?;
            bind.scan.then(|| bind.rules.clone())
        };
        let row = self.admission_seats().borrow().clone();
        let (mut seats, mut rules) = (Vec::new(), Vec::new());
        for seat in row.iter() {
            if let Some(own) = rules_of(&seat.plugin) {
                seats.push(seat.clone());
                rules.extend(own);
            }
        }
        (seats, rules)
    }

    /// Problem daemons, by name.
    pub fn problem_seats(&self) -> Seats<dyn problem::Daemon> {
        lock(&self.rows).problem.seats()
    }

    /// Remedies, by name.
    pub fn remedy_seats(&self) -> Seats<dyn remedy::Remedy> {
        lock(&self.rows).remedy.seats()
    }

    /// Sidecars, by name.
    pub fn sidecar_seats(&self) -> Seats<dyn sidecar::Sidecar> {
        lock(&self.rows).sidecar.seats()
    }

    /// Loads a plugin, or its next revision; blocks for as long as that takes. On an error whatever ran
    /// before keeps its seat. Loading what runs already changes nothing.
    pub fn load(&self, plugin: &Plugin) -> Result<Loaded, LoadError> {
        let name = &plugin.metadata.name;
        let slot = self.slot(name)?;
        let _one_load_at_a_time = lock(&slot.loading);
        let written = || plugin.status.as_ref().map(|status| status.history.clone());
        let history = slot.history(|| written().unwrap_or_default());
        let generation = plugin.metadata.generation;
        match self.prepare(plugin, &slot, &history) {
            Ok(Prepared::Unchanged) => {
                slot.keep(generation);
                self.reseat();
                slot.running()
                    .map(|revision| loaded(name, &revision, false))
                    .ok_or_else(|| gone(name))
            }
            Ok(Prepared::OnTrial) => self.go_on_trying(plugin, &slot),
            Ok(Prepared::Fresh(revision)) => {
                let revision = Arc::new(*revision);
                self.watch_health(name, &revision);
                let loaded = loaded(name, &revision, true);
                match self.trial(plugin, &slot, &revision) {
                    Some(trial) => {
                        slot.try_out(Candidate { revision, trial }, generation);
                        tracing::info!(plugin = %name, title = %loaded.title, "plugin is on trial");
                    }
                    None => {
                        slot.promote(revision, generation);
                        tracing::info!(plugin = %name, title = %loaded.title, "plugin took its seat");
                    }
                }
                self.reseat();
                Ok(loaded)
            }
            Err(error) => {
                // A loose source is read again and again; the same refusal is told once.
                if slot.refuse(&error, generation) {
                    tracing::warn!(plugin = %name, %error, "plugin refused");
                }
                if slot.running().is_none() {
                    self.fall_back(plugin, &slot, &history);
                }
                Err(error)
            }
        }
    }

    fn prepare(&self, plugin: &Plugin, slot: &Slot, history: &[PastRevision]) -> Result<Prepared, LoadError> {
        let (running, candidate) = (slot.running(), slot.candidate());
        revision::prepare(
            plugin,
            &Workshop {
                engine: &self.engine,
                ticker: &self.ticker,
                cache: &self.cache,
                sources: Sources {
                    bundled: &self.bundled,
                    shelf: &self.shelf,
                    services: &self.services,
                },
                services: &self.services,
                cluster: lock(&self.cluster).clone(),
                recordings: &slot.recordings,
                trust: Arc::clone(&lock(&self.trust)),
                running: running.as_deref(),
                candidate: candidate.as_ref().map(|candidate| &*candidate.revision),
                refused: slot.refused(),
                history,
                number: self.last_number.fetch_add(1, Ordering::SeqCst) + 1,
            },
        )
    }

    /// The revision on trial is what is asked for: it goes on, or takes its seat where no trial is asked for now.
    fn go_on_trying(&self, plugin: &Plugin, slot: &Slot) -> Result<Loaded, LoadError> {
        let name = &plugin.metadata.name;
        let Candidate { revision, .. } = slot.candidate().ok_or_else(|| gone(name))?;
        slot.keep_on_trial(plugin.metadata.generation);
        if plugin.spec.rollout.clone().unwrap_or_default().strategy == Strategy::Replace {
            slot.promote_candidate(revision.number);
            self.reseat();
            tracing::info!(plugin = %name, title = %revision.title, "promoted by hand");
        }
        Ok(loaded(name, &revision, false))
    }

    /// The trial of a new revision beside the one that serves, where one is asked for and possible.
    fn trial(&self, plugin: &Plugin, slot: &Slot, revision: &Arc<Revision>) -> Option<Arc<Trial>> {
        let rollout = plugin.spec.rollout.clone().unwrap_or_default();
        if rollout.strategy == Strategy::Replace {
            return None;
        }
        let serving = slot.running()?;
        let trial = Arc::new(Trial::new(
            (serving.admission.as_ref()?, revision.admission.as_ref()?),
            (Arc::clone(&serving.stats), Arc::clone(&revision.stats)),
            (rollout.strategy, rollout.percent.unwrap_or(CANARY_PERCENT)),
            rollout.promotion.unwrap_or_default(),
        ));
        let (host, name, number) = (
            Weak::clone(&self.this),
            plugin.metadata.name.clone(),
            revision.number,
        );
        trial.on_decided(move |outcome| {
            if let Some(host) = host.upgrade() {
                host.end_trial(&name, number, outcome);
            }
        });
        Some(trial)
    }

    fn end_trial(&self, name: &str, number: u64, outcome: trial::Outcome) {
        let Some(slot) = lock(&self.slots).get(name).cloned() else {
            return;
        };
        match outcome {
            trial::Outcome::Promote if slot.promote_candidate(number).is_some() => {
                tracing::info!(plugin = %name, revision = number, "passed its trial and took its seat");
            }
            trial::Outcome::Drop(why) if slot.drop_candidate(number, &why) => {
                tracing::warn!(plugin = %name, revision = number, why, "did not pass its trial");
            }
            _ => return,
        }
        self.reseat();
    }

    /// A process that cannot load what is asked for serves what served last, as an earlier process wrote it down.
    fn fall_back(&self, plugin: &Plugin, slot: &Slot, history: &[PastRevision]) {
        let is_good = |past: &&PastRevision| matches!(past.outcome, Outcome::Serving | Outcome::Superseded);
        for past in history.iter().filter(is_good) {
            let Some(spec) = past.spec.clone() else { continue };
            let earlier = Plugin {
                spec,
                ..plugin.clone()
            };
            if let Ok(Prepared::Fresh(revision)) = self.prepare(&earlier, slot, &[]) {
                let revision = Arc::new(*revision);
                let name = &plugin.metadata.name;
                self.watch_health(name, &revision);
                tracing::warn!(plugin = %name, title = %revision.title, number = past.number, "fell back");
                slot.fall_back(revision);
                return self.reseat();
            }
        }
    }

    /// Notes that a plugin was refused before it got here.
    pub(crate) fn refuse(&self, name: &str, error: &LoadError, generation: Option<i64>) {
        if let Ok(slot) = self.slot(name) {
            slot.refuse(error, generation);
        }
    }

    /// Loads many at once, compiling in parallel; answers in the order given.
    pub fn load_all(&self, plugins: Vec<Plugin>) -> Vec<(String, Result<Loaded, LoadError>)> {
        let next = AtomicUsize::new(0);
        let answers: Mutex<BTreeMap<usize, Result<Loaded, LoadError>>> = Mutex::default();
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(COMPILERS_MAX);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(plugins.len()) {
                scope.spawn(|| {
                    while let Some((index, plugin)) = Some(next.fetch_add(1, Ordering::SeqCst))
                        .and_then(|index| Some((index, plugins.get(index)?)))
                    {
                        let answer = self.load(plugin);
                        lock(&answers).insert(index, answer);
                    }
                });
            }
        });
        let answers = std::mem::take(&mut *lock(&answers));
        plugins
            .into_iter()
            .map(|plugin| plugin.metadata.name)
            .zip(answers.into_values())
            .collect()
    }

    /// Takes a plugin from all its seats. Calls under way end on it.
    pub fn unload(&self, name: &str) {
        let removed = lock(&self.slots).remove(name);
        if removed.is_some() {
            self.reseat();
            self.services.forget(name);
            tracing::info!(plugin = %name, "plugin left its seat");
        }
    }

    /// Lets go of revisions that nobody will go back to: their successors have proven themselves.
    pub fn settle(&self) {
        let slots: Vec<Arc<Slot>> = lock(&self.slots).values().cloned().collect();
        slots.iter().for_each(|slot| slot.settle());
    }

    pub(crate) fn engine(&self) -> &wasmtime::Engine {
        &self.engine
    }

    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    pub(crate) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    pub(crate) fn compiled(
        &self,
        digest: &str,
        bytes: &[u8],
    ) -> Result<wasmtime::component::Component, LoadError> {
        self.cache.compile(&self.engine, digest, bytes)
    }

    /// Names of all plugins that were loaded or refused, and not unloaded.
    pub fn plugins(&self) -> Vec<String> {
        lock(&self.slots).keys().cloned().collect()
    }

    /// What this host has to say of a plugin; none before its first load has ended.
    pub fn report(&self, name: &str) -> Option<Report> {
        let slot = lock(&self.slots).get(name).cloned()?;
        let tenure = slot.tenure();
        (tenure.current.is_some() || tenure.failure.is_some()).then(|| report::of(&self.name, &tenure))
    }

    /// All plugins' series and the host's own about them, in the Prometheus text form.
    pub fn metrics_text(&self) -> String {
        let slots: Vec<(String, Arc<Slot>)> = lock(&self.slots)
            .iter()
            .map(|(name, slot)| (name.clone(), Arc::clone(slot)))
            .collect();
        let mut page = page::of(slots.iter().map(|(name, slot)| (name.as_str(), slot.tenure())));
        self.services.metrics.write_text(&mut page);
        page
    }

    fn slot(&self, name: &str) -> Result<Arc<Slot>, LoadError> {
        let mut slots = lock(&self.slots);
        if !slots.contains_key(name) && slots.len() >= PLUGINS_MAX {
            let wanted = format!("one of at most {PLUGINS_MAX} plugins");
            return Err(LoadError::spec("metadata.name", name, wanted));
        }
        Ok(Arc::clone(slots.entry(name.to_owned()).or_default()))
    }

    fn watch_health(&self, name: &str, revision: &Arc<Revision>) {
        let (host, name, number) = (Weak::clone(&self.this), name.to_owned(), revision.number);
        revision.health.on_broken(move || {
            if let Some(host) = host.upgrade() {
                host.roll_back(&name, number);
            }
        });
    }

    /// A revision failed too often: a candidate is dropped; after one that serves the one before it takes over, if
    /// there is one.
    fn roll_back(&self, name: &str, number: u64) {
        let slot = lock(&self.slots).get(name).cloned();
        let candidate = slot.as_ref().and_then(|slot| slot.candidate());
        if let Some(candidate) = candidate.filter(|candidate| candidate.revision.number == number) {
            let why = candidate.revision.health.degraded().unwrap_or_default();
            let why = format!("it failed too often, the last: {why}");
            return self.end_trial(name, number, trial::Outcome::Drop(why));
        }
        if let Some(restored) = slot.and_then(|slot| slot.roll_back(number)) {
            tracing::warn!(plugin = %name, revision = number, restored = restored.number, "rolled back");
            self.reseat();
        }
    }

    /// Seats the current revision of every slot; only rows that changed are replaced.
    fn reseat(&self) {
        let rows = lock(&self.rows);
        let slots: Vec<(String, Arc<Slot>)> = lock(&self.slots)
            .iter()
            .map(|(name, slot)| (name.clone(), Arc::clone(slot)))
            .collect();
        let trials: BTreeMap<u64, Arc<Trial>> = slots
            .iter()
            .filter_map(|(_, slot)| Some((slot.running()?.number, slot.candidate()?.trial)))
            .collect();
        let mut current: Vec<(String, Arc<Revision>)> = slots
            .into_iter()
            .filter_map(|(name, slot)| Some((name, slot.running()?)))
            .collect();
        replace(
            &rows.scheduler,
            &current,
            |r| r.failure_policy,
            |r| r.scheduler.clone().map(|p| p as Arc<dyn scheduler::Policy>),
        );
        replace(
            &rows.problem,
            &current,
            |r| r.failure_policy,
            |r| r.problem.clone().map(|p| p as Arc<dyn problem::Daemon>),
        );
        replace(
            &rows.remedy,
            &current,
            |r| r.failure_policy,
            |r| r.remedy.clone().map(|p| p as Arc<dyn remedy::Remedy>),
        );
        replace(
            &rows.sidecar,
            &current,
            |r| r.failure_policy,
            |r| r.sidecar.clone().map(|p| p as Arc<dyn sidecar::Sidecar>),
        );
        current.sort_by(|(a, left), (b, right)| (left.admission_order, a).cmp(&(right.admission_order, b)));
        replace(
            &rows.admission,
            &current,
            |r| r.admission_failure_policy,
            |r| match trials.get(&r.number) {
                Some(trial) => Some(Arc::clone(trial) as Arc<dyn admission::Policy>),
                None => r.admission.clone().map(|p| p as Arc<dyn admission::Policy>),
            },
        );
    }
}

fn replace<P: ?Sized>(
    seating: &Seating<P>,
    current: &[(String, Arc<Revision>)],
    failure_policy: impl Fn(&Revision) -> FailurePolicy,
    policy: impl Fn(&Revision) -> Option<Arc<P>>,
) {
    let row: Vec<Seat<P>> = current
        .iter()
        .filter_map(|(name, revision)| {
            Some(Seat {
                plugin: name.clone(),
                revision: revision.number,
                failure_policy: failure_policy(revision),
                policy: policy(revision)?,
            })
        })
        .collect();
    let key = |seats: &[Seat<P>]| {
        seats
            .iter()
            // The address tells a revision by itself from the same one beside a candidate.
            .map(|s| (s.plugin.clone(), s.revision, Arc::as_ptr(&s.policy).cast::<()>()))
            .collect::<Vec<_>>()
    };
    if key(&seating.seats().borrow()) != key(&row) {
        seating.replace(row);
    }
}

fn loaded(name: &str, revision: &Revision, changed: bool) -> Loaded {
    Loaded {
        plugin: name.to_owned(),
        title: revision.title.clone(),
        digest: revision.fingerprint.digest.clone(),
        worlds: revision.worlds.clone(),
        revision: revision.number,
        changed,
    }
}

fn gone(name: &str) -> LoadError {
    LoadError::Fetch {
        source_text: name.to_owned(),
        message: "the plugin was unloaded meanwhile".into(),
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
