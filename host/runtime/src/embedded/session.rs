//! Live streams of this runtime's containers: which of them can have which.
//!
//! A component has no processes and takes no input: a client that attaches sees its output, and a command in
//! it is refused with what to do instead.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::container::Container;
use super::record::SandboxRecord;
use crate::logs::Stream;
use crate::oci::Oci;
use crate::{ContainerState, Duplex, Error, Result, SandboxState, Session, Streams};

/// A port must answer within this time.
const DIAL_MAX: Duration = Duration::from_secs(10);
/// Output that waits for a slow client.
const PIPE_BYTES: usize = 64 * 1024;

/// Refuses commands where there is nothing to run them among.
pub(super) fn has_processes(container: &Container) -> Result<()> {
    if !container.is_wasm() {
        return Ok(());
    }
    Err(Error::Unsupported(format!(
        "container {} is a Wasm component, which has no processes to run a command among; \
         use an httpGet or tcpSocket probe, or ask it over its port",
        container.status().metadata.name
    )))
}

fn runs(container: &Container) -> Result<()> {
    let status = container.status();
    match status.state {
        ContainerState::Running => Ok(()),
        state => Err(Error::Precondition(format!(
            "container {} is not running; it is {state:?}",
            status.metadata.name
        ))),
    }
}

pub(super) async fn exec(
    oci: &Oci,
    container: &Container,
    command: &[String],
    streams: Streams,
) -> Result<Session> {
    has_processes(container)?;
    runs(container)?;
    oci.session(&container.folder(), command, streams).await
}

pub(super) async fn attach(oci: &Oci, container: Arc<Container>, streams: Streams) -> Result<Session> {
    runs(&container)?;
    if !container.is_wasm() {
        return oci.attach(&container.folder(), streams).await;
    }
    let Some(log) = container.log() else {
        return Err(Error::Precondition("the component is still starting".into()));
    };
    let output = log.tap();
    let (stdout, theirs) = duplex(PIPE_BYTES);
    let (stderr, complaints) = duplex(PIPE_BYTES);
    let (mut ended, exit) = oneshot::channel();
    let wanted = (streams.stdout.then_some(stdout), streams.stderr.then_some(stderr));
    tokio::spawn(async move {
        tokio::select! {
            () = copy(output, &container, wanted.0, wanted.1) => {}
            () = ended.closed() => {}
        }
        let _ = ended.send(());
    });
    Ok(Session {
        stdin: None,
        stdout: streams.stdout.then(|| Box::new(theirs) as _),
        stderr: streams.stderr.then(|| Box::new(complaints) as _),
        resize: None,
        exit: exit.map(|_| Ok(0)).boxed(),
    })
}

/// Copies until the component has ended and its last words are said.
async fn copy(
    mut output: mpsc::Receiver<(Stream, Bytes)>,
    container: &Container,
    mut stdout: Option<DuplexStream>,
    mut stderr: Option<DuplexStream>,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = output.recv() => next,
            () = container.ended() => output.try_recv().ok(),
        };
        let Some((stream, bytes)) = next else { return };
        let pipe = match stream {
            Stream::Stdout => &mut stdout,
            Stream::Stderr => &mut stderr,
        };
        if let Some(open) = pipe
            && open.write_all(&bytes).await.is_err()
        {
            *pipe = None;
        }
    }
}

/// Connects to a port of a sandbox.
pub(super) async fn dial(sandbox: &SandboxRecord, port: u16) -> Result<Box<dyn Duplex>> {
    if sandbox.state != SandboxState::Ready {
        return Err(Error::Precondition(format!(
            "sandbox {} is not running",
            sandbox.id
        )));
    }
    let address: IpAddr = sandbox
        .ip
        .parse()
        .map_err(|_| Error::Precondition(format!("sandbox {} has no address", sandbox.id)))?;
    let context = format!(
        "failed to connect to {address}:{port} inside sandbox {}",
        sandbox.id
    );
    match tokio::time::timeout(DIAL_MAX, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(source)) => Err(Error::Io { context, source }),
        Err(_) => Err(Error::Timeout(context)),
    }
}
