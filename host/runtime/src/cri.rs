//! The `Cri` trait and its types, named as in CRI v1 (`runtime/v1/api.proto`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::session::{Duplex, Session, Streams};

/// Names a sandbox or container; unique on the node.
pub type Id = String;

/// What the kubelet knows a sandbox by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PodSandboxMetadata {
    pub name: String,
    pub uid: String,
    pub namespace: String,
    pub attempt: u32,
}

/// How a pod's sandbox is to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PodSandboxConfig {
    pub metadata: PodSandboxMetadata,
    pub hostname: String,
    /// Where the pod's container logs go: `<log_directory>/<container name>/<attempt>.log`, CRI log format.
    pub log_directory: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub host_network: bool,
    /// `wasm`, `oci`, or empty: chosen by each container's image.
    pub runtime_handler: String,
}

/// A sandbox's or container's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SandboxState {
    #[default]
    Ready,
    NotReady,
}

/// A sandbox as it stands.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct PodSandboxStatus {
    pub id: Id,
    pub metadata: PodSandboxMetadata,
    pub state: SandboxState,
    /// Nanoseconds since the Unix epoch.
    pub created_at_ns: i64,
    /// The pod's address.
    pub ip: String,
    pub labels: BTreeMap<String, String>,
}

/// What the kubelet knows a container by; `attempt` counts restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ContainerMetadata {
    pub name: String,
    pub attempt: u32,
}

/// A host path seen in the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Mount {
    pub container_path: String,
    pub host_path: PathBuf,
    pub readonly: bool,
}

/// Limits of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LinuxContainerResources {
    /// Microseconds of CPU in each `cpu_period_us`; 0 is unlimited.
    pub cpu_quota_us: i64,
    pub cpu_period_us: i64,
    pub cpu_shares: i64,
    /// 0 is unlimited.
    pub memory_limit_bytes: i64,
}

/// How a container is to be made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ContainerConfig {
    pub metadata: ContainerMetadata,
    /// Reference as the image service resolved it.
    pub image: String,
    /// Overrides the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Overrides the image's arguments when not empty.
    pub args: Vec<String>,
    pub working_dir: String,
    /// In order; later ones win.
    pub envs: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log directory.
    pub log_path: String,
    pub tty: bool,
    pub stdin: bool,
    /// Its standard input ends with the first client that was attached to it.
    #[serde(default)]
    pub stdin_once: bool,
    /// The container whose processes it sees; its own alone where it is none.
    #[serde(default)]
    pub target: Option<Id>,
    pub resources: LinuxContainerResources,
    pub run_as_user: Option<i64>,
    pub readonly_rootfs: bool,
    pub privileged: bool,
    /// Ports that the container declares, for workloads that are told where to listen (`wasi:http`).
    pub ports: Vec<u16>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ContainerState {
    #[default]
    Created,
    Running,
    Exited,
    Unknown,
}

/// A container as it stands.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct ContainerStatus {
    pub id: Id,
    pub sandbox_id: Id,
    pub metadata: ContainerMetadata,
    pub state: ContainerState,
    /// Nanoseconds since the Unix epoch; 0 when not yet.
    pub created_at_ns: i64,
    pub started_at_ns: i64,
    pub finished_at_ns: i64,
    pub exit_code: i32,
    pub image: String,
    /// Digest reference of what really runs.
    pub image_ref: String,
    /// `Completed`, `Error`, `OOMKilled`, ...
    pub reason: String,
    pub message: String,
    pub labels: BTreeMap<String, String>,
    pub log_path: PathBuf,
}

/// What a command in a container gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ExecSyncResponse {
    pub stdout: Bytes,
    pub stderr: Bytes,
    pub exit_code: i32,
}

/// An image in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Image {
    /// Digest of its configuration.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
}

/// Name and password for a registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
}

/// A container's use of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ContainerStats {
    pub id: Id,
    pub cpu_usage_ns: u64,
    pub memory_bytes: u64,
}

/// The runtime's health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RuntimeStatus {
    pub name: String,
    pub version: String,
    pub runtime_ready: bool,
    pub network_ready: bool,
    /// Why it is not ready.
    pub message: String,
    /// Handlers that can run here: `wasm`, and `oci` where containers can.
    pub handlers: Vec<String>,
}

/// Why a CRI call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such sandbox, container or image.
    #[error("{0} not found")]
    NotFound(String),
    /// The image could not be had. `reason` is what the pod's status shows: `ErrImagePull`,
    /// `InvalidImageName`, `ErrImageNeverPull`.
    #[error("{message}")]
    Image {
        /// CamelCase.
        reason: &'static str,
        /// For a human.
        message: String,
    },
    /// The container could not be created or started (`CreateContainerError`, `RunContainerError`).
    #[error("{0}")]
    Container(String),
    /// The call makes no sense in the present state.
    #[error("{0}")]
    Precondition(String),
    /// This runtime cannot do it; the text says what could.
    #[error("{0}")]
    Unsupported(String),
    /// The call took longer than it may.
    #[error("{0} timed out")]
    Timeout(String),
    /// The machine failed us.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// How it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: names what was being done when the machine failed us.
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let context = context.into();
        move |source| Self::Io { context, source }
    }

    /// An image that could not be had, with the reason that the pod's status shows.
    pub(crate) fn image(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Image {
            reason,
            message: message.into(),
        }
    }
}

/// What a CRI call returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// CRI's RuntimeService and ImageService. Calls are idempotent as CRI demands: stopping what is stopped and
/// removing what is gone succeed.
#[async_trait]
pub trait Cri: Send + Sync + 'static {
    /// The runtime's health.
    async fn status(&self) -> Result<RuntimeStatus>;

    /// Makes and starts a sandbox.
    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<Id>;
    /// Ends whatever runs in it and frees its address.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<()>;
    /// Removes it and its containers.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<()>;
    /// All sandboxes.
    async fn list_pod_sandbox(&self) -> Result<Vec<PodSandboxStatus>>;

    /// Makes a container.
    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<Id>;
    /// Starts it.
    async fn start_container(&self, id: &str) -> Result<()>;
    /// Asks it to end (SIGTERM), and ends it (SIGKILL) after `timeout_seconds`.
    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()>;
    /// Removes it, by force when it runs.
    async fn remove_container(&self, id: &str) -> Result<()>;
    /// All containers, ended ones too.
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>>;
    /// One container.
    async fn container_status(&self, id: &str) -> Result<ContainerStatus>;
    /// Runs a command to its end.
    async fn exec_sync(&self, id: &str, command: &[String], timeout_seconds: i64)
    -> Result<ExecSyncResponse>;
    /// Begins a command whose streams stay connected.
    async fn exec(&self, id: &str, command: &[String], streams: Streams) -> Result<Session>;
    /// Connects to the streams of what runs in it from its start.
    async fn attach(&self, id: &str, streams: Streams) -> Result<Session>;
    /// Connects to a TCP port of a sandbox.
    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>>;
    /// Changes what it may use while it runs.
    async fn update_container_resources(&self, id: &str, resources: LinuxContainerResources) -> Result<()>;
    /// Its use of resources.
    async fn container_stats(&self, id: &str) -> Result<ContainerStats>;

    /// Waits until some sandbox or container may have changed; may wake without cause.
    async fn changed(&self);

    /// All images.
    async fn list_images(&self) -> Result<Vec<Image>>;
    /// The image of that reference, if it is here.
    async fn image_status(&self, reference: &str) -> Result<Option<Image>>;
    /// Fetches an image; returns its digest reference.
    async fn pull_image(&self, reference: &str, auth: Option<AuthConfig>) -> Result<String>;
    /// Removes it.
    async fn remove_image(&self, reference: &str) -> Result<()>;
}
