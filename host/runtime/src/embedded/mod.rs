//! The embedded runtime: Wasm workloads and OCI containers behind [`Cri`], in this process.
//!
//! It holds what sandboxes and containers there are ([`record`]), gives pods addresses ([`address`]), and
//! starts, watches and ends containers through one of two runtimes, chosen by each container's image. State
//! survives a restart of the process: Wasm containers are then reported as exited, OCI containers are found
//! again. The kubelet is its only caller.

mod address;
mod container;
mod record;
mod service;
mod session;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use self::address::Allocator;
pub use self::address::PodAddresses;
use self::container::Container;
use self::record::{Records, SandboxRecord, now_ns};
use crate::image::{ImageStore, Images};
use crate::oci::Oci;
use crate::wasm::Wasm;
use crate::{ContainerState, Error, Id, Image, PodSandboxConfig, Result, SandboxState, files};

/// Sandboxes on a node.
const SANDBOXES_MAX: usize = 4096;
/// Containers on a node, ended ones too.
const CONTAINERS_MAX: usize = 16_384;

/// How the runtime is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Images, unpacked file systems and compiled components: what may be kept for long.
    pub root_dir: PathBuf,
    /// Sandboxes and containers: what belongs to this run of the node.
    pub state_dir: PathBuf,
    /// Where pods get their addresses from.
    pub pod_addresses: PodAddresses,
    /// The address of pods on the host's network.
    pub node_address: IpAddr,
    /// Components that are images without a pull: name and bytes.
    pub bundled: Vec<(String, Cow<'static, [u8]>)>,
    /// The command that ends up in [`crate::shim_main`], for OCI containers: the program and its first
    /// arguments. Without one, OCI containers are refused.
    pub shim_command: Vec<OsString>,
}

impl Options {
    /// The usual set-up of a node whose data is in that folder.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self {
            root_dir: data_dir.join("runtime"),
            state_dir: data_dir.join("runtime-state"),
            pod_addresses: PodAddresses::default(),
            node_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            bundled: Vec::new(),
            shim_command: Vec::new(),
        }
    }
}

/// The embedded runtime. Cloning gives another handle on the same one.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    images: Arc<ImageStore>,
    wasm: Wasm,
    oci: Oci,
    records: Records,
    node_address: IpAddr,
    state: Mutex<State>,
    /// Wakes the one who waits in `changed`; a permit is kept when nobody does.
    changed: Notify,
}

struct State {
    sandboxes: BTreeMap<Id, SandboxRecord>,
    containers: BTreeMap<Id, Arc<Container>>,
    addresses: Allocator,
}

impl Embedded {
    /// Opens the runtime on its folders and takes up what an earlier process left.
    pub async fn open(options: Options) -> Result<Self> {
        let (root_dir, bundled) = (options.root_dir.clone(), options.bundled.clone());
        let images = tokio::task::spawn_blocking(move || ImageStore::open(&root_dir, &bundled))
            .await
            .map_err(|error| Error::Precondition(format!("opening the image store: {error}")))??;
        files::create_private_dir(&options.state_dir)?;
        let state_dir = options
            .state_dir
            .canonicalize()
            .map_err(Error::io(format!("finding {}", options.state_dir.display())))?;
        let records = Records::open(&state_dir)?;
        let addresses = Allocator::new(options.pod_addresses, &state_dir)?;
        let state = State {
            sandboxes: BTreeMap::new(),
            containers: BTreeMap::new(),
            addresses,
        };
        let inner = Arc::new(Inner {
            images: Arc::new(images),
            wasm: Wasm::new(&options.root_dir),
            oci: Oci::new(options.shim_command),
            records,
            node_address: options.node_address,
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        inner.recover().await?;
        Ok(Self { inner })
    }

    /// Puts an image from a file into the store: an OCI layout (folder or tar), a docker-archive, or a bare
    /// component, which needs a name.
    pub async fn load(&self, path: &Path, name: Option<&str>) -> Result<Image> {
        Images::of(Arc::clone(&self.inner.images)).load(path, name).await
    }

    /// Ends all containers, those that do not end in time by force. Sandboxes stay: what is started on the
    /// same folders finds them.
    pub async fn shutdown(&self, timeout_seconds: i64) {
        let containers: Vec<_> = self.inner.locked().containers.values().cloned().collect();
        let stops = containers.iter().map(|container| container.stop(timeout_seconds));
        for result in futures::future::join_all(stops).await {
            if let Err(error) = result {
                tracing::warn!(%error, "a container did not stop");
            }
        }
    }
}

impl Inner {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.notify_one();
    }

    /// Takes up sandboxes and containers of an earlier process.
    async fn recover(self: &Arc<Self>) -> Result<()> {
        for mut sandbox in self.records.sandboxes()? {
            let address = sandbox
                .ip
                .parse::<IpAddr>()
                .ok()
                .filter(|_| !sandbox.config.host_network);
            let is_ready = sandbox.state == SandboxState::Ready;
            if let (true, Some(address)) = (is_ready, address)
                && !self.locked().addresses.reclaim(address)
            {
                tracing::warn!(pod = sandbox.config.metadata.name, %address, "a pod's address is taken; it is made anew");
                sandbox.state = SandboxState::NotReady;
                self.records.save_sandbox(&sandbox)?;
            }
            self.locked().sandboxes.insert(sandbox.id.clone(), sandbox);
        }
        for record in self.records.containers()? {
            if !self.locked().sandboxes.contains_key(&record.sandbox_id) {
                self.oci.clean(&self.records.container_dir(&record.id)).await?;
                self.records.remove_container(&record.id)?;
                continue;
            }
            let (state, is_wasm) = (record.state, record.is_wasm);
            let container = Container::new(record, self.records.clone());
            let folder = container.folder();
            // A process that died while it started a container did not write down that it runs.
            let may_run = match state {
                ContainerState::Running => true,
                ContainerState::Created => !is_wasm && Oci::was_ordered(&folder),
                ContainerState::Exited | ContainerState::Unknown => false,
            };
            if may_run {
                let found = if is_wasm {
                    None
                } else {
                    self.oci.find(&folder, container.signals()).await
                };
                match found {
                    Some(running) => {
                        container.take_up(state)?;
                        self.watch(&container, running);
                    }
                    None => {
                        self.oci.clean(&folder).await?;
                        container.lose()?;
                    }
                }
            }
            self.locked().containers.insert(container.id(), container);
        }
        Ok(())
    }

    async fn run_sandbox(&self, config: PodSandboxConfig) -> Result<Id> {
        if !["", "wasm", "oci"].contains(&config.runtime_handler.as_str()) {
            return Err(Error::Unsupported(format!(
                "runtime handler \"{}\" is not configured; this runtime has \"wasm\" and \"oci\"",
                config.runtime_handler
            )));
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let mut state = self.locked();
        if state.sandboxes.len() >= SANDBOXES_MAX {
            return Err(Error::Precondition(format!(
                "{SANDBOXES_MAX} sandboxes are here already"
            )));
        }
        let address = if config.host_network {
            self.node_address
        } else {
            state.addresses.allocate()?
        };
        let record = SandboxRecord {
            id: id.clone(),
            state: SandboxState::Ready,
            created_at_ns: now_ns(),
            ip: address.to_string(),
            config,
        };
        if let Err(error) = self.records.save_sandbox(&record) {
            state.addresses.free(address);
            return Err(error);
        }
        state.sandboxes.insert(id.clone(), record);
        drop(state);
        self.notify();
        Ok(id)
    }

    async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let containers = self.containers_of(id);
        let stops = containers.iter().map(|container| container.stop(0));
        futures::future::try_join_all(stops).await?;
        let mut state = self.locked();
        let State {
            sandboxes, addresses, ..
        } = &mut *state;
        let Some(sandbox) = sandboxes.get_mut(id) else {
            return Ok(());
        };
        if sandbox.state == SandboxState::Ready {
            let stopped = SandboxRecord {
                state: SandboxState::NotReady,
                ..sandbox.clone()
            };
            self.records.save_sandbox(&stopped)?;
            *sandbox = stopped;
            if let (Ok(address), false) = (sandbox.ip.parse(), sandbox.config.host_network) {
                addresses.free(address);
            }
            self.notify();
        }
        Ok(())
    }

    async fn remove_sandbox(&self, id: &str) -> Result<()> {
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            self.remove_container(&container).await?;
        }
        self.records.remove_sandbox(id)?;
        self.locked().sandboxes.remove(id);
        self.notify();
        Ok(())
    }

    fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        let state = self.locked();
        state
            .containers
            .values()
            .filter(|container| container.sandbox_id() == sandbox)
            .cloned()
            .collect()
    }

    fn sandbox(&self, id: &str) -> Result<SandboxRecord> {
        let found = self.locked().sandboxes.get(id).cloned();
        found.ok_or_else(|| Error::NotFound(format!("sandbox {id}")))
    }

    fn container(&self, id: &str) -> Result<Arc<Container>> {
        let found = self.locked().containers.get(id).cloned();
        found.ok_or_else(|| Error::NotFound(format!("container {id}")))
    }
}
