//! Keeps as many pods as each ReplicaSet asks for.
//!
//! Invariants: nothing is created or deleted while the cache lags behind our own writes; status is written
//! only when it differs. Keyed by ReplicaSet. The decisions are in `plan` and `rank`.

pub(crate) mod expect;
mod plan;
mod rank;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use self::plan::{Change, Snapshot};
use crate::error::{Error, Tolerate};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::{controller_of, reference, selector};
use crate::pods_of::{Pods, said};
use crate::work::{Key, Reconcile, keys_of, wakes};

pub(crate) struct ReplicaSets {
    client: Client,
    informers: Informers,
    pods: Arc<Pods>,
}

impl ReplicaSets {
    pub(crate) fn new(client: Client, informers: &Informers, events: &Recorder) -> Self {
        let pods = Pods::new(client.clone(), informers, events.named("replicaset-controller"));
        Self {
            client,
            informers: informers.clone(),
            pods: Arc::new(pods),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.replica_sets);
        let pods = Arc::clone(&self.pods);
        let sets = self.informers.replica_sets.clone();
        let of_pod = move |pod: &Pod| match controller_of(&pod.metadata) {
            Some(_) => pods.owner_key("ReplicaSet", pod).into_iter().collect(),
            None => sets
                .list_in(pod.metadata.namespace.as_deref().unwrap_or_default())
                .iter()
                .filter(|set| {
                    let selector = set.spec.as_ref().and_then(|spec| selector(&spec.selector));
                    selector.is_some_and(|selector| {
                        use kube::core::SelectorExt;
                        selector.matches(pod.metadata.labels.as_ref().unwrap_or(&Default::default()))
                    })
                })
                .map(|set| Key::of(set.as_ref()))
                .collect(),
        };
        vec![
            wakes(&self.informers.replica_sets, |set| vec![Key::of(set)], all()),
            wakes(&self.informers.pods, of_pod, all()),
        ]
    }

    /// Active pods of every ReplicaSet that has the same controller.
    fn related(&self, set: &ReplicaSet, own: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
        let Some(owner) = controller_of(&set.metadata) else {
            return own.to_vec();
        };
        let siblings: Vec<String> = self
            .informers
            .replica_sets
            .controlled_by(&owner.uid)
            .iter()
            .filter_map(|other| other.uid())
            .collect();
        let pods = siblings
            .iter()
            .flat_map(|uid| self.informers.pods.controlled_by(uid));
        pods.collect()
    }

    async fn act(&self, set: &ReplicaSet, change: Change) -> Result<(), (&'static str, Error)> {
        match change {
            Change::Create(count) => {
                let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else {
                    return Ok(());
                };
                let pods = Pods::of_template(template, &set.name_any(), &reference(set), count);
                self.pods
                    .create(set, pods)
                    .await
                    .map_err(|error| ("FailedCreate", error))
            }
            Change::Delete(pods) => self
                .pods
                .delete(set, &pods)
                .await
                .map_err(|error| ("FailedDelete", error)),
        }
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        status: k8s_openapi::api::apps::v1::ReplicaSetStatus,
    ) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let sets: Api<ReplicaSet> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let changed = ReplicaSet {
            status: Some(status),
            ..set.clone()
        };
        sets.replace_status(&set.name_any(), &PostParams::default(), &changed)
            .await
            .or_gone()?;
        Ok(())
    }
}

impl Reconcile for ReplicaSets {
    type Key = Key;
    const NAME: &'static str = "replica-set";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.informers.replica_sets.get(Some(&key.namespace), &key.name) else {
            self.pods.expectations.forget(key);
            return Ok(None);
        };
        let Some(selector) = set.spec.as_ref().and_then(|spec| selector(&spec.selector)) else {
            return Ok(None);
        };
        let settled = self.pods.settled(key);
        let pods = self.pods.claimed(set.as_ref(), &selector).await?;
        let mut seen = Snapshot {
            set: &set,
            pods,
            related: Vec::new(),
            now: jiff::Timestamp::now(),
        };
        let mut failed = None;
        if settled {
            seen.related = self.related(&set, &seen.pods);
            if let Some(change) = plan::plan(&seen) {
                failed = self.act(&set, change).await.err();
            }
        }
        let failure = failed.as_ref().map(|(reason, error)| {
            let message = match error {
                Error::Batch { first, .. } | Error::Api(first) => said(first),
                other => other.to_string(),
            };
            (*reason, message)
        });
        let (status, next) = plan::status(&seen, failure);
        self.write_status(&set, status).await?;
        match failed {
            Some((_, error)) => Err(error),
            None if !settled => Ok(Some(expect::LOOK_AGAIN)),
            None => Ok(next),
        }
    }
}
