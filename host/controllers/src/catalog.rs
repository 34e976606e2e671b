//! Which resources the API server has now, custom ones included, as discovery tells.
//!
//! Read anew whenever a CustomResourceDefinition changes. Used by what works on all kinds alike: the
//! garbage collector and the namespace controller.

use std::sync::Arc;
use std::time::Duration;

use capstan_client::Informer;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::core::PartialObjectMeta;
use kube::discovery::{ApiCapabilities, ApiResource, Discovery, Scope, verbs};
use tokio::sync::watch;

/// Pause before discovery is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How long changes are gathered before discovery is read anew.
const GATHER: Duration = Duration::from_millis(50);

/// One resource that can be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    pub(crate) watchable: bool,
    pub(crate) deletable: bool,
    pub(crate) deletes_collection: bool,
}

impl Entry {
    fn new(resource: ApiResource, capabilities: &ApiCapabilities) -> Option<Self> {
        let can = |verb: &str| capabilities.operations.iter().any(|operation| operation == verb);
        can(verbs::LIST).then(|| Self {
            namespaced: capabilities.scope == Scope::Namespaced,
            watchable: can(verbs::WATCH),
            deletable: can(verbs::DELETE),
            deletes_collection: can(verbs::DELETE_COLLECTION),
            resource,
        })
    }

    /// Whether these are events, which are many, short-lived and owned by nobody.
    pub(crate) fn is_event(&self) -> bool {
        self.resource.plural == "events" && matches!(self.resource.group.as_str(), "" | "events.k8s.io")
    }
}

/// What is kept of a CustomResourceDefinition: that it is there.
pub(crate) type Definition = PartialObjectMeta<CustomResourceDefinition>;

/// What discovery said last; `None` until it answered once.
pub(crate) type Catalog = watch::Receiver<Option<Arc<[Entry]>>>;

/// Starts keeping a catalog; it ends when nobody holds it.
pub(crate) fn start(client: Client, definitions: Informer<Definition>) -> Catalog {
    let (tell, catalog) = watch::channel(None);
    tokio::spawn(async move {
        tokio::select! {
            () = keep(client, definitions, &tell) => {}
            () = tell.closed() => {}
        }
    });
    catalog
}

async fn keep(client: Client, definitions: Informer<Definition>, tell: &watch::Sender<Option<Arc<[Entry]>>>) {
    let mut changes = definitions.changes();
    loop {
        changes.borrow_and_update();
        match read(&client).await {
            Ok(entries) => {
                tell.send_if_modified(|before| {
                    let differs = before.as_deref() != Some(&entries[..]);
                    if differs {
                        *before = Some(entries.into());
                    }
                    differs
                });
                if changes.changed().await.is_err() {
                    return;
                }
                tokio::time::sleep(GATHER).await;
            }
            Err(error) => {
                tracing::debug!(%error, "discovery failed, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// One entry a stored kind: of a group its preferred version, and of events the core ones only.
async fn read(client: &Client) -> Result<Vec<Entry>, kube::Error> {
    let discovery = match Discovery::new(client.clone()).run_aggregated().await {
        Ok(discovery) => discovery,
        Err(_) => Discovery::new(client.clone()).run().await?,
    };
    let mut entries: Vec<Entry> = discovery
        .groups_alphabetical()
        .into_iter()
        .filter(|group| group.name() != "events.k8s.io")
        .flat_map(|group| group.resources_by_stability())
        .filter_map(|(resource, capabilities)| Entry::new(resource, &capabilities))
        .collect();
    entries.sort_by(|a, b| {
        (&a.resource.group, &a.resource.plural).cmp(&(&b.resource.group, &b.resource.plural))
    });
    Ok(entries)
}
