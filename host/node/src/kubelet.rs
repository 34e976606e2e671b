//! The kubelet as a whole: its options, its start, its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use capstan_client::Informer;
use capstan_points::problem::Daemon;
use capstan_points::sidecar::Sidecar;
use capstan_points::{Seating, Seats};
use capstan_runtime::Cri;
use k8s_openapi::api::core::v1::{Pod, Service, Taint};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::context::{Folders, Node};
use crate::error::{Error, Result};
use crate::events::Recorder;
use crate::notify::Notify;
use crate::pod::room::Room;
use crate::pods::Pods;
use crate::problem;
use crate::references::References;
use crate::registration::Registration;
use crate::registration::machine::Machine;
use crate::registration::object::{self, Identity};
use crate::server::Handler;
use crate::sidecar::Sidecars;

/// Pods a node takes where nothing else is said, as the original.
const PODS_MAX_DEFAULT: u32 = 110;
/// Longest wait for the first lists.
const FIRST_LIST_MAX: Duration = Duration::from_secs(30);

/// What a kubelet is told. [`Options::new`] has the defaults.
#[derive(Clone)]
pub struct Options {
    /// Name of the Node object.
    pub node_name: String,
    /// Where volumes and logs are kept.
    pub root_dir: PathBuf,
    /// Labels beside those that the kubelet sets itself.
    pub labels: BTreeMap<String, String>,
    /// Taints given at registration.
    pub register_with_taints: Vec<Taint>,
    /// Type (`InternalIP`, `ExternalIP`, `Hostname`) and address. The first `InternalIP` is `status.hostIP`.
    pub addresses: Vec<(String, String)>,
    /// Amounts that take the place of the machine's own (`cpu`, `memory`, ...).
    pub capacity: BTreeMap<String, String>,
    /// Most pods.
    pub pods_max: u32,
    /// Port of the kubelet's own HTTPS API as the Node tells it; 0 where there is none.
    pub kubelet_port: u16,
    /// The problem daemons.
    pub problem: Seats<dyn Daemon>,
    /// The sidecars.
    pub sidecars: Seats<dyn Sidecar>,
}

impl Options {
    /// Defaults: a loopback address, the machine's own capacity, no policies.
    pub fn new(node_name: impl Into<String>, root_dir: impl Into<PathBuf>) -> Self {
        Self {
            node_name: node_name.into(),
            root_dir: root_dir.into(),
            labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            addresses: vec![("InternalIP".into(), "127.0.0.1".into())],
            capacity: BTreeMap::new(),
            pods_max: PODS_MAX_DEFAULT,
            kubelet_port: 0,
            problem: Seating::default().seats(),
            sidecars: Seating::default().seats(),
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            name: self.node_name.clone(),
            labels: self.labels.clone(),
            taints: self.register_with_taints.clone(),
            addresses: self.addresses.clone(),
            capacity: self.capacity.clone(),
            pods_max: self.pods_max,
            kubelet_port: self.kubelet_port,
        }
    }
}

/// A running kubelet.
pub struct Kubelet {
    handler: Arc<Handler>,
    stop_pods: Option<oneshot::Sender<()>>,
    pods: JoinHandle<()>,
    tasks: JoinSet<()>,
}

impl Kubelet {
    /// Registers the node and takes up its pods. Returns when the first lists are in.
    pub async fn start(client: Client, cri: Arc<dyn Cri>, options: Options) -> Result<Self> {
        let identity = options.identity();
        let ip = check(&options)?;
        let folders = Folders::new(options.root_dir.clone());
        for folder in [folders.pods(), folders.logs()] {
            make(&folder)?;
        }
        let machine = Machine::read(&options.root_dir)?;
        let allocatable = object::capacity(&identity, &machine);
        let registration = Registration {
            client: client.clone(),
            cri: Arc::clone(&cri),
            identity,
            machine,
            root: options.root_dir.clone(),
        };
        let registered = registration.register().await?;
        let own = watcher::Config::default().fields(&format!("spec.nodeName={}", options.node_name));
        let pods = Informer::<Pod>::start(Api::all(client.clone()), own);
        let services = Informer::<Service>::start(Api::all(client.clone()), watcher::Config::default());
        let recorder = Recorder::start(client.clone(), &options.node_name);
        let node = Arc::new(Node {
            client: client.clone(),
            cri,
            name: options.node_name.clone(),
            ip,
            room: Room::new(&allocatable),
            allocatable,
            folders,
            recorder: recorder.clone(),
            references: References::new(client.clone()),
            services: services.clone(),
            notify: Notify::start(),
            sidecars: Sidecars::new(options.sidecars),
        });
        pods.synced(FIRST_LIST_MAX).await?;
        services.synced(FIRST_LIST_MAX).await?;
        recorder.node(false, "Starting", "Starting kubelet.".into());
        let mut tasks = JoinSet::new();
        tasks.spawn(registration.run(registered));
        tasks.spawn(problem::run(Arc::clone(&node), options.problem));
        let handler = Arc::new(Handler::new(Arc::clone(&node), pods.clone()));
        let (stop_pods, stopped) = oneshot::channel();
        let pods = tokio::spawn(Pods::new(node, pods).run(stopped));
        Ok(Self {
            handler,
            stop_pods: Some(stop_pods),
            pods,
            tasks,
        })
    }

    /// The kubelet's own HTTP API.
    pub fn handler(&self) -> Arc<Handler> {
        Arc::clone(&self.handler)
    }

    /// Stops the pods in good order, within a bound; their objects stay, and a kubelet started again takes
    /// them up.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop_pods.take() {
            let _ = stop.send(());
        }
        if let Err(error) = (&mut self.pods).await {
            tracing::error!(%error, "the pods' task failed");
        }
        self.tasks.shutdown().await;
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.pods.abort();
    }
}

fn check(options: &Options) -> Result<String> {
    if options.node_name.is_empty() {
        return Err(Error::Option {
            name: "node_name",
            message: "is empty; give the node a DNS name".into(),
        });
    }
    for (name, amount) in &options.capacity {
        amount
            .parse::<capstan_kinds::quantity::Quantity>()
            .map_err(|error| Error::Option {
                name: "capacity",
                message: format!("{name}={amount}: {error}; use an amount such as 2, 500m or 4Gi"),
            })?;
    }
    let internal = options.addresses.iter().find(|(type_, _)| type_ == "InternalIP");
    internal
        .map(|(_, address)| address.clone())
        .ok_or_else(|| Error::Option {
            name: "addresses",
            message: "has no InternalIP; pods need one for status.hostIP".into(),
        })
}

fn make(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| Error::Folder {
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
#[path = "kubelet_tests.rs"]
mod tests;
