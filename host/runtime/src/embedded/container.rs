//! One container: created, started through the runtime of its image, watched, stopped, removed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::record::{ContainerRecord, Records, SandboxRecord, now_ns};
use super::{CONTAINERS_MAX, Inner};
use crate::image::{StoredImage, Workload, digest_of};
use crate::logs::LogFile;
use crate::task::{Exit, Running, Signal};
use crate::wasm::{Allowance, Folder, GuestPlan};
use crate::{
    ContainerConfig, ContainerState, ContainerStatus, Error, Id, LinuxContainerResources, Mount, Result,
    SandboxState, files, image, oci,
};

/// How long a killed container may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);
/// A stop's grace is cut to this.
const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A container and what is asked of it.
pub(super) struct Container {
    record: Mutex<ContainerRecord>,
    records: Records,
    signal: watch::Sender<Signal>,
    state: watch::Sender<ContainerState>,
    /// Held while it is being started, so that nobody starts or stops it meanwhile.
    starting: tokio::sync::Mutex<()>,
    allowance: OnceLock<Arc<Allowance>>,
    /// Where a component writes, while it runs in this process.
    log: OnceLock<Arc<LogFile>>,
}

impl Container {
    pub(super) fn new(record: ContainerRecord, records: Records) -> Arc<Self> {
        let state = watch::Sender::new(record.state);
        Arc::new(Self {
            record: Mutex::new(record),
            records,
            signal: watch::Sender::new(Signal::Run),
            state,
            starting: tokio::sync::Mutex::new(()),
            allowance: OnceLock::new(),
            log: OnceLock::new(),
        })
    }

    fn locked(&self) -> MutexGuard<'_, ContainerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> Id {
        self.locked().id.clone()
    }

    pub(super) fn sandbox_id(&self) -> Id {
        self.locked().sandbox_id.clone()
    }

    pub(super) fn status(&self) -> ContainerStatus {
        self.locked().to_cri()
    }

    pub(super) fn is_wasm(&self) -> bool {
        self.locked().is_wasm
    }

    pub(super) fn allowance(&self) -> Option<&Arc<Allowance>> {
        self.allowance.get()
    }

    pub(super) fn log(&self) -> Option<&Arc<LogFile>> {
        self.log.get()
    }

    /// Waits until it does not run any more.
    pub(super) async fn ended(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as we do.
        let _ = state.wait_for(|state| *state != ContainerState::Running).await;
    }

    /// Remembers what it may use from now on.
    pub(super) fn set_resources(&self, resources: LinuxContainerResources) -> Result<()> {
        self.change(|record| record.config.resources = resources)
    }

    pub(super) fn signals(&self) -> watch::Receiver<Signal> {
        self.signal.subscribe()
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.records.container_dir(&self.locked().id)
    }

    /// Changes and keeps the record, and tells who waits for the state.
    fn change(&self, change: impl FnOnce(&mut ContainerRecord)) -> Result<()> {
        let mut record = self.locked();
        change(&mut record);
        let saved = self.records.save_container(&record);
        self.state.send_replace(record.state);
        saved
    }

    /// It ran in a process that is gone.
    pub(super) fn lose(&self) -> Result<()> {
        self.change(ContainerRecord::lose)
    }

    /// It runs, though an earlier process started it.
    pub(super) fn take_up(&self, state: ContainerState) -> Result<()> {
        if state == ContainerState::Running {
            Ok(())
        } else {
            self.change(ContainerRecord::start)
        }
    }

    /// Asks it to end and sees to it that it does.
    pub(super) async fn stop(&self, timeout_seconds: i64) -> Result<()> {
        // Not kept: a later stop may be less patient than this one.
        drop(self.starting.lock().await);
        if *self.state.borrow() != ContainerState::Running {
            return Ok(());
        }
        let grace = Duration::from_secs(u64::try_from(timeout_seconds).unwrap_or(0)).min(GRACE_MAX);
        if !grace.is_zero() {
            self.raise(Signal::Terminate);
            if self.ended_within(grace).await {
                return Ok(());
            }
        }
        self.raise(Signal::Kill);
        match self.ended_within(KILL_WAIT).await {
            true => Ok(()),
            false => Err(Error::Timeout(format!("killing container {}", self.id()))),
        }
    }

    fn raise(&self, signal: Signal) {
        self.signal.send_if_modified(|present| {
            let rises = *present < signal;
            *present = (*present).max(signal);
            rises
        });
    }

    async fn ended_within(&self, time: Duration) -> bool {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| *state == ContainerState::Exited);
        tokio::time::timeout(time, ended).await.is_ok()
    }
}

impl Inner {
    pub(super) async fn create_container(&self, sandbox: &str, config: ContainerConfig) -> Result<Id> {
        let sandbox = self.sandbox(sandbox)?;
        if sandbox.state != SandboxState::Ready {
            return Err(Error::Precondition(format!(
                "sandbox {} is not ready",
                sandbox.id
            )));
        }
        let image = self.images.find(&config.image)?.ok_or_else(|| {
            Error::image(
                "ErrImageNeverPull",
                format!("Container image \"{}\" is not present", config.image),
            )
        })?;
        let is_wasm = image.workload != Workload::Container;
        self.check_handler(&sandbox, &config, is_wasm)?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let own_log = format!("{}/{}.log", config.metadata.name, config.metadata.attempt);
        let log_path = if config.log_path.is_empty() {
            &own_log
        } else {
            &config.log_path
        };
        let log_path = sandbox.config.log_directory.join(log_path);
        let record = ContainerRecord {
            id: id.clone(),
            sandbox_id: sandbox.id.clone(),
            image: image.digest.clone(),
            image_ref: image.image_ref(),
            is_wasm,
            log_path,
            state: ContainerState::Created,
            created_at_ns: now_ns(),
            started_at_ns: 0,
            finished_at_ns: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            config,
        };
        files::create_private_dir(&self.records.container_dir(&id))?;
        self.records.save_container(&record)?;
        let container = Container::new(record, self.records.clone());
        let mut state = self.locked();
        if state.containers.len() >= CONTAINERS_MAX {
            drop(state);
            self.records.remove_container(&id)?;
            return Err(Error::Precondition(format!(
                "{CONTAINERS_MAX} containers are here already"
            )));
        }
        state.containers.insert(id.clone(), container);
        drop(state);
        self.notify();
        Ok(id)
    }

    /// A sandbox made for one runtime takes no images of the other; and this process must be able to run it.
    fn check_handler(&self, sandbox: &SandboxRecord, config: &ContainerConfig, is_wasm: bool) -> Result<()> {
        let kind = if is_wasm { "wasm" } else { "oci" };
        let wanted = &sandbox.config.runtime_handler;
        if !wanted.is_empty() && wanted != kind {
            let image = &config.image;
            let text = format!(
                "image {image} is for the runtime handler \"{kind}\", but the pod asks for \"{wanted}\""
            );
            return Err(Error::Container(text));
        }
        if is_wasm { Ok(()) } else { self.oci.check() }
    }

    pub(super) async fn start_container(self: &Arc<Self>, container: &Arc<Container>) -> Result<()> {
        let _starting = container.starting.lock().await;
        let record = container.locked().clone();
        if record.state != ContainerState::Created {
            let text = format!(
                "container {} was started before; it is {:?}",
                record.id, record.state
            );
            return Err(Error::Precondition(text));
        }
        let sandbox = self.sandbox(&record.sandbox_id)?;
        let image = self.images.find(&record.image)?.ok_or_else(|| {
            Error::NotFound(format!(
                "image {} of container {}",
                record.config.image, record.id
            ))
        })?;
        let log = LogFile::open(&record.log_path).map_err(Error::io(format!(
            "opening the log {}",
            record.log_path.display()
        )))?;
        let running = match &image.workload {
            Workload::Container => self.start_process(container, &record, &sandbox, &image).await?,
            _ => {
                self.start_component(container, &record, &sandbox, &image, log)
                    .await?
            }
        };
        container.change(ContainerRecord::start)?;
        self.watch(container, running);
        self.notify();
        Ok(())
    }

    /// Keeps an eye on a started container until it ends.
    pub(super) fn watch(self: &Arc<Self>, container: &Arc<Container>, running: Running) {
        let (inner, container) = (Arc::clone(self), Arc::clone(container));
        tokio::spawn(async move {
            let exit: Exit = running.await;
            if let Err(error) = container.change(|record| record.end(exit)) {
                tracing::warn!(%error, "a container's end was not written down");
            }
            inner.notify();
        });
    }

    async fn start_component(
        &self,
        container: &Container,
        record: &ContainerRecord,
        sandbox: &SandboxRecord,
        image: &StoredImage,
        log: Arc<LogFile>,
    ) -> Result<Running> {
        let process = image.process(&record.config, &sandbox.config.hostname);
        let scratch = container.folder().join("tmp");
        files::create_private_dir(&scratch)?;
        let mut folders = vec![Folder {
            host_path: scratch,
            guest_path: "/tmp".into(),
            readonly: false,
        }];
        let (digest, bytes) = match &image.workload {
            Workload::Component { digest } => (digest.clone(), self.images.component(digest).await?),
            _ => {
                let rootfs = self.images.rootfs(image).await?;
                let found = image::component_in(rootfs.clone(), &process).await?;
                folders.push(Folder {
                    host_path: rootfs,
                    guest_path: "/".into(),
                    readonly: true,
                });
                found
            }
        };
        for mount in &record.config.mounts {
            let folder = folder_of(mount, &container.folder())?;
            folders
                .retain(|other| other.guest_path != folder.guest_path || other.host_path != folder.host_path);
            folders.retain(|other| other.guest_path != mount.container_path);
            folders.push(folder);
        }
        let allowance = Allowance::new(&process.resources);
        let address = sandbox.ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let plan = GuestPlan {
            process,
            folders,
            address,
            log: Arc::clone(&log),
            allowance: Arc::clone(&allowance),
        };
        let running = self.wasm.start(digest, bytes, plan, container.signals()).await?;
        let _ = container.allowance.set(allowance);
        let _ = container.log.set(log);
        Ok(running)
    }

    async fn start_process(
        &self,
        container: &Container,
        record: &ContainerRecord,
        sandbox: &SandboxRecord,
        image: &StoredImage,
    ) -> Result<Running> {
        let launch = oci::Launch {
            id: record.id.clone(),
            folder: container.folder(),
            rootfs: self.images.rootfs(image).await?,
            hostname: sandbox.config.hostname.clone(),
            address: sandbox.ip.clone(),
            stop_signal: image.defaults.stop_signal.clone(),
            process: image.process(&record.config, &sandbox.config.hostname),
            mounts: record.config.mounts.clone(),
            readonly_rootfs: record.config.readonly_rootfs,
            privileged: record.config.privileged,
            log_path: record.log_path.clone(),
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            tty: record.config.tty,
            pid_namespace_of: record
                .config
                .target
                .as_ref()
                .map(|target| self.pid_of(target))
                .transpose()?,
            ..Default::default()
        };
        self.oci.start(launch, container.signals()).await
    }

    /// The process whose processes another container is to see.
    fn pid_of(&self, target: &str) -> Result<i32> {
        let target = self.container(target)?;
        if target.is_wasm() || target.status().state != ContainerState::Running {
            return Err(Error::Container(format!(
                "container {} runs no process whose namespace could be shared",
                target.status().metadata.name
            )));
        }
        self.oci.pid(&target.folder(), &target.id())
    }

    /// An image whose files a container uses must stay.
    pub(super) fn check_unused(&self, reference: &str) -> Result<()> {
        let Some(image) = self.images.find(reference)? else {
            return Ok(());
        };
        let state = self.locked();
        let user = state.containers.values().find(|container| {
            let record = container.locked();
            record.image == image.digest && record.state != ContainerState::Exited
        });
        match user.map(|container| container.status()) {
            Some(status) => Err(Error::Precondition(format!(
                "image {reference} is in use by container {} ({})",
                status.metadata.name, status.id
            ))),
            None => Ok(()),
        }
    }

    pub(super) async fn remove_container(&self, container: &Arc<Container>) -> Result<()> {
        container.stop(0).await?;
        let id = container.id();
        if !container.is_wasm() {
            self.oci.clean(&container.folder()).await?;
        }
        self.records.remove_container(&id)?;
        self.locked().containers.remove(&id);
        self.notify();
        Ok(())
    }
}

/// A mount as a guest sees it. WASI mounts folders alone: of a mounted file, the guest sees a folder of its
/// own that holds a second name of the file.
fn folder_of(mount: &Mount, container_dir: &std::path::Path) -> Result<Folder> {
    let failed = || {
        format!(
            "mounting {} at {}",
            mount.host_path.display(),
            mount.container_path
        )
    };
    if mount.host_path.is_dir() {
        let guest_path = mount.container_path.clone();
        return Ok(Folder {
            host_path: mount.host_path.clone(),
            guest_path,
            readonly: mount.readonly,
        });
    }
    let inside = std::path::Path::new(&mount.container_path);
    let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
        return Err(Error::Container(format!("{}: not a path of a file", failed())));
    };
    let host_path = container_dir
        .join("files")
        .join(digest_of(parent.as_os_str().as_encoded_bytes()));
    files::create_private_dir(&host_path)?;
    let target = host_path.join(name);
    files::remove(&target)?;
    std::fs::hard_link(&mount.host_path, &target)
        .or_else(|_| std::fs::copy(&mount.host_path, &target).map(drop))
        .map_err(Error::io(failed()))?;
    Ok(Folder {
        host_path,
        guest_path: parent.to_string_lossy().into_owned(),
        readonly: mount.readonly,
    })
}
