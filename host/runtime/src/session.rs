//! Live streams to and from what runs in a container: a command, the container's own process, a port.
//!
//! In CRI these are URLs of a streaming server; in one process they are the streams themselves. Dropping a
//! [`Session`] closes its streams and ends nothing: a command then sees the end of its input, and a broken
//! pipe at its next output. Made by both runtimes, used by the kubelet alone.

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::Result;

/// Bytes from a container.
pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to a container; shutting it down ends the container's input.
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Which streams are wanted. With a terminal there is no stderr of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// Sizes of a terminal that wait to be set.
pub(crate) const RESIZES_MAX: usize = 8;

/// The streams of a command or container.
pub struct Session {
    /// Its input, where asked for.
    pub stdin: Option<Writer>,
    /// Its output, where asked for; with a terminal all of it.
    pub stdout: Option<Reader>,
    /// Its complaints, where asked for.
    pub stderr: Option<Reader>,
    /// Where its terminal's size is told, if it has one.
    pub resize: Option<mpsc::Sender<TerminalSize>>,
    /// How it ends: the exit code of a command; 0 when the container to which one was attached is gone.
    pub exit: BoxFuture<'static, Result<i32>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .field("resize", &self.resize.is_some())
            .finish_non_exhaustive()
    }
}
