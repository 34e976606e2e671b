//! What feeds the graph: the informers that there are anyway, and a metadata watch of every other resource.
//!
//! Invariants: each resource of the catalog is fed by one task, which ends with it; nothing of an object stays
//! here. Not here: what follows from a change.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use capstan_client::{Change, Informer};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::graph::{Graph, Node};
use super::{Metadata, lock};
use crate::catalog::{Catalog, Entry};
use crate::informers::Informers;

/// Pause after a failed watch.
const RETRY: Duration = Duration::from_millis(500);

/// Objects of one page of a list: they are decoded together.
const PAGE: u32 = 100;

/// Where changes go: into the graph, and the uids that deserve a look to the queue.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) graph: Arc<Mutex<Graph>>,
    pub(super) tell: mpsc::Sender<String>,
    /// Namespaces out of which something went.
    pub(super) gone: broadcast::Sender<String>,
}

impl Sink {
    fn upsert(&self, entry: &Arc<Entry>, meta: &ObjectMeta) -> Vec<String> {
        let node = Node::of(entry, meta);
        node.map(|node| lock(&self.graph).upsert(node))
            .unwrap_or_default()
    }

    fn remove(&self, meta: &ObjectMeta) -> Vec<String> {
        let uid = meta.uid.as_deref().unwrap_or_default();
        if let Some(namespace) = &meta.namespace {
            // Nobody may be listening.
            let _ = self.gone.send(namespace.clone());
        }
        lock(&self.graph).remove(uid)
    }

    /// Lets go of all of a resource that are not among `listed`.
    fn keep(&self, entry: &Arc<Entry>, listed: &HashSet<String>) -> Vec<String> {
        let mut graph = lock(&self.graph);
        let mut uids = graph.uids_of(entry);
        uids.retain(|uid| !listed.contains(uid));
        uids.iter().flat_map(|uid| graph.remove(uid)).collect()
    }

    async fn look(&self, uids: Vec<String>) -> Result<(), mpsc::error::SendError<String>> {
        for uid in uids {
            self.tell.send(uid).await?;
        }
        Ok(())
    }
}

/// Follows what the catalog lists, and the catalog.
pub(super) async fn follow(client: Client, informers: Informers, mut catalog: Catalog, sink: Sink) {
    let mut tasks = JoinSet::new();
    let mut followed: HashMap<(String, String), (Arc<Entry>, AbortHandle)> = HashMap::new();
    loop {
        let entries = catalog.borrow_and_update().clone();
        let entries: Vec<_> = entries
            .iter()
            .flat_map(|all| all.iter())
            .filter(|entry| entry.watchable && !entry.is_event())
            .collect();
        let key = |entry: &Entry| (entry.resource.group.clone(), entry.resource.plural.clone());
        let wanted: HashMap<_, _> = entries.into_iter().map(|entry| (key(entry), entry)).collect();
        followed.retain(|key, (entry, task)| {
            let keep = wanted
                .get(key)
                .is_some_and(|wanted| wanted.resource == entry.resource);
            if !keep {
                task.abort();
                sink.keep(entry, &HashSet::new());
            }
            keep
        });
        for (key, entry) in wanted {
            followed.entry(key).or_insert_with(|| {
                let entry = Arc::new(entry.clone());
                let task = one(&mut tasks, &client, &informers, &entry, &sink);
                (entry, task)
            });
        }
        while tasks.try_join_next().is_some() {}
        if catalog.changed().await.is_err() || sink.tell.is_closed() {
            return;
        }
    }
}

/// Follows one resource: by its informer where there is one of all its objects.
fn one(
    tasks: &mut JoinSet<()>,
    client: &Client,
    informers: &Informers,
    entry: &Arc<Entry>,
    sink: &Sink,
) -> AbortHandle {
    let (to, sink) = (Arc::clone(entry), sink.clone());
    macro_rules! by {
        ($informer:ident) => {
            tasks.spawn(informed(informers.$informer.clone(), to, sink))
        };
    }
    match (entry.resource.group.as_str(), entry.resource.plural.as_str()) {
        ("", "endpoints") => by!(endpoints),
        ("", "namespaces") => by!(namespaces),
        ("", "nodes") => by!(nodes),
        ("", "persistentvolumeclaims") => by!(claims),
        ("", "persistentvolumes") => by!(volumes),
        ("", "pods") => by!(pods),
        ("", "resourcequotas") => by!(resource_quotas),
        ("", "serviceaccounts") => by!(service_accounts),
        ("", "services") => by!(services),
        ("apiextensions.k8s.io", "customresourcedefinitions") => by!(definitions),
        ("apps", "controllerrevisions") => by!(controller_revisions),
        ("apps", "daemonsets") => by!(daemon_sets),
        ("apps", "deployments") => by!(deployments),
        ("apps", "replicasets") => by!(replica_sets),
        ("apps", "statefulsets") => by!(stateful_sets),
        ("batch", "cronjobs") => by!(cron_jobs),
        ("batch", "jobs") => by!(jobs),
        ("certificates.k8s.io", "certificatesigningrequests") => by!(certificate_requests),
        ("discovery.k8s.io", "endpointslices") => by!(endpoint_slices),
        ("policy", "poddisruptionbudgets") => by!(budgets),
        ("rbac.authorization.k8s.io", "clusterroles") => by!(cluster_roles),
        ("storage.k8s.io", "volumeattributesclasses") => by!(attributes_classes),
        _ => tasks.spawn(watched(client.clone(), to, sink)),
    }
}

/// Feeds a resource from an informer of all its objects.
async fn informed<K>(informer: Informer<K>, entry: Arc<Entry>, sink: Sink)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut changes = informer.subscribe();
    let mut change: Change<K> = Change::Relisted;
    loop {
        let look = match change {
            Change::Upserted(object) => sink.upsert(&entry, object.meta()),
            Change::Deleted(object) => sink.remove(object.meta()),
            Change::Relisted => {
                let objects = informer.list();
                let mut look: Vec<String> = objects
                    .iter()
                    .flat_map(|object| sink.upsert(&entry, object.meta()))
                    .collect();
                let listed = objects.iter().filter_map(|object| object.meta().uid.clone());
                look.extend(sink.keep(&entry, &listed.collect()));
                look
            }
        };
        if sink.look(look).await.is_err() {
            return;
        }
        change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Change::Relisted,
            Err(RecvError::Closed) => return,
        };
    }
}

/// Feeds a resource from a watch of its metadata.
async fn watched(client: Client, entry: Arc<Entry>, sink: Sink) {
    let api: Api<Metadata> = Api::all_with(client, &entry.resource);
    let mut events = watcher::watcher(api, Config::default().page_size(PAGE)).boxed();
    let mut listed: HashSet<String> = HashSet::new();
    while let Some(event) = events.next().await {
        let look = match event {
            Err(error) => {
                tracing::debug!(resource = entry.resource.plural, %error, "metadata watch failed, trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Ok(Event::Init) => {
                listed = HashSet::new();
                Vec::new()
            }
            Ok(Event::InitApply(object)) => {
                listed.extend(object.metadata.uid.clone());
                sink.upsert(&entry, &object.metadata)
            }
            Ok(Event::InitDone) => sink.keep(&entry, &std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => sink.upsert(&entry, &object.metadata),
            Ok(Event::Delete(object)) => sink.remove(&object.metadata),
        };
        if sink.look(look).await.is_err() {
            return;
        }
    }
}
