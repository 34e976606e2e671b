//! A container's own streams in its shim, and the clients that are attached to them.
//!
//! Without clients, output goes to the log alone. A client that does not read for a while is cut off, as the
//! container waits for it. Input is taken from every client; with `stdin_once` it ends with the first.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::frame::{self, FRAME_BYTES_MAX, Kind};
use super::shim::{Order, because, null};
use super::terminal;
use crate::TerminalSize;
use crate::logs::Stream;

/// Clients attached to one container.
const CLIENTS_MAX: usize = 32;
/// A client that takes nothing for so long is cut off.
const CLIENT_STALL_MAX: Duration = Duration::from_secs(30);
/// The terminal's socket, in the container's folder.
const CONSOLE: &str = "console.sock";

/// The container's streams before it is created.
pub(super) struct Ends {
    stdin: Option<(File, OwnedFd)>,
    pipes: Option<[(OwnedFd, OwnedFd); 2]>,
    console: Option<UnixListener>,
    stdin_once: bool,
}

/// Our ends of them.
pub(super) struct Ours {
    pub(super) outputs: Vec<(File, Stream)>,
    pub(super) input: Input,
}

impl Ends {
    /// In the container's folder, where we are.
    pub(super) fn open(order: &Order) -> Result<Self, String> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(because("making a pipe"));
        let mut ends = Self {
            stdin: None,
            pipes: None,
            console: None,
            stdin_once: order.stdin_once,
        };
        if order.tty {
            let console = UnixListener::bind(CONSOLE).map_err(because("binding the console socket"))?;
            ends.console = Some(console);
            return Ok(ends);
        }
        if order.stdin {
            let (theirs, ours) = pipe()?;
            ends.stdin = Some((ours.into(), theirs));
        }
        ends.pipes = Some([pipe()?, pipe()?]);
        Ok(ends)
    }

    /// Tells the builder of the container's ends.
    pub(super) fn given_to(&self, builder: ContainerBuilder) -> Result<ContainerBuilder, String> {
        let copied = |fd: &OwnedFd| fd.try_clone().map_err(because("copying a descriptor"));
        let Some([stdout, stderr]) = &self.pipes else {
            let here = std::env::current_dir().map_err(because("naming the console socket"))?;
            return Ok(builder.with_console_socket(Some(here.join(CONSOLE))));
        };
        let stdin = match &self.stdin {
            Some((_, theirs)) => copied(theirs)?,
            None => null()?.into(),
        };
        Ok(builder
            .with_stdin(stdin)
            .with_stdout(copied(&stdout.1)?)
            .with_stderr(copied(&stderr.1)?))
    }

    /// Our ends, once the container is created.
    pub(super) fn ours(self) -> Result<Ours, String> {
        let once = self.stdin_once;
        if let Some(console) = self.console {
            let context = || because("taking the container's terminal");
            let (connection, _) = console.accept().map_err(context())?;
            let master = File::from(terminal::receive(&connection).map_err(context())?);
            let output = master.try_clone().map_err(context())?;
            return Ok(Ours {
                outputs: vec![(output, Stream::Stdout)],
                input: Input::new(Some(master), true, once),
            });
        }
        let [stdout, stderr] = self.pipes.ok_or("the container has no streams")?;
        Ok(Ours {
            outputs: vec![
                (File::from(stdout.0), Stream::Stdout),
                (File::from(stderr.0), Stream::Stderr),
            ],
            input: Input::new(self.stdin.map(|(ours, _)| ours), false, once),
        })
    }
}

/// The container's input.
pub(super) struct Input {
    /// None once it has ended.
    target: Mutex<Option<Arc<File>>>,
    is_terminal: bool,
    once: bool,
}

impl Input {
    fn new(target: Option<File>, is_terminal: bool, once: bool) -> Self {
        Self {
            target: Mutex::new(target.map(Arc::new)),
            is_terminal,
            once,
        }
    }

    fn target(&self) -> Option<Arc<File>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes one client's frames until it is gone.
    pub(super) fn serve(&self, client: &mut impl Read) {
        while let Ok((kind, bytes)) = frame::read(client) {
            let Some(target) = self.target() else {
                continue;
            };
            match (kind, bytes.as_slice()) {
                // Blocks while the container does not read, and with it this client alone.
                (Kind::Stdin, bytes) => drop((&*target).write_all(bytes)),
                (Kind::StdinEnd, _) if self.once && !self.is_terminal => {
                    drop(target);
                    *self.target.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                (Kind::Resize, &[w0, w1, h0, h1]) if self.is_terminal => {
                    let size = TerminalSize {
                        width: u16::from_be_bytes([w0, w1]),
                        height: u16::from_be_bytes([h0, h1]),
                    };
                    let _ = terminal::resize(&*target, size);
                }
                _ => {}
            }
        }
    }
}

/// Those who see the container's output.
pub(super) struct Clients(Mutex<Vec<UnixStream>>);

impl Clients {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    /// One more; it is told that it is attached, or cut off where there are too many.
    pub(super) fn join(&self, mut client: UnixStream) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let welcome = clients.len() < CLIENTS_MAX
            && client.set_write_timeout(Some(CLIENT_STALL_MAX)).is_ok()
            && client.write_all(&frame::encode(Kind::Attached, &[])).is_ok();
        if welcome {
            clients.push(client);
        } else {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Output for all of them.
    pub(super) fn tell(&self, stream: Stream, output: &[u8]) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.is_empty() {
            return;
        }
        let kind = match stream {
            Stream::Stdout => Kind::Stdout,
            Stream::Stderr => Kind::Stderr,
        };
        for piece in output.chunks(FRAME_BYTES_MAX) {
            let frame = frame::encode(kind, piece);
            clients.retain_mut(|client| {
                let taken = client.write_all(&frame).is_ok();
                if !taken {
                    let _ = client.shutdown(Shutdown::Both);
                }
                taken
            });
        }
    }
}
