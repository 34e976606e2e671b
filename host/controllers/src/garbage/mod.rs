//! Collects what has lost its owners, and carries out foreground and orphan deletion.
//!
//! Sees the metadata of every resource of the catalog, custom ones included. Invariants: nothing is deleted
//! before a live read of it and of its owners; every delete is bound to the uid that was read. Keyed by uid.
//! The decisions are in `graph`, what feeds it in `watch`.

mod graph;
mod watch;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;

use self::graph::{Change, Graph, Node, Owner, Propagation};
use self::watch::Sink;
use crate::catalog::{Catalog, Entry};
use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::owner::{owners_patch, release_patch};
use crate::work::Reconcile;

/// Uids that wait to be taken into the work queue.
const WAKES_MAX: usize = 4096;

type Metadata = PartialObjectMeta<DynamicObject>;

pub(crate) struct Garbage {
    client: Client,
    informers: Informers,
    graph: Arc<Mutex<Graph>>,
    catalog: Catalog,
    gone: broadcast::Sender<String>,
}

impl Garbage {
    /// `gone` is told the namespace of everything that goes.
    pub(crate) fn new(
        client: Client,
        informers: &Informers,
        catalog: Catalog,
        gone: broadcast::Sender<String>,
    ) -> Self {
        Self {
            client,
            informers: informers.clone(),
            graph: Arc::default(),
            catalog,
            gone,
        }
    }

    /// Starts watching; the watches end with the stream.
    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, String>> {
        let (tell, wakes) = mpsc::channel(WAKES_MAX);
        let sink = Sink {
            graph: Arc::clone(&self.graph),
            tell,
            gone: self.gone.clone(),
        };
        let watching = watch::follow(
            self.client.clone(),
            self.informers.clone(),
            self.catalog.clone(),
            sink,
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(watching);
        let stream = stream::unfold((wakes, tasks), |(mut wakes, tasks)| async move {
            let uid = wakes.recv().await?;
            Some((uid, (wakes, tasks)))
        });
        vec![stream.boxed()]
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        lock(&self.graph)
    }

    fn api<K>(&self, node: &Node) -> Api<K>
    where
        K: kube::Resource<
                DynamicType = kube::discovery::ApiResource,
                Scope = kube::core::DynamicResourceScope,
            >,
    {
        scoped(&self.client, &node.entry, node.namespace.as_deref())
    }

    /// The state of one owner: as the graph has it, or by a live read.
    async fn owner(&self, node: &Node, owner: &OwnerReference) -> Result<Owner, Error> {
        if let Some(known) = self.graph().get(&owner.uid) {
            return Ok(if known.waits_for_dependents() {
                Owner::Waiting
            } else {
                Owner::Present
            });
        }
        let Some(entry) = self.entry(&owner.api_version, &owner.kind) else {
            // A kind that nobody serves now may come back: nothing is deleted for its sake.
            return Ok(Owner::Present);
        };
        if entry.namespaced && node.namespace.is_none() {
            // A cluster-scoped object cannot be owned from within a namespace; the original leaves it, too.
            return Ok(Owner::Present);
        }
        let namespace = if entry.namespaced {
            node.namespace.as_deref()
        } else {
            None
        };
        let api: Api<Metadata> = scoped(&self.client, &entry, namespace);
        let found = api.get_opt(&owner.name).await?;
        let Some(found) = found.filter(|found| found.metadata.uid.as_deref() == Some(&owner.uid)) else {
            return Ok(Owner::Absent);
        };
        let waiting = Node::of(&entry, &found.metadata).is_some_and(|node| node.waits_for_dependents());
        Ok(if waiting { Owner::Waiting } else { Owner::Present })
    }

    fn entry(&self, api_version: &str, kind: &str) -> Option<Arc<Entry>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let catalog = self.catalog.borrow();
        let entry = catalog
            .as_ref()?
            .iter()
            .find(|entry| entry.resource.group == group && entry.resource.kind == kind)?;
        Some(Arc::new(entry.clone()))
    }

    async fn act(&self, node: &Node, meta: &ObjectMeta, change: Change) -> Result<(), Error> {
        let objects: Api<DynamicObject> = self.api(node);
        let metadata: Api<Metadata> = self.api(node);
        let merge = PatchParams::default();
        match change {
            Change::Delete(propagation) => {
                let policy = match propagation {
                    Propagation::Background => PropagationPolicy::Background,
                    Propagation::Foreground => PropagationPolicy::Foreground,
                    Propagation::Orphan => PropagationPolicy::Orphan,
                };
                let params = DeleteParams {
                    propagation_policy: Some(policy),
                    ..Default::default()
                };
                // The version too: an owner that was added meanwhile saves it.
                let same = Preconditions {
                    uid: Some(node.uid.clone()),
                    resource_version: meta.resource_version.clone(),
                };
                objects
                    .delete(&node.name, &params.preconditions(same))
                    .await
                    .or_gone()?;
            }
            Change::DropOwners(uids) => {
                let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
                metadata
                    .patch(&node.name, &merge, &Patch::Merge(&release_patch(meta, &uids)))
                    .await
                    .or_gone()?;
            }
            Change::Unblock => {
                let mut owners = meta.owner_references.clone().unwrap_or_default();
                for owner in &mut owners {
                    owner.block_owner_deletion = Some(false);
                }
                metadata
                    .patch(&node.name, &merge, &Patch::Merge(&owners_patch(meta, &owners)))
                    .await
                    .or_gone()?;
            }
            Change::RemoveFinalizer(finalizer) => {
                let mut finalizers = meta.finalizers.clone().unwrap_or_default();
                finalizers.retain(|name| name != finalizer);
                let patch = serde_json::json!({ "metadata": {
                    "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers,
                }});
                metadata
                    .patch(&node.name, &merge, &Patch::Merge(&patch))
                    .await
                    .or_gone()?;
            }
            Change::Release(uid) => self.release(&node.uid, &uid).await?,
            Change::Look(_) => {}
        }
        Ok(())
    }

    /// Makes one dependent let go of `owner`.
    async fn release(&self, owner: &str, dependent: &str) -> Result<(), Error> {
        let Some(node) = self.graph().get(dependent).cloned() else {
            return Ok(());
        };
        let api: Api<Metadata> = self.api(&node);
        let Some(fresh) = api.get_opt(&node.name).await? else {
            return Ok(());
        };
        if fresh.metadata.uid.as_deref() != Some(dependent) {
            return Ok(());
        }
        let patch = release_patch(&fresh.metadata, &[owner]);
        if let Some(patched) = api
            .patch(&node.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .or_gone()?
            && let Some(node) = Node::of(&node.entry, &patched.metadata)
        {
            self.graph().upsert(node);
        }
        Ok(())
    }

    /// One pass over an object; answers with what else deserves a look.
    async fn look(&self, uid: &str) -> Result<Vec<String>, Error> {
        let Some(known) = self.graph().get(uid).cloned() else {
            return Ok(Vec::new());
        };
        let api: Api<Metadata> = self.api(&known);
        let fresh = api.get_opt(&known.name).await?;
        let Some(fresh) = fresh.filter(|fresh| fresh.metadata.uid.as_deref() == Some(uid)) else {
            return Ok(self.graph().remove(uid));
        };
        let Some(node) = Node::of(&known.entry, &fresh.metadata) else {
            return Ok(Vec::new());
        };
        let mut owners = Vec::new();
        if !node.deleting {
            for owner in &node.owners {
                owners.push(self.owner(&node, owner).await?);
            }
        }
        let changes = graph::plan(&self.graph(), &node, &owners);
        let mut look = Vec::new();
        let releases = changes.iter().any(|change| matches!(change, Change::Release(_)));
        for change in changes {
            match change {
                Change::Look(uids) => look.extend(uids),
                change => self.act(&node, &fresh.metadata, change).await?,
            }
        }
        if releases {
            look.push(uid.to_owned());
        }
        Ok(look)
    }
}

impl Reconcile for Garbage {
    type Key = String;
    const NAME: &'static str = "garbage-collector";

    async fn reconcile(&self, uid: &String) -> Result<Option<Duration>, Error> {
        let mut seen = HashSet::from([uid.clone()]);
        let mut rest = self.look(uid).await?;
        while let Some(next) = rest.pop() {
            // An orphaning owner asks for itself again once, after its dependents let go.
            let first = seen.insert(next.clone());
            if first || next == *uid {
                let more = self.look(&next).await?;
                rest.extend(more.into_iter().filter(|uid| !seen.contains(uid)));
            }
        }
        Ok(None)
    }
}

fn lock(graph: &Mutex<Graph>) -> MutexGuard<'_, Graph> {
    graph.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scoped<K>(client: &Client, entry: &Entry, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = kube::discovery::ApiResource, Scope = kube::core::DynamicResourceScope>,
{
    match namespace {
        Some(namespace) if entry.namespaced => {
            Api::namespaced_with(client.clone(), namespace, &entry.resource)
        }
        _ => Api::all_with(client.clone(), &entry.resource),
    }
}
