//! The process beside a container: creates it, copies its output to the log, waits for it, and reports.
//!
//! libcontainer forks, which only a process with one thread may do; so the node runs itself again as a shim,
//! one for each container and for each command in one. The shim mounts the container's file system in a mount
//! namespace of its own: when both are gone, so are the mounts. It outlives the node's process, and a new one
//! finds it by its socket, over which it is also told to signal the container. Its end is in `exit.json`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, chdir, setsid};
use serde::{Deserialize, Serialize};

use super::clients::{Clients, Ends, Input};
use super::{cgroup, spec};
use crate::files::{self, Survives};
use crate::logs::{LogFile, Stream};

/// The shim's socket in the container's folder.
pub(crate) const SOCKET: &str = "shim.sock";
/// Where the shim reports the container's end.
pub(crate) const EXIT_FILE: &str = "exit.json";
/// What the shim is told, besides the bundle.
pub(crate) const ORDER_FILE: &str = "shim.json";
/// libcontainer's own state, in the container's folder.
const LIBCONTAINER: &str = "libcontainer";
const BUNDLE: &str = "bundle";
const COPY_BYTES: usize = 64 * 1024;

/// What the shim is told of a container.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) rootfs: PathBuf,
    pub(crate) log_path: PathBuf,
    /// See [`super::Launch::stop_signal`].
    pub(crate) stop_signal: String,
    #[serde(default)]
    pub(crate) stdin: bool,
    #[serde(default)]
    pub(crate) stdin_once: bool,
    #[serde(default)]
    pub(crate) tty: bool,
}

impl Order {
    fn stop_signal(&self) -> Signal {
        let text = self.stop_signal.to_uppercase();
        let named = || Signal::from_str(&format!("SIG{}", text.trim_start_matches("SIG"))).ok();
        let numbered = || Signal::try_from(text.parse::<i32>().ok()?).ok();
        numbered().or_else(named).unwrap_or(Signal::SIGTERM)
    }
}

/// How a container, or a command in it, ended.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) code: i32,
    pub(crate) out_of_memory: bool,
    pub(crate) timed_out: bool,
    /// Why it did not begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// What the shim's first line of output says: nothing but `{}` when the container runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Started {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// The shim's main function, for the program that [`crate::Options::shim_command`] names: give it the
/// arguments that follow the configured ones, before any thread is started, and exit with what it returns.
#[must_use]
pub fn shim_main(args: Vec<OsString>) -> i32 {
    let mut args = args.into_iter();
    let (verb, folder) = (
        args.next().unwrap_or_default(),
        PathBuf::from(args.next().unwrap_or_default()),
    );
    trace_into(&folder.join("shim.log"));
    let rest: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let done = match verb.to_str() {
        Some("run") => run(&folder),
        Some("exec") => exec(&folder, &rest),
        Some("session") => return session(&folder, &rest),
        Some("clean") => clean(&folder),
        _ => Err(format!(
            "a container shim is asked to run, exec, session or clean, not {}",
            verb.display()
        )),
    };
    match done {
        Ok(()) => 0,
        Err(message) => {
            say(&Started { error: Some(message) });
            1
        }
    }
}

/// libcontainer explains itself in its log alone. Not on stderr, which becomes the container's own.
fn trace_into(path: &Path) {
    if let Ok(file) = File::options().create(true).append(true).open(path) {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::WARN);
        let _ = subscriber.with_writer(Mutex::new(file)).try_init();
    }
}

/// Tells the node, which reads the first line of our output.
fn say(started: &Started) {
    let line = serde_json::to_string(started).unwrap_or_default();
    // Nobody may be listening any more.
    let _ = writeln!(io::stdout(), "{line}");
}

/// `run FOLDER`: the container's whole life.
fn run(folder: &Path) -> Result<(), String> {
    let order: Order = read(&folder.join(ORDER_FILE))?;
    setsid().map_err(because("leaving the session"))?;
    chdir(folder).map_err(because("entering the container's folder"))?;
    mount_rootfs(folder, &order.rootfs)?;
    let listener = UnixListener::bind(SOCKET).map_err(because("binding the shim's socket"))?;
    let log = LogFile::open(&order.log_path).map_err(because("opening the container's log"))?;
    let (ends, clients) = (Ends::open(&order)?, Clients::new());
    let mut container = ends
        .given_to(builder(folder, &order.id)?)?
        .as_init(folder.join(BUNDLE))
        .with_systemd(false)
        .build()
        .map_err(with_causes("creating the container"))?;
    let ours = ends.ours()?;
    let started = container.start().map_err(with_causes("starting the container"));
    let pid = container.pid().map(|pid| Pid::from_raw(pid.as_raw()));
    let (Ok(()), Some(pid)) = (&started, pid) else {
        let _ = container.delete(true);
        return started.and(Err("starting the container: it has no process".into()));
    };

    let alive = Arc::new(Mutex::new(true));
    let copies: Vec<_> = ours
        .outputs
        .into_iter()
        .map(|(output, stream)| copy(output, &log, stream, &clients))
        .collect();
    let orders = Arc::new(Orders {
        pid,
        stop_signal: order.stop_signal(),
        alive: Arc::clone(&alive),
        input: ours.input,
        clients,
    });
    thread::spawn(move || obey(&listener, &orders));
    say(&Started::default());

    let code = wait(pid, &alive)?;
    for copy in copies {
        let _ = copy.join();
    }
    let out_of_memory = cgroup::ran_out_of_memory(&order.id);
    let deleted = container
        .delete(true)
        .map_err(with_causes("deleting the container"));
    report(
        &folder.join(EXIT_FILE),
        &Report {
            code,
            out_of_memory,
            ..Report::default()
        },
    )?;
    deleted
}

/// Mounts the image's files with a writable layer on top, unseen by the rest of the machine.
fn mount_rootfs(folder: &Path, lower: &Path) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(because("making a mount namespace"))?;
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>).map_err(because("detaching mounts"))?;
    let target = folder.join(BUNDLE).join(spec::ROOTFS);
    for part in ["upper", "work"] {
        std::fs::create_dir_all(folder.join(part)).map_err(because("making the container's layer"))?;
    }
    std::fs::create_dir_all(&target).map_err(because("making the container's root"))?;
    // Relative names, as overlayfs takes ',' and ':' in its options for its own.
    let lower_name = folder.join("lower");
    files::remove(&lower_name).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink(lower, &lower_name).map_err(because("naming the image's files"))?;
    let options = "lowerdir=lower,upperdir=upper,workdir=work";
    let mounted = mount(
        Some("overlay"),
        &target,
        Some("overlay"),
        MsFlags::empty(),
        Some(options),
    );
    if mounted.is_ok() {
        return Ok(());
    }
    // No overlayfs here, or not on this file system: the container gets a copy.
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(lower.join("."))
        .arg(&target)
        .status();
    match copied {
        Ok(status) if status.success() => {}
        _ => {
            return Err(format!(
                "mounting the container's root: {mounted:?}; copying it: {copied:?}"
            ));
        }
    }
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&target), &target, None::<&str>, bind, None::<&str>)
        .map_err(because("binding the container's root"))
}

fn builder(folder: &Path, id: &str) -> Result<ContainerBuilder, String> {
    let state = folder.join(LIBCONTAINER);
    std::fs::create_dir_all(&state).map_err(because("making the container's state"))?;
    ContainerBuilder::new(id.to_owned(), SyscallType::default())
        .with_root_path(state)
        .map_err(with_causes("finding the container's state"))
}

/// Copies output to the log and to attached clients until nobody can write any more.
fn copy(
    mut source: File,
    log: &Arc<LogFile>,
    stream: Stream,
    clients: &Arc<Clients>,
) -> thread::JoinHandle<()> {
    let (mut target, clients) = (log.stream(stream), Arc::clone(clients));
    thread::spawn(move || {
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    // A full disk loses log lines, but must not stop the container.
                    let _ = target.write(&buffer[..count]);
                    clients.tell(stream, &buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A terminal ends so.
                Err(_) => return,
            }
        }
    })
}

/// What orders are carried out on.
struct Orders {
    pid: Pid,
    stop_signal: Signal,
    alive: Arc<Mutex<bool>>,
    input: Input,
    clients: Arc<Clients>,
}

/// Takes the node's orders. A connection also tells the node, by its end, that we are gone.
fn obey(listener: &UnixListener, orders: &Arc<Orders>) {
    for connection in listener.incoming().flatten() {
        let orders = Arc::clone(orders);
        thread::spawn(move || obey_one(connection, &orders));
    }
}

fn obey_one(connection: UnixStream, orders: &Orders) {
    let mut lines = BufReader::new(connection);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
        let signal = match line.trim_end() {
            "terminate" => orders.stop_signal,
            "kill" => Signal::SIGKILL,
            "attach" => {
                if let Ok(output) = lines.get_ref().try_clone() {
                    orders.clients.join(output);
                    orders.input.serve(&mut lines);
                }
                return;
            }
            _ => return,
        };
        line.clear();
        let alive = orders.alive.lock().unwrap_or_else(PoisonError::into_inner);
        if *alive {
            let _ = kill(orders.pid, signal);
        }
    }
}

/// Waits for our child. It is not signalled any more before its number can belong to another process.
fn wait(pid: Pid, alive: &Mutex<bool>) -> Result<i32, String> {
    waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        .map_err(because("waiting for the container"))?;
    *alive.lock().unwrap_or_else(PoisonError::into_inner) = false;
    match waitpid(pid, None).map_err(because("waiting for the container"))? {
        WaitStatus::Exited(_, code) => Ok(code),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        other => Err(format!("waiting for the container: {other:?}")),
    }
}

/// `exec FOLDER REPORT TIMEOUT_SECONDS COMMAND...`: runs a command in the container, on our own output.
fn exec(folder: &Path, args: &[String]) -> Result<(), String> {
    let [result, timeout_seconds, command @ ..] = args else {
        return Err("exec needs a report file, a timeout and a command".into());
    };
    let timeout_seconds: u64 = timeout_seconds.parse().map_err(because("reading the timeout"))?;
    let pid = tenant(folder, Path::new(result), command, null()?, None)?;
    let alive = Arc::new(Mutex::new(true));
    let timed_out = Arc::new(Mutex::new(false));
    if timeout_seconds > 0 {
        let (alive, timed_out) = (Arc::clone(&alive), Arc::clone(&timed_out));
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(timeout_seconds));
            let alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
            if *alive {
                *timed_out.lock().unwrap_or_else(PoisonError::into_inner) = true;
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
    }
    let code = wait(pid, &alive)?;
    let timed_out = *timed_out.lock().unwrap_or_else(PoisonError::into_inner);
    report(
        Path::new(result),
        &Report {
            code,
            timed_out,
            ..Report::default()
        },
    )
}

/// `session FOLDER REPORT CONSOLE COMMAND...`: runs a command in the container on our own streams, or on a
/// terminal whose master goes to the socket CONSOLE. Our output is the command's: failures are reported.
fn session(folder: &Path, args: &[String]) -> i32 {
    let [result, console, command @ ..] = args else {
        return 1;
    };
    let run = || -> Result<i32, String> {
        let stdin = File::from(own(&io::stdin())?);
        let console = Some(Path::new(console)).filter(|path| !path.as_os_str().is_empty());
        let pid = tenant(folder, Path::new(result), command, stdin, console)?;
        wait(pid, &Mutex::new(true))
    };
    let ended = match run() {
        Ok(code) => Report {
            code,
            ..Report::default()
        },
        Err(message) => Report {
            error: Some(message),
            ..Report::default()
        },
    };
    i32::from(report(Path::new(result), &ended).is_err())
}

/// Begins a command beside a container's process.
fn tenant(
    folder: &Path,
    result: &Path,
    command: &[String],
    stdin: File,
    console: Option<&Path>,
) -> Result<Pid, String> {
    let order: Order = read(&folder.join(ORDER_FILE))?;
    let process_file = result.with_extension("process");
    let mut config: serde_json::Value = read(&folder.join(BUNDLE).join("config.json"))?;
    config["process"]["args"] = serde_json::json!(command);
    config["process"]["terminal"] = console.is_some().into();
    spec::name_terminal(&mut config["process"]["env"], console.is_some());
    files::write_json(&process_file, &config["process"], Survives::Process)
        .map_err(|error| error.to_string())?;
    let mut builder = builder(folder, &order.id)?;
    builder = match console {
        Some(console) => builder.with_console_socket(Some(console)),
        None => builder
            .with_stdin(stdin)
            .with_stdout(own(&io::stdout())?)
            .with_stderr(own(&io::stderr())?),
    };
    let pid = builder
        .as_tenant()
        .with_detach(console.is_some())
        .with_process(Some(process_file))
        .build()
        .map_err(with_causes("running the command"))?;
    Ok(Pid::from_raw(pid.as_raw()))
}

fn own(descriptor: &dyn std::os::fd::AsFd) -> Result<OwnedFd, String> {
    descriptor
        .as_fd()
        .try_clone_to_owned()
        .map_err(because("copying a descriptor"))
}

/// Whether libcontainer still knows of a container in that folder.
pub(crate) fn has_state(folder: &Path) -> bool {
    std::fs::read_dir(folder.join(LIBCONTAINER)).is_ok_and(|mut entries| entries.next().is_some())
}

/// What libcontainer keeps of a container in that folder.
pub(crate) fn state_file(folder: &Path, id: &str) -> PathBuf {
    folder.join(LIBCONTAINER).join(id).join("state.json")
}

/// `clean FOLDER`: ends what a dead shim left running, and removes its cgroups.
fn clean(folder: &Path) -> Result<(), String> {
    let order: Order = read(&folder.join(ORDER_FILE))?;
    let state = folder.join(LIBCONTAINER).join(&order.id);
    if !state.exists() {
        return Ok(());
    }
    let mut container = Container::load(state).map_err(with_causes("finding the container"))?;
    container
        .delete(true)
        .map_err(with_causes("deleting the container"))
}

fn report(path: &Path, report: &Report) -> Result<(), String> {
    files::write_json(path, report, Survives::Process).map_err(|error| error.to_string())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let found = files::read_json(path).map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("{} is missing", path.display()))
}

pub(super) fn null() -> Result<File, String> {
    File::open("/dev/null").map_err(because("opening /dev/null"))
}

pub(super) fn because<E: std::fmt::Display>(context: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("{context}: {error}")
}

fn with_causes<E: std::error::Error>(context: &'static str) -> impl FnOnce(E) -> String {
    move |error| {
        let mut text = format!("{context}: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_understood() {
        for (text, signal) in [
            ("", Signal::SIGTERM),
            ("SIGQUIT", Signal::SIGQUIT),
            ("quit", Signal::SIGQUIT),
            ("3", Signal::SIGQUIT),
            ("nonsense", Signal::SIGTERM),
        ] {
            let none = PathBuf::new;
            let order = Order {
                id: String::new(),
                rootfs: none(),
                log_path: none(),
                stop_signal: text.into(),
                stdin: false,
                stdin_once: false,
                tty: false,
            };
            assert_eq!(order.stop_signal(), signal, "{text}");
        }
    }
}
