//! Keeps the pods of StatefulSets: with stable names and volumes, in order, rolled by revision.
//!
//! Keyed by StatefulSet. Not here: deleting claims when a set shrinks (`whenScaled: Delete`), and volumes
//! themselves. The decisions are in `plan` and `revision`, the pods in `identity`.

mod identity;
mod plan;
mod revision;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

use self::plan::{REVISION_LABEL, Snapshot, Start};
use self::revision::Present;
use crate::error::{Error, Tolerate};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::selector;
use crate::pods_of::Pods;
use crate::replica_set::expect;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// Old revisions that are kept where the set does not say.
const HISTORY: i32 = 10;

pub(crate) struct StatefulSets {
    client: Client,
    informers: Informers,
    pods: Arc<Pods>,
}

impl StatefulSets {
    pub(crate) fn new(client: Client, informers: &Informers, events: &Recorder) -> Self {
        let pods = Pods::new(client.clone(), informers, events.named("statefulset-controller"));
        Self {
            client,
            informers: informers.clone(),
            pods: Arc::new(pods),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.stateful_sets);
        let pods = Arc::clone(&self.pods);
        vec![
            wakes(&self.informers.stateful_sets, |set| vec![Key::of(set)], all()),
            wakes(
                &self.informers.pods,
                move |pod: &Pod| pods.owner_key("StatefulSet", pod).into_iter().collect(),
                all(),
            ),
        ]
    }

    fn revisions(&self, set: &StatefulSet) -> Vec<Arc<ControllerRevision>> {
        self.informers
            .controller_revisions
            .controlled_by(&set.uid().unwrap_or_default())
    }

    /// The revision of the present template, written where it is not there yet.
    async fn present(
        &self,
        set: &StatefulSet,
        all: &[Arc<ControllerRevision>],
    ) -> Result<Arc<ControllerRevision>, Error> {
        let revisions: Api<ControllerRevision> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let params = PostParams::default();
        match revision::present(set, all) {
            Present::Is(revision) => Ok(revision),
            Present::Renumber(revision) => Ok(Arc::new(
                revisions
                    .replace(&revision.name_any(), &params, &revision)
                    .await?,
            )),
            Present::Create(revision) => match revisions.create(&params, &revision).await.or_exists()? {
                Some(created) => Ok(Arc::new(created)),
                // The cache does not show yet what we made; its name says that it is the same.
                None => {
                    let there = revisions.get(&revision.name_any()).await?;
                    let same = revision::template_of(&there) == revision::template_of(&revision);
                    if same {
                        Ok(Arc::new(there))
                    } else {
                        Err(self.collide(set).await)
                    }
                }
            },
        }
    }

    /// Another template has the name: the next name differs.
    async fn collide(&self, set: &StatefulSet) -> Error {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        match self.write(set, status).await {
            Ok(()) => Error::Object(format!("{}: a revision's name was taken", set.name_any())),
            Err(error) => error,
        }
    }

    async fn write(&self, set: &StatefulSet, status: StatefulSetStatus) -> Result<(), Error> {
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let sets: Api<StatefulSet> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let changed = StatefulSet {
            status: Some(status),
            ..set.clone()
        };
        let params = PostParams::default();
        sets.replace_status(&set.name_any(), &params, &changed)
            .await
            .or_gone()?;
        Ok(())
    }

    async fn start(
        &self,
        set: &StatefulSet,
        starts: &[Start],
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> Result<(), Error> {
        let claims: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        let mut pods = Vec::new();
        for start in starts {
            for claim in identity::claims_of(set, start.ordinal) {
                claims.create(&PostParams::default(), &claim).await.or_exists()?;
            }
            let revision = if start.updated { update } else { current };
            let Some(template) = revision::template_of(revision) else {
                return Err(Error::Object(format!(
                    "{} holds no template",
                    revision.name_any()
                )));
            };
            pods.push(identity::pod_of(
                set,
                &template,
                &revision.name_any(),
                start.ordinal,
            ));
        }
        self.pods.create(set, pods).await
    }

    async fn forget_old(
        &self,
        set: &StatefulSet,
        pods: &[Arc<Pod>],
        revisions: &[Arc<ControllerRevision>],
        named: [String; 2],
    ) -> Result<(), Error> {
        let limit = set
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit)
            .unwrap_or(HISTORY);
        let mut live: HashSet<String> = named.into();
        live.extend(
            pods.iter()
                .filter_map(|pod| pod.labels().get(REVISION_LABEL).cloned()),
        );
        let api: Api<ControllerRevision> =
            Api::namespaced(self.client.clone(), &set.namespace().unwrap_or_default());
        for old in revision::surplus(revisions, &live, usize::try_from(limit).unwrap_or(0)) {
            api.delete(&old.name_any(), &DeleteParams::default())
                .await
                .or_gone()?;
        }
        Ok(())
    }
}

impl Reconcile for StatefulSets {
    type Key = Key;
    const NAME: &'static str = "stateful-set";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.informers.stateful_sets.get(Some(&key.namespace), &key.name) else {
            self.pods.expectations.forget(key);
            return Ok(None);
        };
        let Some(selector) = set.spec.as_ref().and_then(|spec| selector(&spec.selector)) else {
            return Ok(None);
        };
        let settled = self.pods.settled(key);
        let mut pods = self.pods.claimed(set.as_ref(), &selector).await?;
        pods.retain(|pod| plan::ordinal(&key.name, &pod.name_any()).is_some());
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        let revisions = self.revisions(&set);
        let update = self.present(&set, &revisions).await?;
        let current_name = set
            .status
            .as_ref()
            .and_then(|status| status.current_revision.clone());
        let current = revisions
            .iter()
            .find(|revision| Some(revision.name_any()) == current_name)
            .unwrap_or(&update);
        let plan = plan::plan(&Snapshot {
            set: &set,
            pods: &pods,
            current: &current.name_any(),
            update: &update.name_any(),
            now: jiff::Timestamp::now(),
        });
        if settled {
            self.pods.delete(set.as_ref(), &plan.stop).await?;
            self.start(&set, &plan.start, current, &update).await?;
            self.forget_old(&set, &pods, &revisions, [current.name_any(), update.name_any()])
                .await?;
        }
        self.write(&set, plan.status).await?;
        Ok(if settled {
            plan.again
        } else {
            Some(expect::LOOK_AGAIN)
        })
    }
}
