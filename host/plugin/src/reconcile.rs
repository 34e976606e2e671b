//! Keeps a host level with the cluster's Plugin objects, and their status level with the host.
//!
//! One task owns what is known; loads run on blocking threads, one at a time for each plugin. Everything is
//! read again from the objects: a missed event is made good by the next look. Objects that are gone are
//! unloaded once the first list is complete. Status is written on change, and for counts alone rarely.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_kinds::plugin::{self, Plugin, PluginStatus};
use capstan_kinds::plugin_trust::{self, PluginTrust};
use capstan_kinds::policy_exception::{self, PolicyException};
use futures::StreamExt;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher::watcher};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::{LoadError, Step};
use crate::follow::Follower;
use crate::host::{Host, Loaded};
use crate::status::{self, Difference};

/// How often status is compared and what is due is loaded.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often counts alone are written.
const COUNTS_INTERVAL: Duration = Duration::from_secs(30);
/// How often sources that change without their Plugin object (files, ConfigMaps) are read again.
const SOURCE_INTERVAL: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

type Finished = (String, Result<Loaded, LoadError>);

/// Watches, loads, unloads and reports until it is dropped. The host's plugins that have no object are
/// unloaded: objects of bundled defaults must exist before this starts.
pub async fn run(host: Arc<Host>, client: kube::Client) {
    host.set_client(client.clone());
    let api = api_of(&client, plugin::KIND, plugin::PLURAL);
    let follow = |kind, plural| {
        let objects = watcher(api_of(&client, kind, plural), watcher::Config::default());
        objects.default_backoff().boxed()
    };
    let mut events = follow(plugin::KIND, plugin::PLURAL);
    let mut trust_events = follow(plugin_trust::KIND, plugin_trust::PLURAL);
    let mut exception_events = follow(policy_exception::KIND, policy_exception::PLURAL);
    let (follower, mut told) = Follower::new(client.clone());
    let mut state = Reconciler {
        host,
        api,
        known: BTreeMap::new(),
        listing: None,
        loads: JoinSet::new(),
        trusted: Collection::default(),
        excepted: Collection::default(),
        follower,
    };
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(event) = events.next() => match event {
                Ok(event) => state.on_event(event),
                Err(error) => tracing::warn!(%error, "cannot watch plugins"),
            },
            Some(event) = trust_events.next() => match event {
                Ok(event) => state.on_trust(event),
                Err(error) => tracing::warn!(%error, "cannot watch whom the cluster trusts"),
            },
            Some(event) = exception_events.next() => match event {
                Ok(event) => state.on_exception(event),
                Err(error) => tracing::warn!(%error, "cannot watch exceptions from policies"),
            },
            Some(name) = told.recv() => state.look_again(&name),
            Some(finished) = state.loads.join_next() => match finished {
                Ok(finished) => state.on_loaded(finished).await,
                Err(error) => tracing::error!(%error, "a load ended without an answer"),
            },
            _ = look.tick() => state.look().await,
        }
    }
}

struct Reconciler {
    host: Arc<Host>,
    api: Api<DynamicObject>,
    known: BTreeMap<String, Known>,
    /// Names seen by the list under way.
    listing: Option<Vec<String>>,
    loads: JoinSet<Finished>,
    trusted: Collection<PluginTrust>,
    excepted: Collection<PolicyException>,
    /// Watches the objects that plugins are made of.
    follower: Follower,
}

/// Objects by name, whole once their first list is.
struct Collection<T> {
    objects: BTreeMap<String, T>,
    /// Whether the first or a new list of them is under way.
    listing: bool,
}

impl<T> Default for Collection<T> {
    fn default() -> Self {
        let (objects, listing) = (BTreeMap::new(), false);
        Self { objects, listing }
    }
}

impl<T: Default + Clone + serde::de::DeserializeOwned> Collection<T> {
    /// All objects after the event; none while they are being listed. One that cannot be read is there, with nothing
    /// in it.
    fn after(&mut self, event: Event<DynamicObject>) -> Option<Vec<T>> {
        match event {
            Event::Init => {
                self.objects.clear();
                self.listing = true;
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let name = object.metadata.name.clone().unwrap_or_default();
                let parsed = serde_json::to_value(&object).and_then(serde_json::from_value::<T>);
                let parsed = parsed.unwrap_or_else(|error| {
                    tracing::warn!(name, %error, "the object cannot be read");
                    T::default()
                });
                self.objects.insert(name, parsed);
            }
            Event::InitDone => self.listing = false,
            Event::Delete(object) => {
                self.objects.remove(&object.metadata.name.unwrap_or_default());
            }
        }
        (!self.listing).then(|| self.objects.values().cloned().collect())
    }
}

fn api_of(client: &kube::Client, kind: &str, plural: &str) -> Api<DynamicObject> {
    let gvk = kube::core::GroupVersionKind::gvk(plugin::GROUP, plugin::VERSION, kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    Api::all_with(client.clone(), &resource)
}

/// A Plugin object and what was done about it.
struct Known {
    object: DynamicObject,
    plugin: Plugin,
    /// Why the object could not be read.
    unreadable: Option<String>,
    /// The last that was handed to the host.
    tried: Option<Plugin>,
    loading: bool,
    /// Whether something that it depends on changed while it was loading.
    stale: bool,
    due: Instant,
    pause: Duration,
    written: Option<Instant>,
}

impl Known {
    fn new() -> Self {
        let object = DynamicObject {
            types: None,
            metadata: Default::default(),
            data: serde_json::Value::Null,
        };
        let (plugin, due) = (Plugin::default(), Instant::now());
        let (unreadable, tried, written) = (None, None, None);
        Self {
            object,
            plugin,
            unreadable,
            tried,
            loading: false,
            stale: false,
            due,
            pause: RETRY_FIRST,
            written,
        }
    }

    /// Whether the host has yet to be told of this spec.
    fn is_news(&self) -> bool {
        self.tried.as_ref().is_none_or(|tried| {
            tried.spec != self.plugin.spec || tried.metadata.generation != self.plugin.metadata.generation
        })
    }

    /// Whether its bytes or its configuration may change without it.
    fn has_loose_source(&self) -> bool {
        let spec = &self.plugin.spec;
        spec.source.file.is_some() || spec.source.config_map.is_some() || spec.config_from.is_some()
    }
}

impl Reconciler {
    fn on_event(&mut self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.listing = Some(Vec::new()),
            Event::InitApply(object) => {
                if let (Some(seen), Some(name)) = (&mut self.listing, &object.metadata.name) {
                    seen.push(name.clone());
                }
                self.on_applied(object);
            }
            Event::InitDone => self.on_listed(),
            Event::Apply(object) => self.on_applied(object),
            Event::Delete(object) => self.forget(&object.metadata.name.unwrap_or_default()),
        }
    }

    fn on_applied(&mut self, object: DynamicObject) {
        let Some(name) = object.metadata.name.clone() else {
            return;
        };
        let known = self.known.entry(name.clone()).or_insert_with(Known::new);
        let parsed = serde_json::to_value(&object).and_then(serde_json::from_value::<Plugin>);
        known.object = object;
        match parsed {
            Ok(plugin) => (known.plugin, known.unreadable) = (plugin, None),
            Err(error) => known.unreadable = Some(error.to_string()),
        }
        if known.is_news() {
            known.pause = RETRY_FIRST;
            known.due = Instant::now();
            self.follower.follow(&name, &known.plugin.spec);
        }
        self.load_if_due(&name);
    }

    fn on_trust(&mut self, event: Event<DynamicObject>) {
        let Some(objects) = self.trusted.after(event) else {
            return;
        };
        self.host.set_trust(&objects);
        for name in self.known.keys().cloned().collect::<Vec<_>>() {
            self.look_again(&name);
        }
    }

    fn on_exception(&mut self, event: Event<DynamicObject>) {
        if let Some(objects) = self.excepted.after(event) {
            self.host.set_exceptions(&objects);
        }
    }

    /// Something that the plugin depends on has changed.
    fn look_again(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.due = Instant::now();
            known.stale = known.loading;
        }
        self.load_if_due(name);
    }

    fn on_listed(&mut self) {
        let Some(seen) = self.listing.take() else { return };
        let gone = self
            .known
            .keys()
            .cloned()
            .chain(self.host.plugins())
            .filter(|name| !seen.contains(name));
        for name in gone.collect::<Vec<_>>() {
            self.forget(&name);
        }
    }

    fn forget(&mut self, name: &str) {
        self.known.remove(name);
        self.follower.forget(name);
        self.host.unload(name);
    }

    fn load_if_due(&mut self, name: &str) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        if known.loading || known.due > Instant::now() {
            return;
        }
        let generation = known.object.metadata.generation;
        if let Some(unreadable) = &known.unreadable {
            let error = LoadError::Spec {
                field: "spec".into(),
                value: unreadable.clone(),
                wanted: "as docs/plugins.md describes".into(),
                step: Step::Fetched,
            };
            self.host.refuse(name, &error, generation);
            known.due = Instant::now() + RETRY_MAX;
            return;
        }
        known.loading = true;
        known.tried = Some(known.plugin.clone());
        let (host, plugin) = (Arc::clone(&self.host), known.plugin.clone());
        self.loads.spawn_blocking(move || {
            let answer = host.load(&plugin);
            (plugin.metadata.name, answer)
        });
    }

    async fn on_loaded(&mut self, (name, answer): Finished) {
        let Some(known) = self.known.get_mut(&name) else {
            // Deleted while it was loading.
            self.host.unload(&name);
            return;
        };
        known.loading = false;
        known.due = Instant::now()
            + match &answer {
                _ if std::mem::take(&mut known.stale) || known.is_news() => Duration::ZERO,
                Err(error) if error.is_transient() => {
                    let pause = known.pause;
                    known.pause = (pause * 2).min(RETRY_MAX);
                    pause
                }
                _ if known.has_loose_source() => SOURCE_INTERVAL,
                // The bytes are fixed and so is the verdict; looking again now and then costs a digest.
                _ => RETRY_MAX,
            };
        self.write_status(&name).await;
        self.load_if_due(&name);
    }

    async fn look(&mut self) {
        self.host.settle();
        for name in self.known.keys().cloned().collect::<Vec<_>>() {
            self.load_if_due(&name);
            self.write_status(&name).await;
        }
    }

    /// Writes what changed. A conflict or an error is made good by the next look, on a newer object.
    async fn write_status(&mut self, name: &str) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        let Some(report) = self
            .host
            .report(name)
            .filter(|_| known.tried.is_some() || known.unreadable.is_some())
        else {
            return;
        };
        let before: PluginStatus =
            serde_json::from_value(known.object.data["status"].clone()).unwrap_or_default();
        let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default();
        let after = status::merge(&before, &report, &now.to_string());
        let rested = known.written.is_none_or(|at| at.elapsed() >= COUNTS_INTERVAL);
        match status::difference(&before, &after) {
            Difference::None => return,
            Difference::Counts if !rested => return,
            Difference::Counts | Difference::Facts => {}
        }
        let mut object = known.object.clone();
        match serde_json::to_value(&after) {
            Ok(status) => object.data["status"] = status,
            Err(error) => return tracing::error!(plugin = %name, %error, "cannot write this status"),
        }
        let parameters = PostParams::default();
        let write = self.api.replace_status(name, &parameters, &object);
        match tokio::time::timeout(WRITE_TIMEOUT, write).await {
            Ok(Ok(written)) => {
                known.object = written;
                known.written = Some(Instant::now());
            }
            Ok(Err(kube::Error::Api(refusal))) if matches!(refusal.code, 404 | 409) => {}
            Err(_) => tracing::warn!(plugin = %name, "no answer to a write of the plugin's status"),
            Ok(Err(error)) => tracing::warn!(plugin = %name, %error, "cannot write the plugin's status"),
        }
    }
}
