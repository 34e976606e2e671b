//! A plugin host with one component, for trials: the same steps to its seat and the same limits as in a cluster.
//!
//! Compiled components are kept in the user's cache folder. Not thread-safe by use: one question at a time.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capstan_kinds::plugin::{
    AdmissionBind, Bind, Metadata, NodesBind, Plugin, PluginSpec, PodsBind, Rule, SchedulerBind, Source,
};
use capstan_plugin::{About, Host, Options};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::context::Context;
use crate::error::Error;

/// The plugin's name in its host, and the component's among the bundled.
const NAME: &str = "plugin";

pub(crate) struct Rig {
    pub(crate) host: Arc<Host>,
    pub(crate) about: About,
    pub(crate) runtime: Runtime,
    context: Context,
    component: PathBuf,
}

impl Rig {
    /// Opens a host and looks at the component.
    pub(crate) fn open(component: &Path) -> Result<Self, Error> {
        let bytes = crate::component::read(component)?;
        Self::with(component, bytes)
    }

    /// As `open`, with bytes at hand.
    pub(crate) fn with(component: &Path, bytes: Vec<u8>) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let host = Host::open(Options {
            cache_dir: cache(),
            bundled: [(NAME.to_owned(), Cow::Owned(bytes.clone()))].into(),
            name: "author".into(),
            ..Options::default()
        })?;
        let context = Context::default();
        runtime.block_on(async { host.set_client(context.client()) });
        let about = host.inspect(&bytes).map_err(|source| Error::Load {
            path: component.to_owned(),
            source,
        })?;
        Ok(Self {
            host,
            about,
            runtime,
            context,
            component: component.to_owned(),
        })
    }

    /// Loads the component anew, with fresh instances and no memory of what it was asked before.
    pub(crate) fn load(&self, setup: &PluginSpec, objects: Vec<Value>) -> Result<(), Error> {
        self.context.set(objects);
        self.host.unload(NAME);
        let mut spec = setup.clone();
        spec.source = Source {
            bundled: Some(NAME.into()),
            ..Source::default()
        };
        (spec.digest, spec.signature, spec.rollout) = (None, None, None);
        self.bind(&mut spec.bind);
        let plugin = Plugin {
            metadata: Metadata {
                name: NAME.into(),
                ..Metadata::default()
            },
            spec,
            ..Plugin::default()
        };
        self.host.load(&plugin).map(drop).map_err(|source| Error::Load {
            path: self.component.clone(),
            source,
        })
    }

    /// Binds every world that the component implements and the setup does not bind, to everything.
    fn bind(&self, bind: &mut Bind) {
        for world in &self.about.worlds {
            match world.as_str() {
                "scheduler" => _ = bind.scheduler.get_or_insert_with(SchedulerBind::default),
                "admission" => _ = bind.admission.get_or_insert_with(every_request),
                "problem" | "remedy" => _ = bind.nodes.get_or_insert_with(NodesBind::default),
                _ => _ = bind.pods.get_or_insert_with(PodsBind::default),
            }
        }
    }

    /// The most linear memory that one instance has held since the load.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.host
            .report(NAME)
            .map_or(0, |report| report.host.memory_bytes)
    }
}

fn every_request() -> AdmissionBind {
    let all = || vec!["*".to_owned()];
    let rule = Rule {
        api_groups: all(),
        api_versions: all(),
        resources: vec!["*/*".to_owned()],
        operations: all(),
    };
    AdmissionBind {
        rules: vec![rule],
        ..AdmissionBind::default()
    }
}

/// Where compiled components are kept.
fn cache() -> PathBuf {
    let below =
        |variable: &str, rest: &str| std::env::var_os(variable).map(|base| PathBuf::from(base).join(rest));
    below("XDG_CACHE_HOME", "capstan/components")
        .or_else(|| below("HOME", ".cache/capstan/components"))
        .unwrap_or_else(|| std::env::temp_dir().join("capstan-components"))
}
