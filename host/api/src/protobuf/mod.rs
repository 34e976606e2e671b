//! Kubernetes' protobuf form of the built-in kinds, both ways: what clients with Go types send and prefer.
//!
//! A body is `k8s\0` and a `runtime.Unknown` around the message; a watch is frames of a length (4 bytes, big
//! endian) and a bare `metav1.WatchEvent` around such a body. One table of all messages drives a decoder
//! into documents and an encoder from their JSON text. Custom kinds, Tables and Plugins have no such form.
//! Both sides are pure, and bounded in depth and memory by their input.

mod decode;
mod encode;
mod moment;
mod table;
#[cfg(test)]
mod tests;
mod wire;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use table::Message;
use wire::{Reader, Wire, put_bytes, put_head, varint_bytes};

/// The media type.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Levels of objects and lists in a decoded document at most: what JSON readers take too.
const DOCUMENT_DEPTH_MAX: usize = 120;

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is no protobuf, or broken.
    Malformed(&'static str),
    /// The kind has no protobuf form here.
    UnknownKind(String),
}

/// Reads a body.
pub(crate) fn decode(body: &[u8]) -> Result<Value, Problem> {
    decode_at(body, 0)
}

fn decode_at(body: &[u8], depth: usize) -> Result<Value, Problem> {
    let body = body
        .strip_prefix(MAGIC)
        .ok_or(Problem::Malformed("it does not begin with k8s\\0"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(body);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Wire::Bytes(bytes)) => {
                let mut types = Reader::new(bytes);
                while let Some((number, value)) = types.field()? {
                    match (number, value) {
                        (1, Wire::Bytes(bytes)) => api_version = wire::text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = wire::text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let message = table::of_kind(&api_version, &kind).ok_or_else(|| Problem::UnknownKind(kind.clone()))?;
    let mut document = decode::document(message, raw, depth)?;
    document.insert("apiVersion".into(), api_version.into());
    document.insert("kind".into(), kind.into());
    Ok(Value::Object(document))
}

/// Whether a kind has a protobuf form.
pub(crate) fn has(api_version: &str, kind: &str) -> bool {
    table::of_kind(api_version, kind).is_some()
}

/// A kind that has a protobuf form.
#[derive(Debug, Clone)]
pub(crate) struct Codec {
    message: &'static Message,
    /// What stands before the length of the message in a body.
    head: Vec<u8>,
}

impl Codec {
    pub(crate) fn of(api_version: &str, kind: &str) -> Option<Self> {
        let message = table::of_kind(api_version, kind)?;
        let mut types = Vec::with_capacity(64);
        put_bytes(&mut types, 1, api_version.as_bytes());
        put_bytes(&mut types, 2, kind.as_bytes());
        let mut head = Vec::with_capacity(types.len() + 8);
        head.extend_from_slice(MAGIC);
        put_bytes(&mut head, 1, &types);
        Some(Self { message, head })
    }

    /// The body of a JSON document of this kind; fails where it is not JSON.
    pub(crate) fn body(&self, json: &[u8]) -> serde_json::Result<Bytes> {
        let mut message = Vec::with_capacity(json.len());
        encode::append(&mut message, self.message, json)?;
        let mut body = self.open(message.len());
        body.extend_from_slice(&message);
        body.extend_from_slice(TAIL);
        Ok(body.into())
    }

    /// The start of a body whose message has so many bytes. [`TAIL`] follows it.
    fn open(&self, message_bytes: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.head.len() + message_bytes + 16);
        body.extend_from_slice(&self.head);
        put_head(&mut body, 2, message_bytes);
        body
    }

    /// A JSON document of this kind as an item of its list.
    pub(crate) fn append_item(&self, out: &mut Vec<u8>, json: &[u8]) -> serde_json::Result<()> {
        let start = out.len();
        encode::append(out, self.message, json)?;
        // The head comes last, as it has the length, and is then turned to the front.
        let item = out.len();
        put_head(out, LIST_ITEMS, item - start);
        let head = out.len() - item;
        out[start..].rotate_right(head);
        Ok(())
    }

    /// What stands before and behind the items of a list of this (list) kind, which have so many bytes.
    pub(crate) fn around_items(
        &self,
        metadata: &Value,
        items_bytes: usize,
    ) -> serde_json::Result<(Bytes, Bytes)> {
        let list = serde_json::to_vec(&serde_json::json!({ "metadata": metadata }))?;
        let mut message = Vec::new();
        encode::append(&mut message, self.message, &list)?;
        let mut head = self.open(message.len() + items_bytes);
        head.extend_from_slice(&message);
        Ok((head.into(), Bytes::from_static(TAIL)))
    }
}

/// Number of the items in every list.
const LIST_ITEMS: u32 = 2;
/// Encoding and media type of what an Unknown holds: none, as Go writes it.
const TAIL: &[u8] = b"\x1a\0\"\0";

/// The body of a document of whatever kind it says it is; none where it has no protobuf form.
pub(crate) fn body(json: &[u8]) -> Option<Bytes> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Types {
        kind: String,
        api_version: Option<String>,
    }
    let types: Types = serde_json::from_slice(json).ok()?;
    // `APIVersions` says none.
    let api_version = types.api_version.unwrap_or_else(|| "v1".to_owned());
    Codec::of(&api_version, &types.kind)?.body(json).ok()
}

/// A frame of a watch.
pub(crate) fn frame(event: &str, body: &[u8]) -> Bytes {
    let object = 1 + varint_bytes(body.len() as u64) + body.len();
    let length = 2 + event.len() + 1 + varint_bytes(object as u64) + object;
    let mut frame = Vec::with_capacity(4 + length);
    // An object is far below 4 GiB.
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    put_bytes(&mut frame, 1, event.as_bytes());
    put_head(&mut frame, 2, object);
    put_bytes(&mut frame, 1, body);
    frame.into()
}
