//! Connections of etcd 3.4's clients, which name a member by its whole URL (`etcdctl --cluster`).
//!
//! The `:authority` that such a client sends is `http://10.0.0.1:2379`. Go's HTTP/2 takes that, ours resets the
//! stream, since a URL is no authority. So the head of each connection is looked at: where its first header block
//! brings such an authority (a literal to be indexed, in HPACK's Huffman code, as Go's encoder sends it), the
//! scheme's `://` becomes `B--`, symbols of the same numbers of bits: no length changes, and nothing reads the
//! authority. Called by the listener; other encodings of it are left alone, and refused as before.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a connection within which its first header block lies: the preface and settings come before it.
const HEAD_BYTES: usize = 1024;

/// A literal `:authority` that is to be indexed.
const LITERAL: u8 = 0x41;

/// The bit that says that a string is in Huffman's code.
const HUFFMAN: u8 = 0x80;

/// `http://` and `https://` in that code, and what takes their place; of the last byte so many bits count.
const SCHEMES: [(Code, Code, u8); 2] = [
    (
        [0x9d, 0x29, 0xae, 0xe3, 0x0c, 0b0000_0000],
        [0x9d, 0x29, 0xae, 0xea, 0xcb, 0b0000_0000],
        0b1000_0000,
    ),
    (
        [0x9d, 0x29, 0xad, 0x17, 0x18, 0b0110_0000],
        [0x9d, 0x29, 0xad, 0x17, 0x56, 0b0101_1000],
        0b1111_1100,
    ),
];

type Code = [u8; 6];

/// A connection whose first authority may be a URL.
#[derive(Debug)]
pub(crate) struct UrlAuthority<T> {
    connection: T,
    /// Bytes of the head that were not looked at.
    left: usize,
}

impl<T> UrlAuthority<T> {
    pub(crate) fn new(connection: T) -> Self {
        Self {
            connection,
            left: HEAD_BYTES,
        }
    }
}

/// Makes an authority of the URL in a piece of a header block.
fn mend(piece: &mut [u8]) {
    /// The literal's first byte, its length, and the code.
    const FOUND_BYTES: usize = 8;
    for at in 0..piece.len().saturating_sub(FOUND_BYTES - 1) {
        if piece[at] != LITERAL || piece[at + 1] & HUFFMAN == 0 {
            continue;
        }
        let code = &mut piece[at + 2..at + FOUND_BYTES];
        for (url, authority, mask) in SCHEMES {
            if code[..5] == url[..5] && code[5] & mask == url[5] & mask {
                code[..5].copy_from_slice(&authority[..5]);
                code[5] = authority[5] & mask | code[5] & !mask;
                return;
            }
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for UrlAuthority<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(context, buffer))?;
        if self.left > 0 {
            let read = &mut buffer.filled_mut()[before..];
            mend(read);
            self.left = self.left.saturating_sub(read.len());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for UrlAuthority<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::mend;

    #[test]
    fn only_the_scheme_of_an_authority_is_touched() {
        // :method POST, then :authority of `http://1` and of `https://1`; "1" is five bits of 00001.
        let http = [0x83, 0x41, 0x86, 0x9d, 0x29, 0xae, 0xe3, 0x0c, 0x0f];
        let https = [0x83, 0x41, 0x87, 0x9d, 0x29, 0xad, 0x17, 0x18, 0x60, 0x7f];
        let (mut one, mut other) = (http, https);
        mend(&mut one);
        mend(&mut other);
        assert_eq!(one, [0x83, 0x41, 0x86, 0x9d, 0x29, 0xae, 0xea, 0xcb, 0x0f]);
        assert_eq!(
            other,
            [0x83, 0x41, 0x87, 0x9d, 0x29, 0xad, 0x17, 0x56, 0x58, 0x7f]
        );
        for left_alone in [
            vec![],
            vec![0x41],
            vec![0x41, 0x86, 0x9d],
            vec![0x41, 0x88, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            let mut piece = left_alone.clone();
            mend(&mut piece);
            assert_eq!(piece, left_alone);
        }
    }
}
