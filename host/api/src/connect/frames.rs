//! WebSocket frames, passed on one by one: each goes out by a write of its own, and so in a TLS record of its own.
//!
//! Clients exist that wait for their socket to become readable and then read one frame (the Python client): what
//! came in the same record is in their TLS library already, and they would wait until more arrives. Nothing else is
//! looked at, and what is no frame goes through as it is.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are read at once.
const BUFFER_BYTES: usize = 16 << 10;

/// Copies until `from` ends.
pub(super) async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
    // Bytes of the frame under way that have not gone out.
    let mut left = 0;
    loop {
        if left == 0 {
            left = length(&buffer).unwrap_or(0);
        }
        if left == 0 || buffer.is_empty() {
            buffer.reserve(BUFFER_BYTES);
            if from.read_buf(&mut buffer).await? == 0 {
                to.write_all(&buffer).await?;
                return to.flush().await;
            }
            continue;
        }
        let now = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        to.write_all(&buffer[..now]).await?;
        to.flush().await?;
        buffer.advance(now);
        left -= now as u64;
    }
}

/// Bytes of the frame that begins here, its head included; none until its head is whole.
fn length(bytes: &[u8]) -> Option<u64> {
    let second = *bytes.get(1)?;
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    let (head, payload) = match second & 0x7f {
        126 => (
            4,
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    Some(payload.saturating_add(head + mask))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl AsyncWrite for Writes {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<std::io::Result<usize>> {
            self.0.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn each_frame_is_written_by_itself() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let masked = [0x82, 0x81, 1, 2, 3, 4, 9];
        let frames = [
            &[0x82, 2, 1, 2][..],
            &[0x82, 0],
            &long,
            &masked,
            &[0x88, 2, 3, 232],
        ];
        let mut writes = Writes::default();
        copy(&mut frames.concat().as_slice(), &mut writes).await.unwrap();
        assert_eq!(writes.0, frames.map(<[u8]>::to_vec));
        // However it comes, it goes through.
        let (mut inner, mut outer) = tokio::io::duplex(3);
        let whole = frames.concat();
        let sent = whole.clone();
        tokio::spawn(async move {
            inner.write_all(&sent).await.unwrap();
            inner.write_all(&[0x82]).await.unwrap();
        });
        let mut writes = Writes::default();
        copy(&mut outer, &mut writes).await.unwrap();
        assert_eq!(writes.0.concat(), [&whole[..], &[0x82]].concat());
    }
}
