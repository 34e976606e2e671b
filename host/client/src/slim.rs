//! Objects as an informer takes them in: without what none of its readers looks at, in memory of their own size.
//!
//! Invariant: what is left out is absent, never different. `managedFields` is read by nobody in the process, and is
//! more than all the rest once it is decoded; a list that was read piece by piece has room for four where one stands
//! in it. Called by the informer alone.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicResourceScope;
use kube::{Api, Resource};
use serde::de::{Deserialize, Deserializer};

use crate::omit::{Omissions, Omit, Without};

/// What of a kind's objects is left out.
pub(crate) trait Cut: Clone + Debug + Send + Sync + 'static {
    const OMISSIONS: Omissions;
}

/// Who manages which field.
#[derive(Debug, Clone)]
pub(crate) struct Managers;

impl Cut for Managers {
    const OMISSIONS: Omissions = &[MANAGERS];
}

const MANAGERS: (&str, Omit) = ("metadata", Omit::Within(&[("managedFields", Omit::Whole)]));

/// What is between a pod and its kubelet, besides: how its containers are run, not where and whether.
#[derive(Debug, Clone)]
pub(crate) struct Running;

impl Cut for Running {
    const OMISSIONS: Omissions = &[MANAGERS, ("spec", Omit::Within(POD_SPEC))];
}

const POD_SPEC: Omissions = &[
    ("containers", Omit::Within(CONTAINER)),
    ("initContainers", Omit::Within(CONTAINER)),
    ("ephemeralContainers", Omit::Whole),
    ("volumes", Omit::Within(VOLUME)),
];

const CONTAINER: Omissions = &[
    ("args", Omit::Whole),
    ("command", Omit::Whole),
    ("env", Omit::Whole),
    ("envFrom", Omit::Whole),
    ("lifecycle", Omit::Whole),
    ("livenessProbe", Omit::Whole),
    ("readinessProbe", Omit::Whole),
    ("securityContext", Omit::Whole),
    ("startupProbe", Omit::Whole),
    ("terminationMessagePath", Omit::Whole),
    ("terminationMessagePolicy", Omit::Whole),
    ("volumeDevices", Omit::Whole),
    ("volumeMounts", Omit::Whole),
    ("workingDir", Omit::Whole),
];

/// Sources that are no objects of the cluster's storage.
const VOLUME: Omissions = &[
    ("configMap", Omit::Whole),
    ("downwardAPI", Omit::Whole),
    ("projected", Omit::Whole),
    ("secret", Omit::Whole),
];

/// An object that was cut while it was read.
#[derive(Debug, Clone)]
pub(crate) struct Slim<K, C>(pub(crate) K, PhantomData<C>);

impl<'de, K, C> Deserialize<'de> for Slim<K, C>
where
    K: Deserialize<'de> + Clone,
    C: Cut,
{
    fn deserialize<D: Deserializer<'de>>(inner: D) -> Result<Self, D::Error> {
        let omissions = C::OMISSIONS;
        let read = K::deserialize(Without { inner, omissions })?;
        // A copy's lists and texts have room for what is in them and no more.
        Ok(Self(read.clone(), PhantomData))
    }
}

impl<K: Resource<DynamicType = ()>, C> Resource for Slim<K, C> {
    type DynamicType = ();
    type Scope = DynamicResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group(_: &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version(_: &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural(_: &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// The same objects, cut.
pub(crate) fn slim<K: Resource<DynamicType = ()>, C>(api: Api<K>) -> Api<Slim<K, C>> {
    let namespace = api.namespace().map(str::to_owned);
    let client = api.into_client();
    match namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &()),
        None => Api::all_with(client, &()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn a_pod_keeps_what_places_it_and_has_no_room_to_spare() {
        let text = json!({
            "metadata": {"name": "p", "managedFields": [{"manager": "m"}]},
            "spec": {
                "containers": [{
                    "name": "c", "image": "i", "env": [{"name": "A"}], "volumeMounts": [{"name": "v", "mountPath": "/"}],
                    "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "1"}},
                }],
                "volumes": [
                    {"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}},
                    {"name": "w", "persistentVolumeClaim": {"claimName": "w"}},
                ],
            },
        });
        let Slim(pod, _): Slim<Pod, Running> = serde_json::from_str(&text.to_string()).unwrap();
        let mut expected: Pod = serde_json::from_value(text).unwrap();
        expected.metadata.managed_fields = None;
        let spec = expected.spec.as_mut().unwrap();
        (spec.containers[0].env, spec.containers[0].volume_mounts) = (None, None);
        spec.volumes.as_mut().unwrap()[0].projected = None;
        assert_eq!(pod, expected);
        let spec = pod.spec.unwrap();
        assert_eq!(
            (spec.containers.capacity(), spec.volumes.unwrap().capacity()),
            (1, 2)
        );
    }
}
