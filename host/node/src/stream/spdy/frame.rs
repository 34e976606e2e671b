//! SPDY/3.1 frames as bytes. Pure.

use bytes::{BufMut, Bytes, BytesMut};

use super::SpdyError;

/// Bytes before a frame's payload.
pub(crate) const HEAD_BYTES: usize = 8;
/// Bytes of a payload at most; clients send a write of theirs as one frame.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;
const CONTROL: u16 = 0x8000;
const VERSION: u16 = 3;
/// The flag of the last frame of a direction.
const FIN: u8 = 1;

/// What a frame's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) is_last: bool,
    pub(crate) payload_bytes: usize,
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data(u32),
    SynStream,
    SynReply,
    Reset,
    Ping,
    GoAway,
    Headers,
    /// Settings, windows (which clients of this protocol do not keep) and what is not known.
    Other,
}

impl Head {
    pub(crate) fn parse(bytes: [u8; HEAD_BYTES]) -> Result<Self, SpdyError> {
        let [a, b, c, d, flags, length @ ..] = bytes;
        let payload_bytes = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(SpdyError::TooLong(payload_bytes));
        }
        let first = u16::from_be_bytes([a, b]);
        let kind = if first & CONTROL == 0 {
            Kind::Data(u32::from_be_bytes([a, b, c, d]))
        } else if first != CONTROL | VERSION {
            return Err(SpdyError::Version(first & !CONTROL));
        } else {
            match u16::from_be_bytes([c, d]) {
                1 => Kind::SynStream,
                2 => Kind::SynReply,
                3 => Kind::Reset,
                6 => Kind::Ping,
                7 => Kind::GoAway,
                8 => Kind::Headers,
                _ => Kind::Other,
            }
        };
        Ok(Self {
            kind,
            is_last: flags & FIN != 0,
            payload_bytes,
        })
    }
}

/// A stream's number at the start of a control frame's payload.
pub(crate) fn number(payload: &[u8]) -> Result<u32, SpdyError> {
    let (head, _) = payload.split_first_chunk::<4>().ok_or(SpdyError::Short)?;
    Ok(u32::from_be_bytes(*head) & 0x7fff_ffff)
}

/// What we send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Data {
        stream: u32,
        bytes: Bytes,
        is_last: bool,
    },
    SynReply {
        stream: u32,
        block: Vec<u8>,
    },
    Reset {
        stream: u32,
    },
    Ping(u32),
    GoAway {
        last_stream: u32,
    },
}

/// The status of a reset that ends a stream for good.
const CANCEL: u32 = 5;

impl Frame {
    pub(crate) fn encode(&self) -> Bytes {
        let (mut bytes, control) = (BytesMut::new(), |kind: u16, payload: usize| {
            let mut head = BytesMut::with_capacity(HEAD_BYTES + payload);
            head.put_u16(CONTROL | VERSION);
            head.put_u16(kind);
            head.put_u32(payload as u32);
            head
        });
        match self {
            Self::Data {
                stream,
                bytes: data,
                is_last,
            } => {
                bytes.reserve(HEAD_BYTES + data.len());
                bytes.put_u32(*stream);
                bytes.put_u32((u32::from(*is_last) << 24) | data.len() as u32);
                bytes.put_slice(data);
            }
            Self::SynReply { stream, block } => {
                bytes = control(2, 4 + block.len());
                bytes.put_u32(*stream);
                bytes.put_slice(block);
            }
            Self::Reset { stream } => {
                bytes = control(3, 8);
                bytes.put_u32(*stream);
                bytes.put_u32(CANCEL);
            }
            Self::Ping(id) => {
                bytes = control(6, 4);
                bytes.put_u32(*id);
            }
            Self::GoAway { last_stream } => {
                bytes = control(7, 8);
                bytes.put_u32(*last_stream);
                bytes.put_u32(0);
            }
        }
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_they_are_written() {
        let data = Frame::Data {
            stream: 5,
            bytes: Bytes::from_static(b"abc"),
            is_last: true,
        }
        .encode();
        let head = Head::parse(data[..HEAD_BYTES].try_into().unwrap()).unwrap();
        assert_eq!(
            (head.kind, head.is_last, head.payload_bytes),
            (Kind::Data(5), true, 3)
        );
        let away = Frame::GoAway { last_stream: 7 }.encode();
        let head = Head::parse(away[..HEAD_BYTES].try_into().unwrap()).unwrap();
        assert_eq!(
            (head.kind, head.is_last, head.payload_bytes),
            (Kind::GoAway, false, 8)
        );
        assert_eq!(number(&away[HEAD_BYTES..]).unwrap(), 7);
        assert!(Head::parse([0x80, 2, 0, 1, 0, 0, 0, 0]).is_err(), "SPDY/2");
        assert!(Head::parse([0, 0, 0, 1, 0, 0xff, 0, 0]).is_err(), "too long");
        assert!(number(&[1, 2]).is_err());
    }
}
