//! SPDY/3.1, the server's side: what kubectl and client-go speak to kubelets when they do not speak
//! WebSocket, and inside of WebSocket for port forwarding.
//!
//! The client opens streams, which we accept. There is no flow control, as the clients of this protocol know
//! none: a stream that is not read holds up its connection. Not here: pushed streams, settings, priorities.

mod frame;
mod headers;

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::frame::{Frame, HEAD_BYTES, Head, Kind};
pub(crate) use self::headers::Headers;
use self::headers::{Packer, Unpacker};
use super::channel::{FRAMES_MAX, Input, Outgoing, Output, linger};

/// Streams open on one connection at once.
const STREAMS_MAX: usize = 1024;
/// Streams that wait to be taken.
const ACCEPTS_MAX: usize = 16;
/// Bytes of a SYN_STREAM frame before its headers.
const SYN_BYTES: usize = 10;

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    #[error("a frame is shorter than it must be")]
    Short,
    #[error("unreadable headers: {0}")]
    Headers(&'static str),
    #[error("more than {STREAMS_MAX} streams")]
    Streams,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A stream that the client opened.
pub(crate) struct Stream {
    pub(crate) id: u32,
    headers: Headers,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

impl Stream {
    /// The value of a header, named in lower case; empty where it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// An accepted connection.
pub(crate) struct Connection {
    /// Streams as the client opens them; closed once it is gone.
    pub(crate) streams: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Outgoing>,
    /// Cancelled once the client is gone.
    pub(crate) gone: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Speaks SPDY on a connection.
    pub(crate) fn serve<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (read, write) = tokio::io::split(io);
        let (accepted, streams) = mpsc::channel(ACCEPTS_MAX);
        let (frames, outgoing) = mpsc::channel(FRAMES_MAX);
        let gone = CancellationToken::new();
        let writer = tokio::spawn(write_frames(write, outgoing));
        let reader = Reader {
            read,
            accepted,
            frames: frames.clone(),
            inputs: HashMap::new(),
            unpacker: Unpacker::new(),
            packer: Packer::new(),
            gone: gone.clone(),
        };
        tokio::spawn(reader.run());
        Self {
            streams,
            frames,
            gone,
            writer,
        }
    }

    /// Says that it is over, sends what waits, and closes.
    pub(crate) async fn close(self) {
        let away = Frame::GoAway { last_stream: 0 }.encode();
        let _ = self.frames.send(Outgoing::Bytes(away)).await;
        let _ = self.frames.send(Outgoing::End).await;
        let _ = self.writer.await;
        linger(&self.gone).await;
    }
}

/// A stream's data as frames.
pub(crate) fn data(stream: u32, bytes: Bytes, is_last: bool) -> Bytes {
    Frame::Data {
        stream,
        bytes,
        is_last,
    }
    .encode()
}

/// A stream's sudden end.
pub(crate) fn reset(stream: u32) -> Bytes {
    Frame::Reset { stream }.encode()
}

async fn write_frames(mut write: WriteHalf<impl AsyncWrite>, mut outgoing: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing::Bytes(frame)) = outgoing.recv().await {
        if write.write_all(&frame).await.is_err() {
            return;
        }
    }
    // Not shut down: the client closes once it has read to here.
    let _ = write.flush().await;
}

struct Reader<T> {
    read: ReadHalf<T>,
    accepted: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Outgoing>,
    inputs: HashMap<u32, mpsc::Sender<Bytes>>,
    unpacker: Unpacker,
    packer: Packer,
    gone: CancellationToken,
}

impl<T: AsyncRead + AsyncWrite> Reader<T> {
    async fn run(mut self) {
        let gone = self.gone.clone();
        let ended = gone.run_until_cancelled(async {
            loop {
                if let Err(error) = self.one().await {
                    return error;
                }
            }
        });
        if let Some(error) = ended.await {
            tracing::debug!(%error, "SPDY connection ended");
        }
        gone.cancel();
    }

    async fn one(&mut self) -> Result<(), SpdyError> {
        let mut head = [0; HEAD_BYTES];
        self.read.read_exact(&mut head).await?;
        let head = Head::parse(head)?;
        let mut payload = BytesMut::zeroed(head.payload_bytes);
        self.read.read_exact(&mut payload).await?;
        let payload = payload.freeze();
        match head.kind {
            Kind::Data(stream) => {
                if let Some(input) = self.inputs.get(&stream)
                    && !payload.is_empty()
                {
                    // Nobody may want it any more.
                    let _ = input.send(payload).await;
                }
                if head.is_last {
                    self.inputs.remove(&stream);
                }
            }
            Kind::SynStream => self.open(&payload, head.is_last).await?,
            Kind::Reset => {
                self.inputs.remove(&frame::number(&payload)?);
            }
            Kind::Ping => {
                let pong = Frame::Ping(frame::number(&payload)?).encode();
                let _ = self.frames.send(Outgoing::Bytes(pong)).await;
            }
            Kind::SynReply | Kind::Headers => {
                self.unpacker.unpack(payload.get(4..).ok_or(SpdyError::Short)?)?;
            }
            Kind::GoAway | Kind::Other => {}
        }
        Ok(())
    }

    async fn open(&mut self, payload: &[u8], is_last: bool) -> Result<(), SpdyError> {
        let id = frame::number(payload)?;
        let headers = self
            .unpacker
            .unpack(payload.get(SYN_BYTES..).ok_or(SpdyError::Short)?)?;
        self.inputs.retain(|_, input| !input.is_closed());
        if self.inputs.len() >= STREAMS_MAX {
            return Err(SpdyError::Streams);
        }
        let (sender, input) = mpsc::channel(FRAMES_MAX);
        if !is_last {
            self.inputs.insert(id, sender);
        }
        let reply = Frame::SynReply {
            stream: id,
            block: self.packer.pack(&[])?,
        };
        let _ = self.frames.send(Outgoing::Bytes(reply.encode())).await;
        let output = Output::spdy(id, self.frames.clone());
        let stream = Stream {
            id,
            headers,
            input,
            output,
        };
        let _ = self.accepted.send(stream).await;
        Ok(())
    }
}
