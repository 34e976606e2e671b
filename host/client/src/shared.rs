//! The informers that several parts of a process read: each kind is watched and held once.

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Config;
use kube::{Api, Client};

use crate::Informer;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Clones read the same informers, which end with the last of them.
#[derive(Clone)]
pub struct Shared {
    /// All pods, as [`Informer::start_placed`] holds them; indexed by the name of their node.
    pub pods: Informer<Pod>,
    /// All nodes.
    pub nodes: Informer<Node>,
    /// All namespaces.
    pub namespaces: Informer<Namespace>,
    /// All Services.
    pub services: Informer<Service>,
    /// All EndpointSlices; indexed by [`Shared::service_key`] of their Service.
    pub endpoint_slices: Informer<EndpointSlice>,
}

impl Shared {
    /// Starts them all. Needs a tokio runtime.
    pub fn start(client: &Client) -> Self {
        macro_rules! all {
            () => {
                Informer::start(Api::all(client.clone()), Config::default())
            };
            ($index:expr) => {
                Informer::start_indexed(Api::all(client.clone()), Config::default(), $index)
            };
        }
        Self {
            pods: Informer::start_placed(Api::all(client.clone()), Config::default(), |pod| {
                let node = pod.spec.as_ref()?.node_name.clone();
                node.filter(|node| !node.is_empty())
            }),
            nodes: all!(),
            namespaces: all!(),
            services: all!(),
            endpoint_slices: all!(|slice: &EndpointSlice| {
                let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
                let namespace = slice.metadata.namespace.as_deref()?;
                Some(Self::service_key(namespace, name))
            }),
        }
    }

    /// Where the EndpointSlices of a Service are in their index.
    pub fn service_key(namespace: &str, name: &str) -> String {
        format!("{namespace}/{name}")
    }
}
