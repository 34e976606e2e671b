//! A runtime on a folder of its own, as a kubelet uses it: what the tests of both kinds of container share.

use std::time::Duration;

use capstan_runtime::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, Cri, Embedded, PodSandboxConfig,
    PodSandboxMetadata,
};

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) runtime: Embedded,
    pub(crate) folder: tempfile::TempDir,
}

impl Node {
    pub(crate) async fn sandbox(&self, name: &str) -> String {
        let metadata = PodSandboxMetadata {
            name: name.into(),
            namespace: "default".into(),
            ..Default::default()
        };
        let log_directory = self.folder.path().join("logs").join(name);
        let config = PodSandboxConfig {
            metadata,
            hostname: name.into(),
            log_directory,
            ..Default::default()
        };
        self.runtime.run_pod_sandbox(config).await.unwrap()
    }

    pub(crate) async fn start(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.runtime.create_container(sandbox, config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    pub(crate) async fn ended(&self, id: &str) -> ContainerStatus {
        let ended = async {
            loop {
                let status = self.runtime.container_status(id).await.unwrap();
                if status.state == ContainerState::Exited {
                    return status;
                }
                self.runtime.changed().await;
            }
        };
        tokio::time::timeout(WAIT_MAX, ended)
            .await
            .expect("the container ends")
    }

    /// Runs a container to its end in a sandbox of its own; how it ended, its log and its id. Nothing is left.
    pub(crate) async fn run_once(&self, config: ContainerConfig) -> (ContainerStatus, String, String) {
        let sandbox = self.sandbox("pod").await;
        let id = self.start(&sandbox, config).await;
        let status = self.ended(&id).await;
        let log = std::fs::read_to_string(&status.log_path).unwrap_or_default();
        self.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
        let _ = std::fs::remove_dir_all(self.folder.path().join("logs"));
        (status, log, id)
    }
}

pub(crate) fn container(name: &str, image: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: ContainerMetadata {
            name: name.into(),
            attempt: 0,
        },
        image: image.into(),
        log_path: format!("{name}/0.log"),
        ..Default::default()
    }
}
