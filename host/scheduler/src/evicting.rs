//! Carries out what a post-filter decided: evicts the victims, and keeps their room for the pod.
//!
//! The decision is the policy's; only what makes no sense is refused: victims that are not on the node. The pod is
//! tried again when its victims are gone, as hints have it, or when they could not be evicted.

use std::sync::Arc;
use std::time::Instant;

use capstan_points::scheduler::{NodeId, PodId};
use k8s_openapi::api::core::v1::Pod;

use crate::nominations::priority;
use crate::run::{News, lock};
use crate::waiting::Word;
use crate::worker::Worker;

impl Worker {
    pub(crate) fn evict(&mut self, key: &str, pod: &Arc<Pod>, plugin: &str, node: NodeId, victims: &[PodId]) {
        let view = lock(&self.view);
        let node_name = view.node_name(node).map(str::to_owned);
        let known = victims.iter().map(|id| view.assigned(*id));
        let there = known.map(|found| found.filter(|(_, on)| *on == node).map(|(key, _)| key.to_owned()));
        let keys: Option<Vec<String>> = there.collect();
        drop(view);
        let (Some(node_name), Some(keys)) = (node_name, keys) else {
            tracing::warn!(
                plugin,
                pod = key,
                "a nomination names a node or pods that are not there"
            );
            return self.queue.failed(key, Instant::now());
        };
        for (other, yielding) in self.nominations.yielding(&node_name, priority(pod)) {
            self.nominations.remove(&other);
            self.unnominate(&yielding);
            self.queue.wake(&other, Instant::now());
        }
        self.nominations.set(key, &node_name, Arc::clone(pod));
        let victims: Vec<Arc<Pod>> = keys.iter().filter_map(|key| self.victim(key, plugin)).collect();
        let (writer, news) = (self.writer.clone(), self.news.clone());
        let (pod, key) = (Arc::clone(pod), key.to_owned());
        self.runtime.spawn(async move {
            if let Err(error) = writer.nominate(&pod, &node_name).await {
                tracing::debug!(pod = key, %error, "a nomination was not written");
            }
            let mut failed = false;
            for victim in victims {
                if let Err(error) = writer.evict(&victim, &pod, &node_name).await {
                    tracing::warn!(pod = key, %error, "a victim was not evicted");
                    failed = true;
                }
            }
            if failed {
                let _ = news.send(News::NotEvicted(key)).await;
            }
        });
    }

    /// The victim, where the API server must be asked to delete it. One that is not bound yet is stopped here.
    fn victim(&mut self, key: &str, plugin: &str) -> Option<Arc<Pod>> {
        let (namespace, name) = key.split_once('/')?;
        let victim = self.options.pods.get(Some(namespace), name)?;
        if let Some(placement) = self
            .waiting
            .take(victim.metadata.uid.as_deref().unwrap_or_default())
        {
            self.follow(Word::Stop(placement, plugin.to_owned(), "preempted".to_owned()));
            return None;
        }
        Some(victim).filter(|victim| victim.metadata.deletion_timestamp.is_none())
    }

    /// The pod waits for no node any more.
    pub(crate) fn clear_nomination(&mut self, key: &str, pod: &Arc<Pod>) {
        let said = pod
            .status
            .as_ref()
            .and_then(|status| status.nominated_node_name.as_deref());
        let known = self.nominations.remove(key).is_some();
        if known || said.is_some_and(|node| !node.is_empty()) {
            self.unnominate(pod);
        }
    }

    fn unnominate(&self, pod: &Arc<Pod>) {
        let (writer, pod) = (self.writer.clone(), Arc::clone(pod));
        self.runtime.spawn(async move {
            if let Err(error) = writer.nominate(&pod, "").await {
                tracing::debug!(%error, "a nomination was not taken back");
            }
        });
    }
}
