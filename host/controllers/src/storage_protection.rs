//! Lets go of claims, volumes and volume attributes classes that are being deleted once nobody uses them.
//!
//! The API server gives them a finalizer when they are made. A claim is in use while a scheduled pod names it, a
//! volume while it is bound, a class while a claim or volume names it. Not here: binding and provisioning.

use std::fmt::Debug;
use std::time::Duration;

use capstan_client::Accounts;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, wakes};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// What may be held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    Claim(Key),
    Volume(Key),
    Class(Key),
}

pub(crate) struct StorageProtection {
    claims: Client,
    volumes: Client,
    classes: Client,
    informers: Informers,
}

/// The claims that a pod names, those made for it included.
fn claims_of(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let named = volume
            .persistent_volume_claim
            .as_ref()
            .map(|claim| claim.claim_name.clone());
        let own = volume
            .ephemeral
            .as_ref()
            .map(|_| format!("{}-{}", pod.name_any(), volume.name));
        named.or(own)
    })
}

fn is_scheduled(pod: &Pod) -> bool {
    crate::pod::node(pod).is_some()
}

/// Whether the object waits for this finalizer.
fn waits(meta: &ObjectMeta, finalizer: &str) -> bool {
    let held = meta.finalizers.iter().flatten().any(|one| one == finalizer);
    meta.deletion_timestamp.is_some() && held
}

fn classes_of_claim(claim: &PersistentVolumeClaim) -> Vec<&str> {
    let wanted = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let current = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let target = status.and_then(|status| {
        let modify = status.modify_volume_status.as_ref()?;
        modify.target_volume_attributes_class_name.as_deref()
    });
    [wanted, current, target].into_iter().flatten().collect()
}

fn class_of_volume(volume: &PersistentVolume) -> Option<&str> {
    let spec = volume.spec.as_ref()?;
    spec.volume_attributes_class_name.as_deref()
}

impl StorageProtection {
    pub(crate) fn new(accounts: &Accounts, informers: &Informers) -> Self {
        Self {
            claims: accounts.client("pvc-protection-controller"),
            volumes: accounts.client("pv-protection-controller"),
            classes: accounts.client("volumeattributesclass-protection-controller"),
            informers: informers.clone(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Held>> {
        let claims = self.informers.claims.clone();
        let volumes = self.informers.volumes.clone();
        let classes = self.informers.attributes_classes.clone();
        let of_pod = |pod: &Pod| -> Vec<Held> {
            let namespace = pod.namespace().unwrap_or_default();
            let names = claims_of(pod);
            names
                .map(|name| Held::Claim(Key::new(namespace.clone(), name)))
                .collect()
        };
        let waiting = {
            let classes = classes.clone();
            move || -> Vec<Held> {
                let all = classes.filter(|class| waits(&class.metadata, CLASS));
                all.iter()
                    .map(|class| Held::Class(Key::of(class.as_ref())))
                    .collect()
            }
        };
        let (with_claims, with_volumes) = (waiting.clone(), waiting.clone());
        let all_claims = move || {
            claims
                .list()
                .iter()
                .map(|one| Held::Claim(Key::of(one.as_ref())))
                .collect()
        };
        let all_volumes = move || {
            volumes
                .list()
                .iter()
                .map(|one| Held::Volume(Key::of(one.as_ref())))
                .collect()
        };
        let with = |own: Held, mut others: Vec<Held>| {
            others.push(own);
            others
        };
        vec![
            wakes(&self.informers.pods, of_pod, Vec::new),
            wakes(
                &self.informers.claims,
                move |claim| with(Held::Claim(Key::of(claim)), with_claims()),
                all_claims,
            ),
            wakes(
                &self.informers.volumes,
                move |volume| with(Held::Volume(Key::of(volume)), with_volumes()),
                all_volumes,
            ),
            wakes(
                &self.informers.attributes_classes,
                |class| vec![Held::Class(Key::of(class))],
                waiting,
            ),
        ]
    }

    async fn release<K>(&self, api: Api<K>, object: &K, finalizer: &str) -> Result<(), Error>
    where
        K: Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
    {
        let mut released = object.clone();
        released.finalizers_mut().retain(|one| one != finalizer);
        api.replace(&object.name_any(), &PostParams::default(), &released)
            .await
            .or_gone()?;
        Ok(())
    }

    async fn claim(&self, key: &Key) -> Result<(), Error> {
        let found = self.informers.claims.get(Some(&key.namespace), &key.name);
        let Some(claim) = found.filter(|claim| waits(&claim.metadata, CLAIM)) else {
            return Ok(());
        };
        let uses = |pod: &Pod| is_scheduled(pod) && claims_of(pod).any(|name| name == key.name);
        // A pod that the informer has not seen yet counts, too.
        let pods: Api<Pod> = Api::namespaced(self.claims.clone(), &key.namespace);
        let known = self.informers.pods.list_in(&key.namespace);
        if known.iter().any(|pod| uses(pod)) || pods.list(&Default::default()).await?.iter().any(uses) {
            return Ok(());
        }
        let api = Api::namespaced(self.claims.clone(), &key.namespace);
        self.release(api, claim.as_ref(), CLAIM).await
    }

    async fn volume(&self, key: &Key) -> Result<(), Error> {
        let found = self.informers.volumes.get(None, &key.name);
        let Some(volume) = found.filter(|volume| waits(&volume.metadata, VOLUME)) else {
            return Ok(());
        };
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Bound") {
            return Ok(());
        }
        self.release(Api::all(self.volumes.clone()), volume.as_ref(), VOLUME)
            .await
    }

    async fn class(&self, key: &Key) -> Result<(), Error> {
        let found = self.informers.attributes_classes.get(None, &key.name);
        let Some(class) = found.filter(|class| waits(&class.metadata, CLASS)) else {
            return Ok(());
        };
        let name = key.name.as_str();
        let by_claim = self
            .informers
            .claims
            .filter(|claim| classes_of_claim(claim).contains(&name));
        let by_volume = self
            .informers
            .volumes
            .filter(|volume| class_of_volume(volume) == Some(name));
        if !by_claim.is_empty() || !by_volume.is_empty() {
            return Ok(());
        }
        self.release::<VolumeAttributesClass>(Api::all(self.classes.clone()), class.as_ref(), CLASS)
            .await
    }
}

impl Reconcile for StorageProtection {
    type Key = Held;
    const NAME: &'static str = "storage-protection";

    async fn reconcile(&self, held: &Held) -> Result<Option<Duration>, Error> {
        match held {
            Held::Claim(key) => self.claim(key).await?,
            Held::Volume(key) => self.volume(key).await?,
            Held::Class(key) => self.class(key).await?,
        }
        Ok(None)
    }
}
