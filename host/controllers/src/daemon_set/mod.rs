//! Keeps a pod of each DaemonSet on every node that it may run on.
//!
//! Keyed by DaemonSet. Not here: surge, and the history that `kubectl rollout undo` would need. The decisions
//! are in `plan`.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use self::plan::Snapshot;
use crate::error::{Error, Tolerate};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::selector;
use crate::pods_of::Pods;
use crate::replica_set::expect;
use crate::work::{Key, Reconcile, keys_of, wakes};

pub(crate) struct DaemonSets {
    client: Client,
    informers: Informers,
    pods: Arc<Pods>,
}

impl DaemonSets {
    pub(crate) fn new(client: Client, informers: &Informers, events: &Recorder) -> Self {
        let pods = Pods::new(client.clone(), informers, events.named("daemonset-controller"));
        Self {
            client,
            informers: informers.clone(),
            pods: Arc::new(pods),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.daemon_sets);
        let pods = Arc::clone(&self.pods);
        let every = all();
        vec![
            wakes(&self.informers.daemon_sets, |set| vec![Key::of(set)], all()),
            wakes(
                &self.informers.pods,
                move |pod: &Pod| pods.owner_key("DaemonSet", pod).into_iter().collect(),
                all(),
            ),
            wakes(&self.informers.nodes, move |_| every(), all()),
        ]
    }
}

impl Reconcile for DaemonSets {
    type Key = Key;
    const NAME: &'static str = "daemon-set";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.informers.daemon_sets.get(Some(&key.namespace), &key.name) else {
            self.pods.expectations.forget(key);
            return Ok(None);
        };
        let Some((spec, selector)) = set
            .spec
            .as_ref()
            .and_then(|spec| Some((spec, selector(&spec.selector)?)))
        else {
            return Ok(None);
        };
        let settled = self.pods.settled(key);
        let pods = self.pods.claimed(set.as_ref(), &selector).await?;
        let nodes = self.informers.nodes.list();
        let hash = crate::deployment::template::hash(&spec.template, 0);
        let now = jiff::Timestamp::now();
        let plan = plan::plan(&Snapshot {
            set: &set,
            pods: &pods,
            nodes: &nodes,
            hash: &hash,
            now,
        });
        if settled && set.metadata.deletion_timestamp.is_none() {
            self.pods.delete(set.as_ref(), &plan.stop).await?;
            let start = plan
                .start
                .iter()
                .map(|node| plan::pod_for(&set, node, &hash))
                .collect();
            self.pods.create(set.as_ref(), start).await?;
        }
        if set.status.as_ref() != Some(&plan.status) {
            let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), &key.namespace);
            let changed = DaemonSet {
                status: Some(plan.status),
                ..set.as_ref().clone()
            };
            sets.replace_status(&set.name_any(), &PostParams::default(), &changed)
                .await
                .or_gone()?;
        }
        Ok((!settled).then_some(expect::LOOK_AGAIN))
    }
}
