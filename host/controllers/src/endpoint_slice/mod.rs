//! Says where the pods of each Service are: EndpointSlices, and the Endpoints of older clients.
//!
//! Keyed by Service; woken by its pods, slices and nodes' zones. Invariant: slices that others made are left
//! alone. Services without a selector are theirs who made them. The decisions are in `plan` and `legacy`.

mod legacy;
mod plan;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_client::Shared;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use self::plan::{CONTROLLER, Change, MANAGED_BY, SERVICE_NAME, Snapshot};
use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// How long a slice that we made may stay unseen before we make another.
const UNSEEN_MAX: Duration = Duration::from_secs(30);

pub(crate) struct EndpointSlices {
    client: Client,
    legacy: Client,
    informers: Informers,
    /// Names of slices that were created and not seen yet.
    unseen: Mutex<HashMap<Key, (HashSet<String>, Instant)>>,
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(CONTROLLER) {
        return None;
    }
    Some(Key::new(
        slice.namespace().unwrap_or_default(),
        labels.get(SERVICE_NAME)?,
    ))
}

fn selected(service: &Service, pod: &Pod) -> bool {
    let empty = BTreeMap::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    plan::selects(service)
        && selector.is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

impl EndpointSlices {
    /// `legacy` writes the Endpoints.
    pub(crate) fn new(client: Client, legacy: Client, informers: &Informers) -> Self {
        Self {
            client,
            legacy,
            informers: informers.clone(),
            unseen: Mutex::default(),
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let all = || keys_of(&self.informers.services);
        let services = self.informers.services.clone();
        let slices = self.informers.endpoint_slices.clone();
        let of_pod = move |pod: &Pod| {
            let mut keys: HashSet<Key> = services
                .list_in(pod.metadata.namespace.as_deref().unwrap_or_default())
                .iter()
                .filter(|service| selected(service, pod))
                .map(|service| Key::of(service.as_ref()))
                .collect();
            // A pod whose labels changed must leave the slices that it is still in.
            let uid = pod.metadata.uid.as_deref();
            let has = |slice: &EndpointSlice| {
                let target = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
                    endpoint
                        .target_ref
                        .as_ref()
                        .and_then(|target| target.uid.as_deref())
                        == uid
                };
                slice.endpoints.iter().flatten().any(target)
            };
            keys.extend(
                slices
                    .list_in(pod.metadata.namespace.as_deref().unwrap_or_default())
                    .iter()
                    .filter(|slice| has(slice))
                    .filter_map(|slice| service_of(slice)),
            );
            keys.into_iter().collect()
        };
        vec![
            wakes(&self.informers.services, |service| vec![Key::of(service)], all()),
            wakes(&self.informers.pods, of_pod, all()),
            wakes(
                &self.informers.endpoint_slices,
                |slice| service_of(slice).into_iter().collect(),
                all(),
            ),
        ]
    }

    /// Whether every slice that we made for it is in the cache.
    fn settled(&self, key: &Key) -> bool {
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((names, since)) = unseen.get_mut(key) else {
            return true;
        };
        names.retain(|name| {
            self.informers
                .endpoint_slices
                .get(Some(&key.namespace), name)
                .is_none()
        });
        let settled = names.is_empty() || since.elapsed() > UNSEEN_MAX;
        if settled {
            unseen.remove(key);
        }
        settled
    }

    async fn act(&self, key: &Key, change: Change) -> Result<(), Error> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        match change {
            Change::Create(slice) => {
                if let Some(made) = slices.create(&PostParams::default(), &slice).await.or_exists()? {
                    let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
                    let entry = unseen
                        .entry(key.clone())
                        .or_insert_with(|| (HashSet::new(), Instant::now()));
                    entry.0.insert(made.name_any());
                }
            }
            Change::Update(slice) => {
                slices
                    .replace(&slice.name_any(), &PostParams::default(), &slice)
                    .await?;
            }
            Change::Delete(slice) => {
                let same = Preconditions {
                    uid: slice.uid(),
                    ..Default::default()
                };
                slices
                    .delete(&slice.name_any(), &DeleteParams::default().preconditions(same))
                    .await
                    .or_gone()?;
            }
        }
        Ok(())
    }

    async fn write_legacy(
        &self,
        key: &Key,
        service: &Service,
        pods: &[std::sync::Arc<Pod>],
    ) -> Result<(), Error> {
        let before = self.informers.endpoints.get(Some(&key.namespace), &key.name);
        let wanted = legacy::endpoints(service, pods, before.as_deref());
        let endpoints: Api<Endpoints> = Api::namespaced(self.legacy.clone(), &key.namespace);
        match before.as_deref() {
            Some(before) if *before == wanted => {}
            Some(_) => {
                endpoints
                    .replace(&key.name, &PostParams::default(), &wanted)
                    .await?;
            }
            None => {
                endpoints
                    .create(&PostParams::default(), &wanted)
                    .await
                    .or_exists()?;
            }
        }
        Ok(())
    }

    /// The Service is gone: what we made for it goes too, without waiting for the garbage collector.
    async fn forget(&self, key: &Key) -> Result<(), Error> {
        self.unseen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
        for slice in self.slices(key) {
            self.act(key, Change::Delete(Box::new(slice.as_ref().clone())))
                .await?;
        }
        if let Some(before) = self.informers.endpoints.get(Some(&key.namespace), &key.name) {
            let endpoints: Api<Endpoints> = Api::namespaced(self.legacy.clone(), &key.namespace);
            let same = Preconditions {
                uid: before.uid(),
                ..Default::default()
            };
            endpoints
                .delete(&key.name, &DeleteParams::default().preconditions(same))
                .await
                .or_gone()?;
        }
        Ok(())
    }

    fn slices(&self, key: &Key) -> Vec<std::sync::Arc<EndpointSlice>> {
        let of_service = Shared::service_key(&key.namespace, &key.name);
        let mut slices = self.informers.endpoint_slices.indexed(&of_service);
        slices.retain(|slice| slice.metadata.deletion_timestamp.is_none() && service_of(slice).is_some());
        slices
    }
}

impl Reconcile for EndpointSlices {
    type Key = Key;
    const NAME: &'static str = "endpoint-slice";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(service) = self.informers.services.get(Some(&key.namespace), &key.name) else {
            self.forget(key).await?;
            return Ok(None);
        };
        if !plan::selects(&service) || service.metadata.deletion_timestamp.is_some() {
            return Ok(None);
        }
        if !self.settled(key) {
            return Ok(Some(UNSEEN_MAX));
        }
        let slices = self.slices(key);
        let mut pods = self.informers.pods.list_in(&key.namespace);
        pods.retain(|pod| selected(&service, pod));
        let nodes = self.informers.nodes.list();
        let seen = Snapshot {
            service: &service,
            pods: &pods,
            nodes: &nodes,
            slices: &slices,
        };
        for change in plan::plan(&seen) {
            self.act(key, change).await?;
        }
        self.write_legacy(key, &service, &pods).await?;
        Ok(None)
    }
}
