//! A runtime that runs nothing: containers do as the test tells them, calls fail as the test scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use capstan_runtime::{
    AuthConfig, ContainerConfig, ContainerState, ContainerStats, ContainerStatus, Cri, Duplex, Error,
    ExecSyncResponse, Id, Image, LinuxContainerResources, PodSandboxConfig, PodSandboxStatus, Result,
    RuntimeStatus, SandboxState, Session, Streams,
};
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<Id, (PodSandboxStatus, PathBuf)>,
    containers: BTreeMap<Id, (ContainerStatus, ContainerConfig)>,
    serial: u64,
    calls: Vec<String>,
    /// Calls that fail, by their name as in `calls`.
    faults: BTreeSet<String>,
    /// Exit code of the command that probes and hooks run.
    exec_exit_code: i32,
}

/// The runtime.
pub(crate) struct FakeCri {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap()
}

impl FakeCri {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Calls so far: `run`, `create NAME`, `start NAME`, `stop NAME`, `pull IMAGE`, ...
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().unwrap().calls.clone()
    }

    /// From now on such calls fail, or no longer.
    pub(crate) fn fail(&self, call: &str, fails: bool) {
        let mut state = self.state.lock().unwrap();
        if fails {
            state.faults.insert(call.to_owned())
        } else {
            state.faults.remove(call)
        };
    }

    /// Exit code of every command from now on.
    pub(crate) fn exec_exits(&self, code: i32) {
        self.state.lock().unwrap().exec_exit_code = code;
    }

    /// The newest container of that name.
    pub(crate) fn container(&self, name: &str) -> Option<(ContainerStatus, ContainerConfig)> {
        let state = self.state.lock().unwrap();
        let named = state
            .containers
            .values()
            .filter(|(status, _)| status.metadata.name == name);
        named.max_by_key(|(status, _)| status.metadata.attempt).cloned()
    }

    /// Ends the newest container of that name.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let id = self.container(name).unwrap().0.id;
        self.end(&id, code);
    }

    fn end(&self, id: &str, code: i32) {
        if let Some((status, _)) = self.state.lock().unwrap().containers.get_mut(id)
            && status.state != ContainerState::Exited
        {
            status.state = ContainerState::Exited;
            status.exit_code = code;
            status.finished_at_ns = now();
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Writes a line to the log of the newest container of that name.
    pub(crate) fn log(&self, name: &str, text: &str) {
        let path = self.container(name).unwrap().0.log_path;
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        writeln!(file, "{} stdout F {text}", Timestamp::now()).unwrap();
    }

    fn call(&self, call: String) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        let fails = state.faults.contains(&call);
        state.calls.push(call.clone());
        if !fails {
            return Ok(());
        }
        Err(if call.starts_with("pull") {
            Error::Image {
                reason: "ErrImagePull",
                message: "no such image".into(),
            }
        } else {
            Error::Container(format!("scripted fault of {call}"))
        })
    }

    fn name_of(&self, id: &str) -> String {
        let state = self.state.lock().unwrap();
        state
            .containers
            .get(id)
            .map_or(id.to_owned(), |(status, _)| status.metadata.name.clone())
    }
}

fn echo(code: i32) -> Session {
    let (stdin, mut input) = tokio::io::duplex(1024);
    let (stdout, mut output) = tokio::io::duplex(1024);
    let (ended, exit) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut input, &mut output).await;
        let _ = ended.send(());
    });
    Session {
        stdin: Some(Box::new(stdin)),
        stdout: Some(Box::new(stdout)),
        stderr: None,
        resize: None,
        exit: Box::pin(async move {
            let _ = exit.await;
            Ok(code)
        }),
    }
}

#[async_trait]
impl Cri for FakeCri {
    async fn status(&self) -> Result<RuntimeStatus> {
        self.call("status".into())?;
        Ok(RuntimeStatus {
            name: "fake".into(),
            version: "1".into(),
            runtime_ready: true,
            network_ready: true,
            ..Default::default()
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<Id> {
        self.call("run".into())?;
        let mut state = self.state.lock().unwrap();
        state.serial += 1;
        let id = format!("s{}", state.serial);
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: SandboxState::Ready,
            created_at_ns: now(),
            ip: "127.0.0.1".into(),
            labels: config.labels,
        };
        state.sandboxes.insert(id.clone(), (status, config.log_directory));
        drop(state);
        self.changed.send_modify(|count| *count += 1);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<()> {
        self.call("stop sandbox".into())?;
        if let Some((status, _)) = self.state.lock().unwrap().sandboxes.get_mut(id) {
            status.state = SandboxState::NotReady;
        }
        let inside: Vec<Id> = {
            let state = self.state.lock().unwrap();
            let of = state
                .containers
                .values()
                .filter(|(status, _)| status.sandbox_id == id);
            of.map(|(status, _)| status.id.clone()).collect()
        };
        inside.iter().for_each(|id| self.end(id, 137));
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<()> {
        self.call("remove sandbox".into())?;
        let mut state = self.state.lock().unwrap();
        state.sandboxes.remove(id);
        state.containers.retain(|_, (status, _)| status.sandbox_id != id);
        Ok(())
    }

    async fn list_pod_sandbox(&self) -> Result<Vec<PodSandboxStatus>> {
        Ok(self
            .state
            .lock()
            .unwrap()
            .sandboxes
            .values()
            .map(|(status, _)| status.clone())
            .collect())
    }

    async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<Id> {
        self.call(format!("create {}", config.metadata.name))?;
        let mut state = self.state.lock().unwrap();
        state.serial += 1;
        let id = format!("c{}", state.serial);
        let log_path = state.sandboxes[sandbox].1.join(&config.log_path);
        let status = ContainerStatus {
            id: id.clone(),
            sandbox_id: sandbox.to_owned(),
            metadata: config.metadata.clone(),
            created_at_ns: now(),
            image: config.image.clone(),
            image_ref: format!("{}@sha256:0", config.image),
            log_path,
            ..Default::default()
        };
        state.containers.insert(id.clone(), (status, config));
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<()> {
        self.call(format!("start {}", self.name_of(id)))?;
        if let Some((status, _)) = self.state.lock().unwrap().containers.get_mut(id) {
            status.state = ContainerState::Running;
            status.started_at_ns = now();
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn stop_container(&self, id: &str, _timeout_seconds: i64) -> Result<()> {
        self.call(format!("stop {}", self.name_of(id)))?;
        self.end(id, 143);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<()> {
        self.call(format!("remove {}", self.name_of(id)))?;
        self.state.lock().unwrap().containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>> {
        Ok(self
            .state
            .lock()
            .unwrap()
            .containers
            .values()
            .map(|(status, _)| status.clone())
            .collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus> {
        let state = self.state.lock().unwrap();
        state
            .containers
            .get(id)
            .map(|(status, _)| status.clone())
            .ok_or_else(|| Error::NotFound(id.to_owned()))
    }

    async fn exec_sync(
        &self,
        _id: &str,
        command: &[String],
        _timeout_seconds: i64,
    ) -> Result<ExecSyncResponse> {
        self.call(format!("exec {}", command.join(" ")))?;
        Ok(ExecSyncResponse {
            exit_code: self.state.lock().unwrap().exec_exit_code,
            ..Default::default()
        })
    }

    /// Gives back what it is given, until its end.
    async fn exec(&self, _id: &str, command: &[String], _: Streams) -> Result<Session> {
        self.call(format!("exec {}", command.join(" ")))?;
        let code = self.state.lock().unwrap().exec_exit_code;
        Ok(echo(code))
    }

    async fn attach(&self, id: &str, _: Streams) -> Result<Session> {
        self.call(format!("attach {}", self.name_of(id)))?;
        Ok(echo(0))
    }

    async fn port_forward(&self, _sandbox: &str, port: u16) -> Result<Box<dyn Duplex>> {
        self.call(format!("forward {port}"))?;
        let (ours, theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(ours);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
        Ok(Box::new(theirs))
    }

    async fn update_container_resources(&self, id: &str, resources: LinuxContainerResources) -> Result<()> {
        self.call(format!("update {}", self.name_of(id)))?;
        if let Some((_, config)) = self.state.lock().unwrap().containers.get_mut(id) {
            config.resources = resources;
        }
        Ok(())
    }

    async fn container_stats(&self, id: &str) -> Result<ContainerStats> {
        Ok(ContainerStats {
            id: id.to_owned(),
            cpu_usage_ns: 0,
            memory_bytes: 0,
        })
    }

    async fn changed(&self) {
        let _ = self.changed.subscribe().changed().await;
    }

    async fn list_images(&self) -> Result<Vec<Image>> {
        Ok(Vec::new())
    }

    async fn image_status(&self, _reference: &str) -> Result<Option<Image>> {
        Ok(None)
    }

    async fn pull_image(&self, reference: &str, _auth: Option<AuthConfig>) -> Result<String> {
        self.call(format!("pull {reference}"))?;
        Ok(reference.to_owned())
    }

    async fn remove_image(&self, _reference: &str) -> Result<()> {
        Ok(())
    }
}
