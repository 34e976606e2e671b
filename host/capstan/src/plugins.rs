//! The default Plugin objects, and the plugin host beside the API server.
//!
//! A default is created once in the life of a data folder: who deletes it does not get it back with a restart.
//! Policies sit in their seats before the API server serves anybody outside of this process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use capstan_kinds::plugin::Plugin;
use capstan_kinds::plugin_trust::PluginTrust;
use capstan_kinds::policy_exception::PolicyException;
use capstan_plugin::Host;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::{Api, Client};
use tokio::task::JoinHandle;

use crate::bundle;

/// File in the data folder that lists the defaults created so far, a name a line.
const CREATED: &str = "default-plugins";

/// Which defaults there are, and which of them were created before.
pub(crate) struct Known {
    defaults: Vec<Plugin>,
    created: BTreeSet<String>,
}

impl Known {
    pub(crate) fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join(CREATED);
        let created = match std::fs::read_to_string(&path) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self {
            defaults: bundle::defaults()?,
            created,
        })
    }

    /// Loads what a fresh cluster is about to have while its store and certificates are still being made.
    pub(crate) fn start_warming(&self, host: &Arc<Host>) -> anyhow::Result<Warming> {
        let fresh = self.fresh();
        let host = Arc::clone(host);
        let task = tokio::task::spawn_blocking(move || {
            let answers = host.load_all(fresh);
            answers
                .into_iter()
                .try_for_each(|(name, loaded)| loaded.map(drop).with_context(|| name))
        });
        Ok(Warming { task })
    }

    fn fresh(&self) -> Vec<Plugin> {
        self.defaults
            .iter()
            .filter(|plugin| !self.created.contains(&plugin.metadata.name))
            .cloned()
            .collect()
    }
}

/// Default plugins on their way into their seats.
pub(crate) struct Warming {
    task: JoinHandle<anyhow::Result<()>>,
}

impl Warming {
    pub(crate) async fn wait(self) -> anyhow::Result<()> {
        self.task
            .await
            .context("default plugins")?
            .context("a default plugin cannot be loaded")
    }
}

/// The plugin host, level with the cluster's Plugin objects.
pub(crate) struct Running {
    host: Arc<Host>,
    task: JoinHandle<()>,
}

impl Running {
    /// Creates the defaults as the installer, loads all that the cluster has, and goes on following it.
    pub(crate) async fn start(
        host: Arc<Host>,
        client: Client,
        installer: Client,
        known: Known,
        data: &Path,
    ) -> anyhow::Result<Self> {
        host.set_client(client.clone());
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource());
        create(&Api::all_with(installer, &resource()), &known).await?;
        remember(&data.join(CREATED), &known)?;
        // Whom the cluster trusts is known before anything is loaded.
        host.set_trust(&all::<PluginTrust>(&client, &trust_resource()).await?);
        host.set_exceptions(&all::<PolicyException>(&client, &exception_resource()).await?);
        let list = api
            .list(&ListParams::default())
            .await
            .context("the list of plugins")?;
        let plugins = list
            .items
            .iter()
            .map(from_object)
            .collect::<anyhow::Result<Vec<_>>>()?;
        let loading = Arc::clone(&host);
        let answers = tokio::task::spawn_blocking(move || loading.load_all(plugins))
            .await
            .context("plugins")?;
        for (plugin, answer) in answers {
            if let Err(error) = answer {
                tracing::warn!(plugin, %error, "the plugin is not in its seat; its status says more");
            }
        }
        let task = tokio::spawn(capstan_plugin::run(Arc::clone(&host), client));
        Ok(Self { host, task })
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    pub(crate) async fn shutdown(self) {
        self.task.abort();
        // It was aborted: that is no failure.
        let _ = self.task.await;
    }
}

/// All objects of a kind. One that cannot be read is there, with nothing in it: such a trust trusts nobody, such an
/// exception excepts nothing.
async fn all<T: Default + serde::de::DeserializeOwned>(
    client: &Client,
    resource: &ApiResource,
) -> anyhow::Result<Vec<T>> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), resource);
    let list = api.list(&ListParams::default()).await;
    let list = list.with_context(|| format!("the list of {}", resource.plural))?;
    let parse = |object| serde_json::to_value(object).and_then(serde_json::from_value);
    Ok(list.items.iter().map(parse).map(Result::unwrap_or_default).collect())
}

fn exception_resource() -> ApiResource {
    use capstan_kinds::policy_exception::{KIND, PLURAL};
    of_group(KIND, PLURAL)
}

fn resource() -> ApiResource {
    use capstan_kinds::plugin::{KIND, PLURAL};
    of_group(KIND, PLURAL)
}

fn trust_resource() -> ApiResource {
    use capstan_kinds::plugin_trust::{KIND, PLURAL};
    of_group(KIND, PLURAL)
}

fn of_group(kind: &str, plural: &str) -> ApiResource {
    use capstan_kinds::plugin::{GROUP, VERSION};
    ApiResource {
        group: GROUP.into(),
        version: VERSION.into(),
        api_version: format!("{GROUP}/{VERSION}"),
        kind: kind.into(),
        plural: plural.into(),
    }
}

async fn create(api: &Api<DynamicObject>, known: &Known) -> anyhow::Result<()> {
    for plugin in known.fresh() {
        let object: DynamicObject = serde_json::from_value(serde_json::to_value(&plugin)?)?;
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).with_context(|| format!("plugin {}", plugin.metadata.name)),
        }
    }
    Ok(())
}

fn remember(path: &PathBuf, known: &Known) -> anyhow::Result<()> {
    let mut names = known.created.clone();
    names.extend(known.defaults.iter().map(|plugin| plugin.metadata.name.clone()));
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn from_object(object: &DynamicObject) -> anyhow::Result<Plugin> {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    serde_json::from_value(serde_json::to_value(object)?).with_context(|| format!("plugin {name}"))
}
