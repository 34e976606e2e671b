//! What goes over a shim's socket once a client is attached: frames of a kind, a length and bytes.
//!
//! Pure encoding, used on both sides: the shim's blocking one and the node's.

use std::io::{self, Read};

/// A frame's kind and length.
pub(crate) const HEAD_BYTES: usize = 5;
/// Bytes of one frame at most.
pub(crate) const FRAME_BYTES_MAX: usize = 64 * 1024;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the shim: input, its end, a terminal's size (width and height, two bytes each).
    Stdin = 0,
    StdinEnd = 1,
    Resize = 2,
    /// From the shim: the client is attached; output.
    Attached = 3,
    Stdout = 4,
    Stderr = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [
            Self::Stdin,
            Self::StdinEnd,
            Self::Resize,
            Self::Attached,
            Self::Stdout,
            Self::Stderr,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// A frame as bytes.
pub(crate) fn encode(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    debug_assert!(bytes.len() <= FRAME_BYTES_MAX);
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
    frame.push(kind as u8);
    frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// A frame's kind and how many bytes follow its head.
pub(crate) fn head(bytes: [u8; HEAD_BYTES]) -> io::Result<(Kind, usize)> {
    let [kind, length @ ..] = bytes;
    let length = u32::from_be_bytes(length) as usize;
    match Kind::of(kind) {
        Some(kind) if length <= FRAME_BYTES_MAX => Ok((kind, length)),
        _ => Err(io::Error::other(format!(
            "a frame of kind {kind} with {length} bytes makes no sense"
        ))),
    }
}

/// Reads one frame; blocking.
pub(crate) fn read(source: &mut impl Read) -> io::Result<(Kind, Vec<u8>)> {
    let mut start = [0; HEAD_BYTES];
    source.read_exact(&mut start)?;
    let (kind, length) = head(start)?;
    let mut bytes = vec![0; length];
    source.read_exact(&mut bytes)?;
    Ok((kind, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back() {
        let sent = encode(Kind::Stderr, b"oops");
        assert_eq!(
            read(&mut sent.as_slice()).unwrap(),
            (Kind::Stderr, b"oops".to_vec())
        );
        assert!(read(&mut &sent[..6]).is_err());
        assert!(head([9, 0, 0, 0, 1]).is_err());
        assert!(head([0, 0xff, 0, 0, 0]).is_err());
    }
}
