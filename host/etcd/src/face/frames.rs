//! A range's answer on the wire, piece by piece: a gRPC message whose length is told before its keys are read.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

use crate::convert;
use crate::proto::etcdserverpb as pb;
use capstan_store::KeyValue;

/// A gRPC frame's flag and length.
pub(super) const FRAME_HEADER_BYTES: usize = 5;
/// The largest message that etcd sends.
const MESSAGE_BYTES_MAX: u64 = i32::MAX as u64;
const KVS_TAG: u32 = 2;

/// A `RangeResponse` without its `kvs`, which go between the two halves.
pub(super) struct Frame {
    pub(super) head: Bytes,
    pub(super) tail: Bytes,
}

/// The halves of an answer whose `kvs` take so many bytes, unless it is too large.
pub(super) fn frame(
    header: pb::ResponseHeader,
    more: bool,
    count: i64,
    kvs_bytes: u64,
) -> Result<Frame, u64> {
    let first = pb::RangeResponse {
        header: Some(header),
        ..pb::RangeResponse::default()
    };
    let last = pb::RangeResponse {
        more,
        count,
        ..pb::RangeResponse::default()
    };
    let own_bytes = first.encoded_len() + last.encoded_len();
    let message_bytes = kvs_bytes.saturating_add(own_bytes as u64);
    if message_bytes > MESSAGE_BYTES_MAX {
        return Err(message_bytes);
    }
    let mut head = BytesMut::with_capacity(FRAME_HEADER_BYTES + first.encoded_len());
    head.put_u8(0);
    head.put_u32(u32::try_from(message_bytes).unwrap_or(u32::MAX));
    first.encode_raw(&mut head);
    Ok(Frame {
        head: head.freeze(),
        tail: last.encode_to_vec().into(),
    })
}

/// A small message, framed.
pub(super) fn whole(message: &impl Message) -> Bytes {
    let message_bytes = message.encoded_len();
    let mut out = BytesMut::with_capacity(FRAME_HEADER_BYTES + message_bytes);
    out.put_u8(0);
    out.put_u32(u32::try_from(message_bytes).unwrap_or(u32::MAX));
    message.encode_raw(&mut out);
    out.freeze()
}

/// Bytes that a page takes as `kvs`.
pub(super) fn kvs_bytes(page: &[KeyValue]) -> u64 {
    page.iter()
        .map(|kv| kv_bytes(&convert::key_value(kv.clone())) as u64)
        .sum()
}

fn kv_bytes(kv: &crate::proto::mvccpb::KeyValue) -> usize {
    let length = kv.encoded_len();
    1 + encoded_len_varint(length as u64) + length
}

/// A page as `kvs`.
pub(super) fn encode_page(page: Vec<KeyValue>, out: &mut BytesMut) {
    for kv in page {
        let kv = convert::key_value(kv);
        out.reserve(kv_bytes(&kv));
        encode_key(KVS_TAG, WireType::LengthDelimited, out);
        encode_varint(kv.encoded_len() as u64, out);
        kv.encode_raw(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_message_as_a_whole() {
        let kv = |key: &'static [u8], value: usize| KeyValue {
            key: Bytes::from_static(key),
            value: vec![7; value].into(),
            create_revision: 2,
            mod_revision: 300,
            version: 9,
            lease: 0,
        };
        let header = pb::ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision: 301,
            raft_term: 3,
        };
        for kvs in [
            vec![],
            vec![kv(b"a", 0)],
            vec![kv(b"a", 1), kv(b"b", 127), kv(b"c", 70_000)],
        ] {
            let frame = frame(header, true, 9, kvs_bytes(&kvs)).expect("small");
            let mut sent = BytesMut::from(&frame.head[..]);
            encode_page(kvs.clone(), &mut sent);
            sent.extend_from_slice(&frame.tail);
            let whole = pb::RangeResponse {
                header: Some(header),
                kvs: kvs.into_iter().map(convert::key_value).collect(),
                more: true,
                count: 9,
            };
            assert_eq!(
                sent[1..5],
                u32::try_from(whole.encoded_len()).expect("small").to_be_bytes()
            );
            assert_eq!(sent[5..], whole.encode_to_vec());
        }
        assert!(frame(header, false, 0, MESSAGE_BYTES_MAX).is_err());
    }
}
