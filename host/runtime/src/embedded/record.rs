//! What is kept of sandboxes and containers, so that a restarted node knows what it had.
//!
//! One JSON file each: `sandboxes/<id>.json` and `containers/<id>/record.json`. It is the node's working
//! state, not the cluster's: a damaged record is dropped with a warning and the kubelet makes anew what is
//! missing.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::task::{EXIT_LOST, Exit};
use crate::{
    ContainerConfig, ContainerState, ContainerStatus, Error, Id, PodSandboxConfig, PodSandboxStatus, Result,
    SandboxState, files,
};

/// A sandbox as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: Id,
    pub(crate) config: PodSandboxConfig,
    pub(crate) state: SandboxState,
    pub(crate) created_at_ns: i64,
    pub(crate) ip: String,
}

/// A container as kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: Id,
    pub(crate) sandbox_id: Id,
    pub(crate) config: ContainerConfig,
    /// Digest of the image's manifest.
    pub(crate) image: String,
    pub(crate) image_ref: String,
    pub(crate) is_wasm: bool,
    pub(crate) log_path: PathBuf,
    pub(crate) state: ContainerState,
    pub(crate) created_at_ns: i64,
    pub(crate) started_at_ns: i64,
    pub(crate) finished_at_ns: i64,
    pub(crate) exit_code: i32,
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl SandboxRecord {
    pub(crate) fn to_cri(&self) -> PodSandboxStatus {
        PodSandboxStatus {
            id: self.id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state,
            created_at_ns: self.created_at_ns,
            ip: self.ip.clone(),
            labels: self.config.labels.clone(),
        }
    }
}

impl ContainerRecord {
    pub(crate) fn to_cri(&self) -> ContainerStatus {
        ContainerStatus {
            id: self.id.clone(),
            sandbox_id: self.sandbox_id.clone(),
            metadata: self.config.metadata.clone(),
            state: self.state,
            created_at_ns: self.created_at_ns,
            started_at_ns: self.started_at_ns,
            finished_at_ns: self.finished_at_ns,
            exit_code: self.exit_code,
            image: self.config.image.clone(),
            image_ref: self.image_ref.clone(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            labels: self.config.labels.clone(),
            log_path: self.log_path.clone(),
        }
    }

    pub(crate) fn start(&mut self) {
        self.state = ContainerState::Running;
        self.started_at_ns = now_ns();
    }

    pub(crate) fn end(&mut self, exit: Exit) {
        self.state = ContainerState::Exited;
        self.finished_at_ns = now_ns();
        self.exit_code = exit.code;
        self.reason = exit.reason;
        self.message = exit.message;
    }

    /// It ran in a process that is gone.
    pub(crate) fn lose(&mut self) {
        self.end(Exit::failed(
            EXIT_LOST,
            "the node restarted while the container ran",
        ));
    }
}

/// The folders of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    sandboxes: PathBuf,
    containers: PathBuf,
}

impl Records {
    pub(crate) fn open(state_dir: &Path) -> Result<Self> {
        let records = Self {
            sandboxes: state_dir.join("sandboxes"),
            containers: state_dir.join("containers"),
        };
        files::create_private_dir(&records.sandboxes)?;
        files::create_private_dir(&records.containers)?;
        Ok(records)
    }

    /// A container's own folder, for its record and whatever its runtime keeps.
    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.containers.join(id)
    }

    pub(crate) fn sandboxes(&self) -> Result<Vec<SandboxRecord>> {
        read_all(&self.sandboxes, |entry| entry)
    }

    pub(crate) fn containers(&self) -> Result<Vec<ContainerRecord>> {
        read_all(&self.containers, |entry| entry.join("record.json"))
    }

    pub(crate) fn save_sandbox(&self, record: &SandboxRecord) -> Result<()> {
        let path = self.sandboxes.join(format!("{}.json", record.id));
        files::write_json(&path, record, files::Survives::Process)
    }

    pub(crate) fn save_container(&self, record: &ContainerRecord) -> Result<()> {
        let path = self.container_dir(&record.id).join("record.json");
        files::write_json(&path, record, files::Survives::Process)
    }

    pub(crate) fn remove_sandbox(&self, id: &str) -> Result<()> {
        files::remove(&self.sandboxes.join(format!("{id}.json")))
    }

    pub(crate) fn remove_container(&self, id: &str) -> Result<()> {
        files::remove(&self.container_dir(id))
    }
}

fn read_all<T: DeserializeOwned>(folder: &Path, file: impl Fn(PathBuf) -> PathBuf) -> Result<Vec<T>> {
    let context = || format!("reading the folder {}", folder.display());
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(context()))? {
        let entry = entry.map_err(Error::io(context()))?.path();
        match files::read_json(&file(entry.clone())) {
            Ok(Some(record)) => records.push(record),
            damaged => {
                let why = damaged
                    .err()
                    .map_or_else(|| "it is empty".to_owned(), |error| error.to_string());
                tracing::warn!(path = %entry.display(), why, "dropping a record that cannot be read");
                files::remove(&entry)?;
            }
        }
    }
    Ok(records)
}

/// Now, as CRI counts time.
pub(crate) fn now_ns() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
