//! What becomes of a placed pod: assumed, reserved, permitted, bound; or undone and tried again.
//!
//! Invariants: a pod that is not bound after all is off its node in the view before the next cycle, is unreserved,
//! and is back in the queue unless it is gone; a binding that may have been written is checked before it is undone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_points::Seat;
use capstan_points::scheduler::{NodeId, Pod as Seen, Policy, Release};
use k8s_openapi::api::core::v1::Pod;

use crate::bind::Note;
use crate::placement::{Binder, Placement, Stopped};
use crate::run::{News, lock};
use crate::waiting::{WAITING_MAX, Word};
use crate::worker::{Worker, node_of};

/// How long a binding that a policy says it wrote may take to be seen.
const SEEN_BOUND: Duration = Duration::from_secs(30);

impl Worker {
    pub(crate) fn place(
        &mut self,
        key: &str,
        pod: Arc<Pod>,
        pending: Seen,
        node: NodeId,
        seats: Arc<[Seat<dyn Policy>]>,
    ) {
        let mut view = lock(&self.view);
        let Some(node_name) = view.node_name(node).map(str::to_owned) else {
            drop(view);
            self.queue.failed(key, Instant::now());
            return;
        };
        let event = view.assume(key, &node_name, &pod);
        drop(view);
        self.happened(event);
        self.nominations.remove(key);
        self.assumed
            .insert(key.to_owned(), (node_name.clone(), Arc::clone(&pod)));
        let placement = Placement {
            key: key.to_owned(),
            pod,
            pending,
            node,
            node_name,
            seats,
        };
        let now = Instant::now();
        match placement.reserve().and_then(|()| placement.permit(now)) {
            Err(stopped) => self.stop(placement, stopped),
            Ok(permission) => {
                if permission.waits.is_empty() {
                    self.bind(placement);
                } else if let Err(placement) = self.waiting.add(placement, permission.waits) {
                    let reason = format!("more than {WAITING_MAX} pods wait already");
                    let plugin = String::new();
                    self.stop(placement, Stopped::Rejected { plugin, reason });
                }
                self.release(permission.releases);
            }
        }
    }

    /// Follows what policies say of pods that wait.
    fn release(&mut self, releases: Vec<(String, Release)>) {
        for (plugin, release) in releases {
            if let Some(word) = self.waiting.release(&plugin, &release) {
                self.follow(word);
            }
        }
    }

    pub(crate) fn follow(&mut self, word: Word) {
        match word {
            Word::Go(placement) => self.bind(placement),
            Word::Stop(placement, plugin, reason) => {
                self.stop(placement, Stopped::Rejected { plugin, reason })
            }
        }
    }

    fn bind(&mut self, placement: Placement) {
        let annotations = match placement.prepare() {
            Err(stopped) => return self.stop(placement, stopped),
            Ok(Binder::Host(annotations)) => Some(annotations),
            Ok(Binder::Policy) => None,
        };
        let (writer, news) = (self.writer.clone(), self.news.clone());
        self.runtime.spawn(async move {
            let Some(annotations) = annotations else {
                tokio::time::sleep(SEEN_BOUND).await;
                let why = "the policy's binding was not seen".to_owned();
                let _ = news.send(News::NotBound(Box::new(placement), why)).await;
                return;
            };
            let bound = writer
                .bind(&placement.pod, &placement.node_name, &annotations)
                .await;
            if let Err(error) = bound {
                let _ = news
                    .send(News::NotBound(Box::new(placement), error.to_string()))
                    .await;
                return;
            }
            let meta = &placement.pod.metadata;
            let note = Note {
                warning: false,
                reason: "Scheduled",
                message: format!(
                    "Successfully assigned {}/{} to {}",
                    meta.namespace.as_deref().unwrap_or_default(),
                    meta.name.as_deref().unwrap_or_default(),
                    placement.node_name
                ),
            };
            let pod = Arc::clone(&placement.pod);
            if placement.has_post_bind() {
                let _ = news.send(News::Bound(Box::new(placement))).await;
            }
            writer.event(&pod, note).await;
        });
    }

    pub(crate) fn bound(&mut self, mut placement: Placement) {
        self.refresh(&mut placement);
        placement.bound();
    }

    /// The binding failed, unless the pod turns out to be bound or gone after all.
    pub(crate) fn not_bound(&mut self, placement: Placement, why: &str) {
        let meta = &placement.pod.metadata;
        let seen = self.options.pods.get(
            meta.namespace.as_deref(),
            meta.name.as_deref().unwrap_or_default(),
        );
        let is_same = seen.as_ref().is_some_and(|pod| pod.metadata.uid == meta.uid);
        if is_same && seen.as_ref().is_some_and(|pod| node_of(pod).is_some()) {
            self.queue.remove(&placement.key);
            return;
        }
        tracing::debug!(pod = placement.key, why, "binding failed");
        let (key, pod) = (placement.key.clone(), Arc::clone(&placement.pod));
        self.withdraw(placement);
        if is_same {
            self.retry(&key, &pod);
        } else {
            self.queue.remove(&key);
        }
    }

    /// A placed pod is not bound; it is tried again after its back-off.
    fn stop(&mut self, placement: Placement, stopped: Stopped) {
        let (key, pod) = (placement.key.clone(), Arc::clone(&placement.pod));
        self.withdraw(placement);
        match stopped {
            Stopped::Fault { plugin, fault } => {
                self.faulted(&key, Arc::clone(&pod), &plugin, &fault);
                self.renominate(&key, &pod);
            }
            Stopped::Rejected { plugin, reason } => {
                tracing::debug!(pod = key, plugin, reason, "a placed pod was rejected");
                self.retry(&key, &pod);
                self.tell(pod, "Unschedulable", reason, true);
            }
        }
    }

    fn retry(&mut self, key: &str, pod: &Arc<Pod>) {
        self.queue.failed(key, Instant::now());
        self.renominate(key, pod);
    }

    /// Takes a placed pod off its node, and follows what that means to others.
    pub(crate) fn withdraw(&mut self, mut placement: Placement) {
        self.refresh(&mut placement);
        let releases = placement.undo();
        self.assumed.remove(&placement.key);
        let event = lock(&self.view).remove_pod(&placement.key);
        self.happened(event);
        self.release(releases);
    }

    /// The view may have started over since the pod was placed: numbers and symbols are taken anew.
    fn refresh(&mut self, placement: &mut Placement) {
        let mut view = lock(&self.view);
        placement.pending = view.pending(&placement.pod);
        if let Some(node) = view.node_id(&placement.node_name) {
            placement.node = node;
        }
        for seat in placement.seats.iter().filter(|seat| seat.policy.asks().view) {
            if let Err(fault) = view.level(&*seat.policy) {
                tracing::warn!(plugin = seat.plugin, %fault, "a policy is not level with the cluster");
            }
        }
    }
}
