//! Commands and attachments with live streams: the node's side of what the shims do.
//!
//! A command's shim has our pipes as its own streams, or hands us the terminal. Attached clients speak frames
//! with the shim of the container. What a command leaves on disk is removed when it ends, watched or not.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, FRAME_BYTES_MAX, HEAD_BYTES, Kind};
use super::shim::Report;
use super::terminal::{self, Terminal};
use super::{Oci, connect};
use crate::files;
use crate::session::RESIZES_MAX;
use crate::{Error, Result, Session, Streams, TerminalSize};

/// A command's terminal must come within this time, and a shim's word that a client is attached.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// Output that waits for a slow reader.
const PIPE_BYTES: usize = 64 * 1024;

impl Oci {
    /// Begins a command in a running container.
    pub(crate) async fn session(
        &self,
        folder: &Path,
        command: &[String],
        streams: Streams,
    ) -> Result<Session> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let report = folder.join(format!("exec-{name}.json"));
        let console = streams.tty.then(|| format!("console-{name}.sock"));
        let listener = match &console {
            Some(console) => Some(listen(folder, console).map_err(Error::io("making a console socket"))?),
            None => None,
        };
        let mut shim = self.shim("session", folder)?;
        shim.arg(&report)
            .arg(
                console
                    .as_ref()
                    .map_or_else(PathBuf::new, |name| folder.join(name)),
            )
            .args(command);
        let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        shim.stdin(piped(streams.stdin && !streams.tty))
            .stdout(piped(streams.stdout && !streams.tty))
            .stderr(piped(streams.stderr && !streams.tty));
        let mut child = shim.spawn().map_err(Error::io("starting the command's shim"))?;
        let mut session = Session {
            stdin: child.stdin.take().map(|pipe| Box::new(pipe) as _),
            stdout: child.stdout.take().map(|pipe| Box::new(pipe) as _),
            stderr: child.stderr.take().map(|pipe| Box::new(pipe) as _),
            resize: None,
            exit: futures::future::pending().boxed(),
        };
        let leftovers = [Some(report.clone()), console.map(|name| folder.join(name))];
        let (ended, exit) = oneshot::channel();
        let label = format!("{command:?}");
        if let Some(listener) = listener {
            tokio::select! {
                master = master(&listener) => connect_terminal(&mut session, master?, streams)?,
                code = wait(&mut child, &report, &label) => {
                    remove(&leftovers);
                    return Err(code.err().unwrap_or_else(|| {
                        Error::Container(format!("command {label}: it ended before it had a terminal"))
                    }));
                }
            }
        }
        tokio::spawn(async move {
            let code = wait(&mut child, &report, &label).await;
            remove(&leftovers);
            // Nobody may want to know any more.
            let _ = ended.send(code);
        });
        session.exit = exit.map(|code| code.unwrap_or_else(|_| Err(lost()))).boxed();
        Ok(session)
    }

    /// Attaches a client to a running container.
    pub(crate) async fn attach(&self, folder: &Path, streams: Streams) -> Result<Session> {
        let failed = || Error::io("attaching to the container");
        let mut connection = connect(folder).await.map_err(failed())?;
        let begun = async {
            connection.write_all(b"attach\n").await?;
            let mut start = [0; HEAD_BYTES];
            connection.read_exact(&mut start).await?;
            frame::head(start)
        };
        let begun = tokio::time::timeout(BEGIN_TIMEOUT, begun).await;
        match begun.map_err(|_| Error::Timeout("attaching to the container".into()))? {
            Ok((Kind::Attached, 0)) => {}
            Ok(_) => return Err(Error::Container("its shim does not know how to attach".into())),
            Err(source) => return Err(failed()(source)),
        }
        let (read, write) = connection.into_split();
        let (stdin, input) = duplex(PIPE_BYTES);
        let (stdout, output) = duplex(PIPE_BYTES);
        let (stderr, complaints) = duplex(PIPE_BYTES);
        let (resize, sizes) = mpsc::channel(RESIZES_MAX);
        tokio::spawn(give(streams.stdin.then_some(input), sizes, write));
        let (mut ended, exit) = oneshot::channel();
        let wanted = (streams.stdout.then_some(stdout), streams.stderr.then_some(stderr));
        tokio::spawn(async move {
            tokio::select! {
                () = take(read, wanted.0, wanted.1) => {}
                // The client is gone.
                () = ended.closed() => {}
            }
            let _ = ended.send(());
        });
        Ok(Session {
            stdin: streams.stdin.then(|| Box::new(stdin) as _),
            stdout: streams.stdout.then(|| Box::new(output) as _),
            stderr: streams.stderr.then(|| Box::new(complaints) as _),
            resize: streams.tty.then_some(resize),
            exit: exit.map(|_| Ok(0)).boxed(),
        })
    }
}

fn lost() -> Error {
    Error::Container("the command's end was not seen".into())
}

/// A socket in the container's folder, whose path may be longer than a socket address can be.
fn listen(folder: &Path, name: &str) -> std::io::Result<UnixListener> {
    let held = fs::File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", held.as_raw_fd()))
}

async fn master(listener: &UnixListener) -> Result<Terminal> {
    let context = || Error::io("taking the command's terminal");
    let accepted = tokio::time::timeout(BEGIN_TIMEOUT, listener.accept()).await;
    let (connection, _) = accepted
        .map_err(|_| Error::Timeout("the command's terminal".into()))?
        .map_err(context())?;
    let connection = connection.into_std().map_err(context())?;
    connection.set_nonblocking(false).map_err(context())?;
    connection
        .set_read_timeout(Some(BEGIN_TIMEOUT))
        .map_err(context())?;
    let received = tokio::task::spawn_blocking(move || terminal::receive(&connection)).await;
    let descriptor = received.map_err(|error| Error::Container(error.to_string()))?;
    Terminal::new(descriptor.map_err(context())?).map_err(context())
}

fn connect_terminal(session: &mut Session, terminal: Terminal, streams: Streams) -> Result<()> {
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(RESIZES_MAX);
    let resized = terminal.clone();
    tokio::spawn(async move {
        while let Some(size) = sizes.recv().await {
            if let Err(error) = resized.resize(size) {
                tracing::debug!(%error, "a terminal keeps its size");
            }
        }
    });
    session.resize = Some(resize);
    session.stdin = streams.stdin.then(|| Box::new(terminal.clone()) as _);
    if streams.stdout {
        session.stdout = Some(Box::new(terminal));
    } else {
        // Somebody must read it, or the command stands still.
        let mut unread = terminal;
        tokio::spawn(async move { tokio::io::copy(&mut unread, &mut tokio::io::sink()).await });
    }
    Ok(())
}

/// Waits for the command's shim and reads its report.
async fn wait(child: &mut Child, report: &Path, label: &str) -> Result<i32> {
    child.wait().await.map_err(Error::io("waiting for the command"))?;
    match files::read_json::<Report>(report)? {
        Some(Report {
            error: Some(message), ..
        }) => Err(Error::Container(format!("command {label}: {message}"))),
        Some(report) => Ok(report.code),
        None => Err(Error::Container(format!(
            "command {label}: its shim ended without a report"
        ))),
    }
}

fn remove(leftovers: &[Option<PathBuf>]) {
    for path in leftovers.iter().flatten() {
        for path in [path.clone(), path.with_extension("process")] {
            if let Err(error) = files::remove(&path) {
                tracing::debug!(%error, "what a command left is not removed");
            }
        }
    }
}

/// Passes a client's input on.
async fn give(
    mut input: Option<DuplexStream>,
    mut sizes: mpsc::Receiver<TerminalSize>,
    mut shim: OwnedWriteHalf,
) {
    let mut buffer = vec![0; FRAME_BYTES_MAX / 2];
    let mut may_resize = true;
    while input.is_some() || may_resize {
        let read = async {
            match &mut input {
                Some(input) => input.read(&mut buffer).await.unwrap_or(0),
                None => std::future::pending().await,
            }
        };
        let frame = tokio::select! {
            count = read => match count {
                0 => {
                    input = None;
                    frame::encode(Kind::StdinEnd, &[])
                }
                count => frame::encode(Kind::Stdin, &buffer[..count]),
            },
            size = sizes.recv(), if may_resize => match size {
                Some(size) => {
                    let [width, height] = [size.width.to_be_bytes(), size.height.to_be_bytes()];
                    frame::encode(Kind::Resize, &[width, height].concat())
                }
                None => {
                    may_resize = false;
                    continue;
                }
            },
        };
        if shim.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Sorts the container's output until its shim is gone or the client is.
async fn take(mut shim: OwnedReadHalf, mut stdout: Option<DuplexStream>, mut stderr: Option<DuplexStream>) {
    let mut start = [0; HEAD_BYTES];
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    while shim.read_exact(&mut start).await.is_ok() {
        let Ok((kind, length)) = frame::head(start) else {
            return;
        };
        if shim.read_exact(&mut buffer[..length]).await.is_err() {
            return;
        }
        let target = match kind {
            Kind::Stdout => &mut stdout,
            Kind::Stderr => &mut stderr,
            _ => continue,
        };
        if let Some(pipe) = target
            && pipe.write_all(&buffer[..length]).await.is_err()
        {
            *target = None;
        }
    }
}
