//! OCI containers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::sync::watch;

use crate::task::{Process, Running, Signal};
use crate::{ContainerStats, Error, ExecSyncResponse, Mount, Result};

/// All that is needed to start a container.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) hostname: String,
    pub(crate) process: Process,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) readonly_rootfs: bool,
    pub(crate) privileged: bool,
    pub(crate) log_path: PathBuf,
}

/// The OCI half.
#[derive(Debug)]
pub(crate) struct Oci {
    shim_command: Vec<OsString>,
}

impl Oci {
    pub(crate) fn new(shim_command: Vec<OsString>) -> Self {
        Self { shim_command }
    }
    pub(crate) fn check(&self) -> Result<()> {
        let _ = &self.shim_command;
        Err(Error::Unsupported(
            "containers of OCI images cannot run here yet; Wasm images can".into(),
        ))
    }
    pub(crate) async fn start(&self, _: Launch, _: watch::Receiver<Signal>) -> Result<Running> {
        self.check()?;
        Err(Error::Unsupported("containers".into()))
    }
    pub(crate) async fn find(&self, _: &Path, _: watch::Receiver<Signal>) -> Option<Running> {
        None
    }
    pub(crate) async fn clean(&self, _: &Path) -> Result<()> {
        Ok(())
    }
    pub(crate) async fn exec(&self, _: &Path, _: &[String], _: i64) -> Result<ExecSyncResponse> {
        Err(self.check().err().unwrap_or(Error::Unsupported(String::new())))
    }
    pub(crate) fn stats(&self, id: &str) -> Result<ContainerStats> {
        Ok(ContainerStats {
            id: id.to_owned(),
            ..Default::default()
        })
    }
}

/// The shim's main.
pub fn shim_main(_: Vec<OsString>) -> i32 {
    1
}
