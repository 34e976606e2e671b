//! Follows the objects that plugins are made of (a ConfigMap with a component, the object of a configuration), so that
//! a change of one is a new revision at once.
//!
//! One watch for each object that a plugin names, by its name alone. A watch that cannot be kept is made good by the
//! reconciler, which reads loose sources again every few seconds. Started and dropped by the reconciler.

use std::collections::BTreeMap;
use std::time::Duration;

use capstan_kinds::plugin::{ConfigMapKey, PluginSpec};
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Names of plugins that wait to be looked at.
const TOLD_MAX: usize = 256;
/// How long until a kind that is not served is looked for again.
const RETRY: Duration = Duration::from_secs(5);

/// An object that a plugin is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Followed {
    gvk: GroupVersionKind,
    namespace: String,
    name: String,
}

/// The watches of all plugins.
pub(crate) struct Follower {
    client: Client,
    watches: BTreeMap<String, (Vec<Followed>, Vec<AbortHandle>)>,
    tell: mpsc::Sender<String>,
}

impl Follower {
    /// A follower, and where it tells of plugins that have something new.
    pub(crate) fn new(client: Client) -> (Self, mpsc::Receiver<String>) {
        let (tell, told) = mpsc::channel(TOLD_MAX);
        let watches = BTreeMap::new();
        (
            Self {
                client,
                watches,
                tell,
            },
            told,
        )
    }

    /// Follows what this spec names, and nothing else for the plugin.
    pub(crate) fn follow(&mut self, plugin: &str, spec: &PluginSpec) {
        let wanted = followed(spec);
        if self
            .watches
            .get(plugin)
            .is_some_and(|(objects, _)| *objects == wanted)
        {
            return;
        }
        self.forget(plugin);
        let start = |object: &Followed| {
            let (client, plugin) = (self.client.clone(), plugin.to_owned());
            tokio::spawn(watch(client, object.clone(), plugin, self.tell.clone())).abort_handle()
        };
        let handles = wanted.iter().map(start).collect();
        self.watches.insert(plugin.to_owned(), (wanted, handles));
    }

    /// Follows nothing for this plugin any more.
    pub(crate) fn forget(&mut self, plugin: &str) {
        if let Some((_, handles)) = self.watches.remove(plugin) {
            handles.iter().for_each(AbortHandle::abort);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        for (_, handles) in self.watches.values() {
            handles.iter().for_each(AbortHandle::abort);
        }
    }
}

fn followed(spec: &PluginSpec) -> Vec<Followed> {
    let config_map = |key: &ConfigMapKey| Followed {
        gvk: GroupVersionKind::gvk("", "v1", "ConfigMap"),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    };
    let from = spec.config_from.as_ref();
    let object = from.and_then(|from| from.object.as_ref()).map(|part| {
        let (group, version) = part
            .api_version
            .rsplit_once('/')
            .unwrap_or(("", &part.api_version));
        Followed {
            gvk: GroupVersionKind::gvk(group, version, &part.kind),
            namespace: part.namespace.clone(),
            name: part.name.clone(),
        }
    });
    let source = spec.source.config_map.as_ref();
    let config = from.and_then(|from| from.config_map.as_ref());
    source
        .into_iter()
        .chain(config)
        .map(config_map)
        .chain(object)
        .collect()
}

async fn watch(client: Client, object: Followed, plugin: String, tell: mpsc::Sender<String>) {
    let resource = loop {
        match resource(&client, &object.gvk).await {
            Ok(resource) => break resource,
            // The kind may be defined later; the load itself says that it is not there.
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    };
    let api: Api<DynamicObject> = match object.namespace.as_str() {
        "" => Api::all_with(client, &resource),
        namespace => Api::namespaced_with(client, namespace, &resource),
    };
    let only = watcher::Config::default().fields(&format!("metadata.name={}", object.name));
    let mut changes = watcher(api, only).default_backoff().boxed();
    while let Some(change) = changes.next().await {
        let is_news = matches!(
            change,
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone)
        );
        if is_news && tell.send(plugin.clone()).await.is_err() {
            return;
        }
    }
}

/// Where a kind is served.
pub(crate) async fn resource(client: &Client, gvk: &GroupVersionKind) -> kube::Result<ApiResource> {
    if gvk.group.is_empty() && gvk.kind == "ConfigMap" {
        return Ok(ApiResource::from_gvk_with_plural(gvk, "configmaps"));
    }
    let (resource, _) = kube::discovery::pinned_kind(client, gvk).await?;
    Ok(resource)
}
