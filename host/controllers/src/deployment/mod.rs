//! Rolls Deployments out over ReplicaSets.
//!
//! Invariants: every write carries the version that it was planned from, so that a stale view is refused and
//! planned anew; a ReplicaSet is named by its template, so that creating it twice makes one. Keyed by
//! Deployment. The decisions are in `plan`, `size`, `status`, `revision`, `template`.

mod plan;
mod revision;
pub(crate) mod size;
mod status;
pub(crate) mod template;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use self::plan::{Change, Snapshot};
use crate::error::{Error, Tolerate, is_terminating};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::{Claim, adopt_patch, claim, controller_of, reference, release_patch, selector};
use crate::pods_of::said;
use crate::work::{Key, Reconcile, keys_of, wakes};

pub(crate) struct Deployments {
    client: Client,
    informers: Informers,
    events: Recorder,
}

impl Deployments {
    pub(crate) fn new(client: Client, informers: &Informers, events: &Recorder) -> Self {
        Self {
            client,
            informers: informers.clone(),
            events: events.named("deployment-controller"),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.deployments);
        let deployments = self.informers.deployments.clone();
        let of_set = move |set: &ReplicaSet| match controller_of(&set.metadata) {
            Some(owner) if owner.kind == "Deployment" => {
                vec![Key::new(set.namespace().unwrap_or_default(), owner.name.clone())]
            }
            Some(_) => Vec::new(),
            None => deployments
                .list_in(set.metadata.namespace.as_deref().unwrap_or_default())
                .iter()
                .map(|deployment| Key::of(deployment.as_ref()))
                .collect(),
        };
        let sets = self.informers.replica_sets.clone();
        // Only Recreate waits for single pods to end.
        let of_pod = move |pod: &Pod| {
            let ended = crate::pod::is_finished(pod) || crate::pod::is_deleting(pod);
            let owner = controller_of(&pod.metadata).filter(|owner| ended && owner.kind == "ReplicaSet");
            let set = owner.and_then(|owner| sets.get(pod.metadata.namespace.as_deref(), &owner.name));
            let deployment = set.as_ref().and_then(|set| controller_of(&set.metadata));
            deployment
                .map(|owner| Key::new(pod.namespace().unwrap_or_default(), owner.name.clone()))
                .into_iter()
                .collect()
        };
        vec![
            wakes(
                &self.informers.deployments,
                |deployment| vec![Key::of(deployment)],
                all(),
            ),
            wakes(&self.informers.replica_sets, of_set, all()),
            wakes(&self.informers.pods, of_pod, all()),
        ]
    }

    fn sets(&self, namespace: &str) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn claimed(&self, key: &Key, deployment: &Deployment) -> Result<Option<Vec<ReplicaSet>>, Error> {
        let Some(selector) = deployment.spec.as_ref().and_then(|spec| selector(&spec.selector)) else {
            return Ok(None);
        };
        let uid = deployment.uid().unwrap_or_default();
        let deleting = deployment.metadata.deletion_timestamp.is_some();
        let mut owned = Vec::new();
        let candidates = self.informers.replica_sets.controlled_by(&uid).into_iter();
        for set in candidates.chain(self.informers.replica_sets.uncontrolled_in(&key.namespace)) {
            let patch = match claim(&uid, deleting, &selector, &set.metadata) {
                Claim::Ignore => continue,
                Claim::Owned => {
                    owned.push(set.as_ref().clone());
                    continue;
                }
                Claim::Release => release_patch(&set.metadata, &[&uid]),
                Claim::Adopt => {
                    let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &key.namespace);
                    let fresh = deployments.get_opt(&key.name).await?;
                    if fresh.is_none_or(|fresh| {
                        fresh.uid() != deployment.uid() || fresh.metadata.deletion_timestamp.is_some()
                    }) {
                        return Ok(None);
                    }
                    adopt_patch(&set.metadata, reference(deployment))
                }
            };
            let sets = self.sets(&key.namespace);
            let patched = sets
                .patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .or_gone()?;
            owned.extend(patched.filter(|set| crate::owner::is_controlled_by(&set.metadata, &uid)));
        }
        Ok(Some(owned))
    }

    /// Uids of those sets that have pods which have not ended.
    fn running(&self, sets: &[ReplicaSet]) -> Vec<String> {
        let runs = |uid: &String| {
            let pods = self.informers.pods.controlled_by(uid);
            pods.iter().any(|pod| !crate::pod::is_finished(pod))
        };
        sets.iter().filter_map(|set| set.uid()).filter(runs).collect()
    }

    async fn act(&self, seen: &Snapshot<'_>, changes: Vec<Change>) -> Result<(), Error> {
        let mut current = seen.deployment.clone();
        let namespace = current.namespace().unwrap_or_default();
        let sets = self.sets(&namespace);
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams::default();
        for change in changes {
            match change {
                Change::Create(set) => self.create(&sets, seen, &set).await?,
                Change::Update(set, before) => {
                    sets.replace(&set.name_any(), &params, &set).await?;
                    self.tell_scaled(seen.deployment, &set, before);
                }
                Change::Delete(set) => {
                    let same = Preconditions {
                        uid: set.uid(),
                        ..Default::default()
                    };
                    sets.delete(&set.name_any(), &DeleteParams::background().preconditions(same))
                        .await
                        .or_gone()?;
                }
                Change::Revision(revision) => {
                    let annotations = current.annotations_mut();
                    annotations.insert(revision::REVISION.to_owned(), revision);
                    current = deployments
                        .replace(&current.name_any(), &params, &current)
                        .await?;
                }
                Change::Status(status) => self.write_status(&deployments, &current, *status).await?,
            }
        }
        Ok(())
    }

    async fn write_status(
        &self,
        deployments: &Api<Deployment>,
        current: &Deployment,
        status: DeploymentStatus,
    ) -> Result<(), Error> {
        let changed = Deployment {
            status: Some(status),
            ..current.clone()
        };
        deployments
            .replace_status(&current.name_any(), &PostParams::default(), &changed)
            .await
            .or_gone()?;
        Ok(())
    }

    fn tell_scaled(&self, deployment: &Deployment, set: &ReplicaSet, before: i32) {
        let size = size::wanted(set);
        let way = match size.cmp(&before) {
            std::cmp::Ordering::Less => "down",
            std::cmp::Ordering::Greater => "up",
            std::cmp::Ordering::Equal => return,
        };
        let message = format!(
            "Scaled {way} replica set {} from {before} to {size}",
            set.name_any()
        );
        self.events.normal(deployment, "ScalingReplicaSet", message);
    }

    async fn create(
        &self,
        sets: &Api<ReplicaSet>,
        seen: &Snapshot<'_>,
        set: &ReplicaSet,
    ) -> Result<(), Error> {
        let deployment = seen.deployment;
        let name = set.name_any();
        let error = match sets.create(&PostParams::default(), set).await {
            Ok(_) => {
                self.tell_scaled(deployment, set, 0);
                return Ok(());
            }
            Err(error) => error,
        };
        let deployments: Api<Deployment> =
            Api::namespaced(self.client.clone(), &deployment.namespace().unwrap_or_default());
        if is_terminating(&error) {
            return Ok(());
        }
        if matches!(&error, kube::Error::Api(status) if status.reason == "AlreadyExists") {
            let there = sets.get_opt(&name).await?;
            let template = deployment.spec.as_ref().map(|spec| &spec.template);
            let ours = there.is_some_and(|there| {
                crate::owner::is_controlled_by(&there.metadata, &deployment.uid().unwrap_or_default())
                    && template.is_some_and(|template| template::is_of(&there, template))
            });
            if !ours {
                let mut status = deployment.status.clone().unwrap_or_default();
                status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                self.write_status(&deployments, deployment, status).await?;
            }
            // Either our cache lags, or the next name is tried.
            return Err(error.into());
        }
        self.events.warning(
            deployment,
            "ReplicaSetCreateError",
            format!("Failed to create new replica set {name:?}: {}", said(&error)),
        );
        let status = plan::failed(seen, said(&error));
        if deployment.status.as_ref() != Some(&status) {
            self.write_status(&deployments, deployment, status).await?;
        }
        Err(error.into())
    }
}

impl Reconcile for Deployments {
    type Key = Key;
    const NAME: &'static str = "deployment";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(deployment): Option<Arc<Deployment>> =
            self.informers.deployments.get(Some(&key.namespace), &key.name)
        else {
            return Ok(None);
        };
        let Some(sets) = self.claimed(key, &deployment).await? else {
            return Ok(None);
        };
        let running = self.running(&sets);
        let seen = Snapshot {
            deployment: &deployment,
            sets,
            running,
            now: jiff::Timestamp::now(),
        };
        let plan = plan::plan(&seen);
        self.act(&seen, plan.changes).await?;
        Ok(plan.again)
    }
}
