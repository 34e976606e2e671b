//! What every part of one kubelet shares: the ways to the API server and the runtime, names, folders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use capstan_client::Informer;
use capstan_runtime::Cri;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;

use crate::events::Recorder;
use crate::notify::Notify;
use crate::pod::downward::Facts;
use crate::pod::room::Room;
use crate::pod::spec;
use crate::references::References;
use crate::sidecar::Sidecars;

/// One kubelet's surroundings.
pub(crate) struct Node {
    pub(crate) client: Client,
    pub(crate) cri: Arc<dyn Cri>,
    pub(crate) name: String,
    /// The node's own address, as pods see it in `status.hostIP`.
    pub(crate) ip: String,
    pub(crate) allocatable: BTreeMap<String, String>,
    pub(crate) room: Room,
    pub(crate) folders: Folders,
    pub(crate) recorder: Recorder,
    pub(crate) references: References,
    pub(crate) services: Informer<Service>,
    pub(crate) notify: Notify,
    pub(crate) sidecars: Sidecars,
}

impl Node {
    /// What a pod may learn of its place.
    pub(crate) fn facts(&self, pod_ip: &str) -> Facts {
        Facts {
            node_name: self.name.clone(),
            host_ip: self.ip.clone(),
            pod_ip: pod_ip.to_owned(),
            allocatable: self.allocatable.clone(),
        }
    }
}

/// Where the kubelet keeps what on disk.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Folders of pods, by uid.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// A pod's volumes.
    pub(crate) fn volumes(&self, pod: &Pod) -> PathBuf {
        self.pods().join(spec::uid(pod)).join("volumes")
    }

    /// Log folders of all pods.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("log").join("pods")
    }

    /// A pod's log folder: `<namespace>_<name>_<uid>`.
    pub(crate) fn pod_logs(&self, pod: &Pod) -> PathBuf {
        self.logs().join(format!(
            "{}_{}_{}",
            spec::namespace(pod),
            spec::name(pod),
            spec::uid(pod)
        ))
    }
}
