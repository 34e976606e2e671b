//! WebSocket carrying channels: each message begins with the number of its channel, as a byte or, in the
//! base64 variants, as a digit. `v5` clients end a channel by a message of 255 and its number.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::channel::{FRAMES_MAX, Input, Outgoing, Output, linger};

/// Bytes of one message from a client.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// A message that ends a channel begins so.
const CLOSE_SIGNAL: u8 = 255;
/// Bytes of a tunnel that wait in each direction.
const TUNNEL_BYTES: usize = 64 << 10;

/// How a negotiated subprotocol writes messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Coding {
    pub(crate) base64: bool,
    /// Whether clients may end a channel.
    pub(crate) closes: bool,
}

/// An accepted connection and its channels.
pub(crate) struct Channels {
    coding: Coding,
    inputs: Vec<Option<Input>>,
    messages: mpsc::Sender<Outgoing>,
    /// Cancelled once the client is gone.
    pub(crate) gone: CancellationToken,
    writer: tokio::task::JoinHandle<()>,
}

async fn accept<T>(io: T) -> WebSocketStream<T>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

impl Channels {
    /// Speaks WebSocket on an upgraded connection; `readable` says which channels bring bytes.
    pub(crate) async fn serve<T>(io: T, coding: Coding, readable: &[bool]) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sink, stream) = accept(io).await.split();
        let (senders, inputs): (Vec<_>, Vec<_>) = readable
            .iter()
            .map(|wanted| wanted.then(|| mpsc::channel(FRAMES_MAX)).unzip())
            .unzip();
        let (messages, outgoing) = mpsc::channel(FRAMES_MAX);
        let gone = CancellationToken::new();
        let writer = tokio::spawn(write(sink, outgoing, coding));
        let (closed, left) = (gone.clone(), gone.clone());
        tokio::spawn(async move {
            left.run_until_cancelled(read(stream, senders, coding)).await;
            closed.cancel();
        });
        Self {
            coding,
            inputs,
            messages,
            gone,
            writer,
        }
    }

    /// What comes in on a readable channel; to be taken once.
    pub(crate) fn input(&mut self, channel: usize) -> Option<Input> {
        self.inputs.get_mut(channel)?.take()
    }

    pub(crate) fn output(&self, channel: u8) -> Output {
        Output::websocket(channel, self.coding.base64, self.messages.clone())
    }

    /// Sends what waits and closes in good order.
    pub(crate) async fn close(self) {
        let _ = self.messages.send(Outgoing::End).await;
        let _ = self.writer.await;
        linger(&self.gone).await;
    }
}

/// A message of a channel; of the base64 variants it is text.
pub(crate) fn message(channel: u8, base64: bool, bytes: &[u8]) -> Bytes {
    if base64 {
        return Bytes::from(format!(
            "{}{}",
            char::from(b'0' + channel),
            STANDARD.encode(bytes)
        ));
    }
    let mut message = BytesMut::with_capacity(1 + bytes.len());
    message.put_u8(channel);
    message.put_slice(bytes);
    message.freeze()
}

async fn write<T>(
    mut sink: SplitSink<WebSocketStream<T>, Message>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    coding: Coding,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Outgoing::Bytes(bytes)) = outgoing.recv().await {
        let message = match (coding.base64, String::from_utf8(bytes.to_vec())) {
            (true, Ok(text)) => Message::text(text),
            _ => Message::Binary(bytes),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let normal = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let _ = sink.send(Message::Close(Some(normal))).await;
    let _ = sink.close().await;
}

/// Hands messages to their channels until the client is gone.
async fn read<T>(
    mut stream: SplitStream<WebSocketStream<T>>,
    mut channels: Vec<Option<mpsc::Sender<Bytes>>>,
    coding: Coding,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        let message = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Close(_) => return,
            _ => continue,
        };
        let Some((&first, _)) = message.split_first() else {
            continue;
        };
        if coding.closes && first == CLOSE_SIGNAL {
            match message
                .get(1)
                .and_then(|channel| channels.get_mut(usize::from(*channel)))
            {
                Some(channel) if message.len() == 2 => *channel = None,
                _ => return,
            }
            continue;
        }
        let channel = if coding.base64 {
            first.wrapping_sub(b'0')
        } else {
            first
        };
        let Some(Some(target)) = channels.get(usize::from(channel)) else {
            continue;
        };
        let bytes = match coding.base64 {
            false => message.slice(1..),
            true => match STANDARD.decode(&message[1..]) {
                Ok(bytes) => bytes.into(),
                Err(_) => continue,
            },
        };
        if !bytes.is_empty() {
            // Nobody may want it any more.
            let _ = target.send(bytes).await;
        }
    }
}

/// The bytes of all messages as one stream both ways, for a protocol inside of WebSocket.
pub(crate) async fn tunnel<T>(io: T) -> DuplexStream
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, mut stream) = accept(io).await.split();
    let (ours, theirs) = duplex(TUNNEL_BYTES);
    let (mut from_inner, mut to_inner) = tokio::io::split(theirs);
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Close(_) => break,
                _ => continue,
            };
            if to_inner.write_all(&bytes).await.is_err() {
                return;
            }
        }
        let _ = to_inner.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        while from_inner
            .read_buf(&mut buffer)
            .await
            .is_ok_and(|count| count > 0)
        {
            if sink.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    });
    ours
}
