//! CRI's two services on the embedded runtime.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Embedded, session};
use crate::image::Images;
use crate::{
    AuthConfig, ContainerConfig, ContainerState, ContainerStats, ContainerStatus, Cri, Duplex,
    ExecSyncResponse, Id, Image, LinuxContainerResources, PodSandboxConfig, PodSandboxStatus, Result,
    RuntimeStatus, Session, Streams,
};

#[async_trait]
impl Cri for Embedded {
    async fn status(&self) -> Result<RuntimeStatus> {
        let containers = self.inner.oci.check();
        let mut handlers = vec!["wasm".to_owned()];
        if containers.is_ok() {
            handlers.push("oci".into());
        }
        Ok(RuntimeStatus {
            name: "capstan".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            runtime_ready: true,
            network_ready: true,
            message: containers
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
            handlers,
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<Id> {
        self.inner.run_sandbox(config).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.inner.stop_sandbox(id).await
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.inner.remove_sandbox(id).await
    }

    async fn list_pod_sandbox(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self
            .inner
            .locked()
            .sandboxes
            .values()
            .map(|sandbox| sandbox.to_cri())
            .collect())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<Id> {
        self.inner.create_container(sandbox, config).await
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.inner.container(id)?;
        self.inner.start_container(&container).await
    }

    async fn stop_container(&self, id: &str, timeout_seconds: i64) -> Result<()> {
        match self.inner.container(id) {
            Ok(container) => container.stop(timeout_seconds).await,
            Err(_) => Ok(()),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        match self.inner.container(id) {
            Ok(container) => self.inner.remove_container(&container).await,
            Err(_) => Ok(()),
        }
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        Ok(self
            .inner
            .locked()
            .containers
            .values()
            .map(|container| container.status())
            .collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        Ok(self.inner.container(id)?.status())
    }

    async fn exec_sync(
        &self,
        id: &str,
        command: &[String],
        timeout_seconds: i64,
    ) -> Result<ExecSyncResponse> {
        let container = self.inner.container(id)?;
        session::has_processes(&container)?;
        self.inner
            .oci
            .exec(&container.folder(), command, timeout_seconds)
            .await
    }

    async fn exec(&self, id: &str, command: &[String], streams: Streams) -> Result<Session> {
        let container = self.inner.container(id)?;
        session::exec(&self.inner.oci, &container, command, streams).await
    }

    async fn attach(&self, id: &str, streams: Streams) -> Result<Session> {
        let container = self.inner.container(id)?;
        session::attach(&self.inner.oci, container, streams).await
    }

    async fn port_forward(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>> {
        let sandbox = self.inner.sandbox(sandbox)?;
        session::dial(&sandbox, port).await
    }

    async fn update_container_resources(&self, id: &str, resources: LinuxContainerResources) -> Result<()> {
        let container = self.inner.container(id)?;
        if container.status().state == ContainerState::Running {
            match container.allowance() {
                Some(allowance) => allowance.update(&resources)?,
                None => self.inner.oci.update(&container.id(), &resources)?,
            }
        }
        container.set_resources(resources)
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        let container = self.inner.container(id)?;
        let id = container.id();
        match container.allowance() {
            Some(allowance) => Ok(ContainerStats {
                id,
                cpu_usage_ns: allowance.cpu_ns(),
                memory_bytes: allowance.memory_bytes(),
            }),
            None if container.is_wasm() => Ok(ContainerStats {
                id,
                ..Default::default()
            }),
            None => Ok(self.inner.oci.stats(&id)),
        }
    }

    async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        self.inner.images.list()
    }

    async fn image_status(&self, reference: &str) -> Result<Option<Image>> {
        Ok(self.inner.images.find(reference)?.map(|image| image.to_cri()))
    }

    async fn pull_image(&self, reference: &str, auth: Option<AuthConfig>) -> Result<String> {
        Ok(self.inner.images.pull(reference, auth).await?.image_ref())
    }

    async fn remove_image(&self, reference: &str) -> Result<()> {
        self.inner.check_unused(reference)?;
        Images::of(Arc::clone(&self.inner.images)).remove(reference).await
    }
}
