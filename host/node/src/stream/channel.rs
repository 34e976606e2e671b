//! Streams of one connection, whatever carries them: where bytes from the client come in and where bytes for
//! it go out.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{spdy, websocket};

/// Messages that wait in one direction of a connection, or for the reader of one stream.
pub(crate) const FRAMES_MAX: usize = 16;
/// A client may take so long to close after the end.
const LINGER_MAX: Duration = Duration::from_secs(5);
/// Bytes sent to the client at once.
const COPY_BYTES: usize = 32 << 10;

/// Bytes from the client; closed at their end.
pub(crate) type Input = mpsc::Receiver<Bytes>;

/// What waits to be sent on a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Bytes(Bytes),
    /// Nothing follows: close.
    End,
}

/// The client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// Bytes for the client. Sending waits for the connection.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    carrier: Carrier,
    messages: mpsc::Sender<Outgoing>,
}

#[derive(Debug, Clone, Copy)]
enum Carrier {
    Spdy(u32),
    WebSocket { channel: u8, base64: bool },
}

impl Output {
    pub(crate) fn spdy(stream: u32, messages: mpsc::Sender<Outgoing>) -> Self {
        Self {
            carrier: Carrier::Spdy(stream),
            messages,
        }
    }

    pub(crate) fn websocket(channel: u8, base64: bool, messages: mpsc::Sender<Outgoing>) -> Self {
        Self {
            carrier: Carrier::WebSocket { channel, base64 },
            messages,
        }
    }

    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        let message = match self.carrier {
            Carrier::Spdy(stream) => spdy::data(stream, bytes, false),
            Carrier::WebSocket { channel, base64 } => websocket::message(channel, base64, &bytes),
        };
        self.messages
            .send(Outgoing::Bytes(message))
            .await
            .map_err(|_| Gone)
    }

    /// Its end, where the carrier has one for each stream.
    pub(crate) async fn close(&self) {
        if let Carrier::Spdy(stream) = self.carrier {
            let last = spdy::data(stream, Bytes::new(), true);
            let _ = self.messages.send(Outgoing::Bytes(last)).await;
        }
    }

    /// A sudden end, where the carrier has one for each stream.
    pub(crate) async fn reset(&self) {
        if let Carrier::Spdy(stream) = self.carrier {
            let _ = self.messages.send(Outgoing::Bytes(spdy::reset(stream))).await;
        }
    }
}

/// Leaves a client time to read the last words before the connection goes.
pub(crate) async fn linger(gone: &CancellationToken) {
    let _ = tokio::time::timeout(LINGER_MAX, gone.cancelled()).await;
    gone.cancel();
}

/// Copies what comes to the client, until its end.
pub(crate) async fn copy_out(mut source: impl AsyncRead + Unpin, target: &Output) -> Result<(), Gone> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match source.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => target.send(Bytes::copy_from_slice(&buffer[..count])).await?,
        }
    }
}

/// Copies what the client sends, until its end, and passes the end on.
pub(crate) async fn copy_in(mut source: Input, mut target: impl AsyncWrite + Unpin) {
    while let Some(bytes) = source.recv().await {
        if target.write_all(&bytes).await.is_err() || target.flush().await.is_err() {
            return;
        }
    }
    let _ = target.shutdown().await;
}
