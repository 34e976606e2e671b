//! The pods of a controller: claims them, creates and deletes them.
//!
//! Invariants: an owner that is gone or was replaced adopts nothing (checked by a live read); creation starts
//! slowly, doubling with success, so that a refusal costs one call and not hundreds; what was done is noted in
//! the [`Expectations`] before anyone plans again. Used by every controller that has pods.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Selector;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use crate::error::{Error, Tolerate, is_terminating};
use crate::event::Recorder;
use crate::informers::Informers;
use crate::owner::{Claim, adopt_patch, claim, reference, release_patch};
use crate::replica_set::expect::Expectations;
use crate::work::Key;

/// Pods in the first batch of creations; each next batch is twice as large.
const FIRST_BATCH: usize = 1;

/// Gives a controller its pods.
pub(crate) struct Pods {
    client: Client,
    informers: Informers,
    pub(crate) events: Recorder,
    pub(crate) expectations: Expectations,
}

impl Pods {
    pub(crate) fn new(client: Client, informers: &Informers, events: Recorder) -> Self {
        Self {
            client,
            informers: informers.clone(),
            events,
            expectations: Expectations::default(),
        }
    }

    /// Whether the cache shows all that we did for `owner`.
    pub(crate) fn settled(&self, owner: &Key) -> bool {
        self.expectations.met(owner, |name| {
            self.informers.pods.get(Some(&owner.namespace), name)
        })
    }

    /// Where a change of a pod wakes its controller of `kind`, or those that might adopt it.
    pub(crate) fn owner_key(&self, kind: &str, pod: &Pod) -> Option<Key> {
        let owner = crate::owner::controller_of(&pod.metadata)?;
        if owner.kind != kind {
            return None;
        }
        let key = Key::new(
            pod.metadata.namespace.clone().unwrap_or_default(),
            owner.name.clone(),
        );
        self.expectations.observe(&key, pod);
        Some(key)
    }

    /// All pods of the owner, after adopting and releasing.
    pub(crate) async fn claimed<K>(&self, owner: &K, selector: &Selector) -> Result<Vec<Arc<Pod>>, Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let namespace = owner.namespace().unwrap_or_default();
        let uid = owner.uid().unwrap_or_default();
        let deleting = owner.meta().deletion_timestamp.is_some();
        let mut owned = Vec::new();
        let mut verified = false;
        let mut owned_now = self.informers.pods.controlled_by(&uid);
        owned_now.retain(|pod| pod.metadata.namespace.as_deref() == Some(&namespace));
        let candidates = owned_now.into_iter();
        for pod in candidates.chain(self.informers.pods.uncontrolled_in(&namespace)) {
            match claim(&uid, deleting, selector, &pod.metadata) {
                Claim::Owned => owned.push(pod),
                Claim::Ignore => {}
                Claim::Release => {
                    self.patch(&namespace, &pod, &release_patch(&pod.metadata, &[&uid]))
                        .await?;
                }
                Claim::Adopt => {
                    if !crate::pod::is_active(&pod) {
                        continue;
                    }
                    if !verified {
                        self.verify(owner).await?;
                        verified = true;
                    }
                    let patch = adopt_patch(&pod.metadata, reference(owner));
                    if let Some(adopted) = self.patch(&namespace, &pod, &patch).await? {
                        owned.push(Arc::new(adopted));
                    }
                }
            }
        }
        Ok(owned)
    }

    async fn verify<K>(&self, owner: &K) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let owners: Api<K> = Api::namespaced(self.client.clone(), &owner.namespace().unwrap_or_default());
        let fresh = owners.get_opt(&owner.name_any()).await?;
        let same = fresh
            .is_some_and(|fresh| fresh.uid() == owner.uid() && fresh.meta().deletion_timestamp.is_none());
        if same {
            Ok(())
        } else {
            Err(Error::Object(format!(
                "{} is gone and adopts nothing",
                owner.name_any()
            )))
        }
    }

    async fn patch(
        &self,
        namespace: &str,
        pod: &Pod,
        patch: &serde_json::Value,
    ) -> Result<Option<Pod>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Ok(pods
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .or_gone()?)
    }

    /// Creates the pods, in batches that double while all goes well.
    pub(crate) async fn create<K>(&self, owner: &K, pods: Vec<Pod>) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let key = Key::of(owner);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let asked = pods.len();
        let mut rest = pods.into_iter();
        let mut batch = FIRST_BATCH;
        loop {
            let now: Vec<Pod> = rest.by_ref().take(batch).collect();
            if now.is_empty() {
                return Ok(());
            }
            let params = PostParams::default();
            let results = join_all(now.iter().map(|pod| api.create(&params, pod))).await;
            let mut failures = Vec::new();
            for result in results {
                match result {
                    Ok(pod) => {
                        self.expectations.created(&key, &pod);
                        let message = format!("Created pod: {}", pod.name_any());
                        self.events.normal(owner, "SuccessfulCreate", message);
                    }
                    Err(error) if is_terminating(&error) => return Ok(()),
                    Err(error) => {
                        self.events.warning(
                            owner,
                            "FailedCreate",
                            format!("Error creating: {}", said(&error)),
                        );
                        failures.push(error);
                    }
                }
            }
            let failed = failures.len();
            if let Some(first) = failures.into_iter().next() {
                return Err(Error::Batch {
                    failed: failed + rest.len(),
                    asked,
                    first,
                });
            }
            batch *= 2;
        }
    }

    /// Deletes the pods.
    pub(crate) async fn delete<K>(&self, owner: &K, pods: &[Arc<Pod>]) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let key = Key::of(owner);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let results = join_all(pods.iter().map(|pod| {
            let api = api.clone();
            async move {
                let same = Preconditions {
                    uid: pod.metadata.uid.clone(),
                    ..Default::default()
                };
                let params = DeleteParams::default().preconditions(same);
                api.delete(&pod.name_any(), &params).await.or_gone()
            }
        }))
        .await;
        let mut failures = Vec::new();
        for (pod, result) in pods.iter().zip(results) {
            match result {
                Ok(_) => {
                    self.expectations.deleted(&key, pod);
                    let message = format!("Deleted pod: {}", pod.name_any());
                    self.events.normal(owner, "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.events
                        .warning(owner, "FailedDelete", format!("Error deleting: {}", said(&error)));
                    failures.push(error);
                }
            }
        }
        let failed = failures.len();
        match failures.into_iter().next() {
            None => Ok(()),
            Some(first) => Err(Error::Batch {
                failed,
                asked: pods.len(),
                first,
            }),
        }
    }

    /// New pods of a template.
    pub(crate) fn of_template(
        template: &k8s_openapi::api::core::v1::PodTemplateSpec,
        owner_name: &str,
        owner: &OwnerReference,
        count: usize,
    ) -> Vec<Pod> {
        (0..count)
            .map(|_| crate::pod::from_template(template, owner_name, owner.clone()))
            .collect()
    }
}

/// What the API server said, without the client's wrapping.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
