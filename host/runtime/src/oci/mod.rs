//! OCI containers, through libcontainer in a shim process beside each.
//!
//! Needs root. The container's folder holds the bundle, the writable layer, the shim's socket and its report;
//! a node that starts again finds running containers by their sockets. Called by [`crate::Embedded`] alone.

mod cgroup;
mod clients;
mod frame;
mod session;
mod shim;
mod spec;
mod terminal;
mod user;

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;

pub use self::shim::shim_main;
use self::shim::{EXIT_FILE, ORDER_FILE, Order, Report, SOCKET, Started};
use crate::files::{self, Survives};
use crate::image::resolve_in;
use crate::task::{self, EXIT_LOST, Exit, Process, Running, Signal};
use crate::{ContainerStats, Error, ExecSyncResponse, LinuxContainerResources, Mount, Result};

/// Creating a container may take this long.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Cleaning up after one may take this long.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than its command an exec may take.
const EXEC_SLACK: Duration = Duration::from_secs(10);
/// An exec that sets no limit ends here.
const EXEC_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// More of a command's output is cut off, as the kubelet does.
const EXEC_OUTPUT_BYTES_MAX: u64 = 16 << 20;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const START_LINE_BYTES_MAX: u64 = 64 << 10;
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// All that is needed to start a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Launch {
    pub(crate) id: String,
    /// The container's own folder.
    pub(crate) folder: PathBuf,
    /// The image's unpacked files.
    pub(crate) rootfs: PathBuf,
    pub(crate) hostname: String,
    pub(crate) address: String,
    /// As the image writes it: `SIGQUIT`, `QUIT` or `3`; empty is SIGTERM.
    pub(crate) stop_signal: String,
    pub(crate) process: Process,
    pub(crate) mounts: Vec<Mount>,
    /// Files that every container has, unless the pod mounts its own: container path and host path.
    pub(crate) own_files: Vec<(String, PathBuf)>,
    pub(crate) readonly_rootfs: bool,
    pub(crate) privileged: bool,
    /// What this process may grant at most, a bit a capability.
    pub(crate) capability_bounds: u64,
    pub(crate) log_path: PathBuf,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    /// A process whose processes it sees.
    pub(crate) pid_namespace_of: Option<i32>,
}

/// The OCI half of the runtime.
#[derive(Debug)]
pub(crate) struct Oci {
    shim_command: Vec<OsString>,
}

impl Oci {
    pub(crate) fn new(shim_command: Vec<OsString>) -> Self {
        Self { shim_command }
    }

    /// Whether containers can run here, or why not.
    pub(crate) fn check(&self) -> Result<()> {
        let may_mount = capabilities("CapEff:").is_ok_and(|held| held & CAP_SYS_ADMIN != 0);
        if !nix::unistd::geteuid().is_root() || !may_mount {
            return Err(Error::Unsupported(
                "containers of OCI images need root (with CAP_SYS_ADMIN), and this node runs without; \
                 Wasm images do not"
                    .into(),
            ));
        }
        if self.shim_command.is_empty() {
            return Err(Error::Unsupported(
                "this node is set up without OCI containers; Wasm images can run".into(),
            ));
        }
        Ok(())
    }

    /// Starts a container: when this returns, its process runs.
    pub(crate) async fn start(
        &self,
        mut launch: Launch,
        signals: watch::Receiver<Signal>,
    ) -> Result<Running> {
        self.check()?;
        if launch.process.args.is_empty() {
            return Err(Error::Container(
                "neither the container nor its image says which command to run".into(),
            ));
        }
        prepare(&mut launch)?;
        let mut child = self
            .shim("run", &launch.folder)?
            .spawn()
            .map_err(Error::io("starting the container's shim"))?;
        let started = tokio::time::timeout(START_TIMEOUT, first_line(&mut child)).await;
        let failed = match started {
            Ok(Ok(Started { error: None })) => None,
            Ok(Ok(Started { error: Some(message) })) => Some(message),
            Ok(Err(error)) => Some(format!("the container's shim: {error}")),
            Err(_) => Some(format!(
                "the container did not start within {} s",
                START_TIMEOUT.as_secs()
            )),
        };
        if let Some(message) = failed {
            let _ = child.kill().await;
            self.clean(&launch.folder).await?;
            return Err(Error::Container(message));
        }
        let connection = connect(&launch.folder)
            .await
            .map_err(Error::io("reaching the container's shim"))?;
        // Reaped in the background: its end is seen on the connection.
        tokio::spawn(async move { child.wait().await });
        Ok(Box::pin(follow(connection, launch.folder, signals)))
    }

    /// Takes up a container that an earlier process started, if it still runs or has left its report.
    pub(crate) async fn find(&self, folder: &Path, signals: watch::Receiver<Signal>) -> Option<Running> {
        if let Ok(connection) = connect(folder).await {
            return Some(Box::pin(follow(connection, folder.to_owned(), signals)));
        }
        let report: Report = files::read_json(&folder.join(EXIT_FILE)).ok()??;
        Some(Box::pin(async move { exit_of(&report) }))
    }

    /// Whether a shim was ever told to run the container of that folder.
    pub(crate) fn was_ordered(folder: &Path) -> bool {
        folder.join(ORDER_FILE).exists()
    }

    /// Removes what a container leaves besides its folder, ending it if it runs.
    pub(crate) async fn clean(&self, folder: &Path) -> Result<()> {
        if !Self::was_ordered(folder) {
            return Ok(());
        }
        if let Ok(mut connection) = connect(folder).await {
            // Its shim lives, and cleans up by itself; what it cannot is ours below.
            let ended = async {
                let _ = connection.write_all(b"kill\n").await;
                let _ = connection.read(&mut [0; 64]).await;
            };
            let _ = tokio::time::timeout(CLEAN_TIMEOUT, ended).await;
        }
        if !shim::has_state(folder) {
            return Ok(());
        }
        let mut child = self
            .shim("clean", folder)?
            .spawn()
            .map_err(Error::io("starting the cleaning shim"))?;
        let cleaned = async {
            let line = first_line(&mut child).await;
            let status = child.wait().await?;
            match line {
                Ok(Started { error: Some(message) }) if !status.success() => {
                    Err(std::io::Error::other(message))
                }
                _ => Ok(()),
            }
        };
        let cleaned = tokio::time::timeout(CLEAN_TIMEOUT, cleaned).await;
        cleaned
            .map_err(|_| Error::Timeout("cleaning up the container".into()))?
            .map_err(Error::io("cleaning up"))
    }

    /// Runs a command in a running container.
    pub(crate) async fn exec(
        &self,
        folder: &Path,
        command: &[String],
        timeout_seconds: i64,
    ) -> Result<ExecSyncResponse> {
        let report_file = folder.join(format!("exec-{}.json", uuid::Uuid::new_v4().simple()));
        let seconds = u64::try_from(timeout_seconds).unwrap_or(0);
        let limit = if seconds == 0 {
            EXEC_TIMEOUT_MAX
        } else {
            Duration::from_secs(seconds).saturating_add(EXEC_SLACK)
        };
        let mut shim = self.shim("exec", folder)?;
        shim.arg(&report_file)
            .arg(seconds.to_string())
            .args(command)
            .stderr(Stdio::piped());
        let mut child = shim.spawn().map_err(Error::io("starting the command's shim"))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let finished = tokio::time::timeout(limit, async {
            tokio::join!(read_all(stdout), read_all(stderr), child.wait())
        })
        .await;
        let report = files::read_json::<Report>(&report_file);
        files::remove(&report_file)?;
        files::remove(&report_file.with_extension("process"))?;
        let timed_out = || Error::Timeout(format!("command {command:?}"));
        let Ok((stdout, stderr, _)) = finished else {
            let _ = child.kill().await;
            return Err(timed_out());
        };
        match report? {
            Some(report) if report.timed_out => Err(timed_out()),
            Some(report) => Ok(ExecSyncResponse {
                stdout: stdout.into(),
                stderr: stderr.into(),
                exit_code: report.code,
            }),
            None => {
                let last = stdout
                    .rsplit(|byte| *byte == b'\n')
                    .find(|line| !line.is_empty())
                    .unwrap_or_default();
                let started: Started = serde_json::from_slice(last).unwrap_or_default();
                let message = started
                    .error
                    .unwrap_or_else(|| "its shim ended without a report".into());
                Err(Error::Container(format!("command {command:?}: {message}")))
            }
        }
    }

    pub(crate) fn stats(&self, id: &str) -> ContainerStats {
        cgroup::stats(id)
    }

    /// Changes a running container's limits.
    pub(crate) fn update(&self, id: &str, resources: &LinuxContainerResources) -> Result<()> {
        cgroup::update(id, resources)
    }

    /// The number of a running container's first process.
    pub(crate) fn pid(&self, folder: &Path, id: &str) -> Result<i32> {
        let state: Option<serde_json::Value> = files::read_json(&shim::state_file(folder, id))?;
        let pid = state.and_then(|state| i32::try_from(state["pid"].as_i64()?).ok());
        pid.ok_or_else(|| Error::Precondition(format!("container {id} has no process")))
    }

    fn shim(&self, verb: &str, folder: &Path) -> Result<Command> {
        let (program, args) = self.shim_command.split_first().ok_or_else(|| {
            Error::Unsupported("this node is set up without OCI containers; Wasm images can run".into())
        })?;
        let stderr = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("shim.log"))
            .map_err(Error::io("opening the shim's log"))?;
        let mut command = Command::new(program);
        command
            .args(args)
            .arg(verb)
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        Ok(command)
    }
}

/// Writes the bundle and the shim's order.
fn prepare(launch: &mut Launch) -> Result<()> {
    let read = |name: &str| {
        let path = resolve_in(&launch.rootfs, Path::new(name)).ok()?;
        let is_small = path
            .metadata()
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= PASSWD_BYTES_MAX);
        is_small.then(|| fs::read_to_string(path).ok()).flatten()
    };
    let (passwd, group) = (
        read("etc/passwd").unwrap_or_default(),
        read("etc/group").unwrap_or_default(),
    );
    let user = user::resolve(&launch.process.user, &passwd, &group)?;
    launch.own_files = own_files(launch)?;
    launch.capability_bounds = capabilities("CapBnd:").map_err(Error::io("reading our own capabilities"))?;
    let bundle = launch.folder.join("bundle");
    files::create_private_dir(&bundle)?;
    files::write_json(
        &bundle.join("config.json"),
        &spec::spec(launch, &user),
        Survives::Process,
    )?;
    let order = Order {
        id: launch.id.clone(),
        rootfs: launch.rootfs.clone(),
        log_path: launch.log_path.clone(),
        stop_signal: launch.stop_signal.clone(),
        stdin: launch.stdin,
        stdin_once: launch.stdin_once,
        tty: launch.tty,
    };
    files::write_json(&launch.folder.join(ORDER_FILE), &order, Survives::Process)
}

/// A set of this process's capabilities; a node may itself live in a container that lacks some.
fn capabilities(set: &str) -> std::io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let number = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    number.ok_or_else(|| std::io::Error::other(format!("/proc/self/status has no {set}")))
}

fn own_files(launch: &Launch) -> Result<Vec<(String, PathBuf)>> {
    let folder = launch.folder.join("etc");
    files::create_private_dir(&folder)?;
    let Launch {
        hostname, address, ..
    } = launch;
    let hosts =
        format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{address}\t{hostname}\n");
    let mut own = Vec::new();
    for (name, text) in [("hosts", hosts), ("hostname", format!("{hostname}\n"))] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(Error::io(format!("writing {}", path.display())))?;
        own.push((format!("/etc/{name}"), path));
    }
    if let Ok(path) = Path::new("/etc/resolv.conf").canonicalize() {
        own.push(("/etc/resolv.conf".into(), path));
    }
    // A file made under our umask must be readable by whoever the container runs as.
    for (_, path) in own.iter().filter(|(_, path)| path.starts_with(&folder)) {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(path, open).map_err(Error::io(format!("opening up {}", path.display())))?;
    }
    Ok(own)
}

async fn first_line(child: &mut Child) -> std::io::Result<Started> {
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| std::io::Error::other("it has no output"))?;
    let mut line = String::new();
    BufReader::new(stdout.take(START_LINE_BYTES_MAX))
        .read_line(&mut line)
        .await?;
    if line.is_empty() {
        return Err(std::io::Error::other(
            "it ended without a word; its shim.log may say more",
        ));
    }
    serde_json::from_str(&line).map_err(std::io::Error::other)
}

/// Connects to a shim. Its folder's path may be longer than a socket address can be.
async fn connect(folder: &Path) -> std::io::Result<UnixStream> {
    let held = fs::File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", held.as_raw_fd())).await
}

/// Passes signals on until the shim is gone, and reads its report.
async fn follow(connection: UnixStream, folder: PathBuf, mut signals: watch::Receiver<Signal>) -> Exit {
    let (mut ended, mut orders) = connection.into_split();
    let mut least = Signal::Terminate;
    let mut sink = [0; 64];
    loop {
        tokio::select! {
            read = ended.read(&mut sink) => if !matches!(read, Ok(1..)) { break },
            asked = task::asked(&mut signals, least) => {
                let order: &[u8] = if asked == Signal::Kill { b"kill\n" } else { b"terminate\n" };
                // When it cannot be told, it is gone, and the read says so.
                let _ = orders.write_all(order).await;
                if asked == Signal::Kill {
                    let _ = ended.read(&mut sink).await;
                    break;
                }
                least = Signal::Kill;
            }
        }
    }
    match files::read_json::<Report>(&folder.join(EXIT_FILE)) {
        Ok(Some(report)) => exit_of(&report),
        _ => Exit::failed(EXIT_LOST, "the container's shim ended without a report"),
    }
}

fn exit_of(report: &Report) -> Exit {
    if report.out_of_memory && report.code != 0 {
        let message = "the container reached its memory limit".into();
        return Exit {
            code: report.code,
            reason: "OOMKilled".into(),
            message,
        };
    }
    Exit::with_code(report.code)
}

/// What a command writes, up to the bound; the rest is drained so that the command goes on.
async fn read_all(source: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut output = Vec::new();
    if let Some(mut source) = source {
        let _ = (&mut source)
            .take(EXEC_OUTPUT_BYTES_MAX)
            .read_to_end(&mut output)
            .await;
        let _ = tokio::io::copy(&mut source, &mut tokio::io::sink()).await;
    }
    output
}
