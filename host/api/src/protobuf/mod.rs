//! Bodies in Kubernetes' protobuf form, read into the same documents as JSON. Clients generated from Go
//! types send it for built-in kinds even where JSON would do (`kubectl create namespace` does).
//!
//! A body is `k8s\0` and a `runtime.Unknown` around the message. The table says for each message which JSON
//! member a field becomes; fields that it does not have are skipped, as protobuf wants it. Answers are
//! never written in this form: such clients accept JSON as well.

mod table;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capstan_kinds::schema;
use serde_json::{Map, Value, json};

use table::{Field, Shape, Type};
use wire::{Reader, Wire};

/// The media type.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages at most.
const DEPTH_MAX: usize = 64;

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
    let name = message_of(&api_version, &kind).ok_or_else(|| Problem::UnknownKind(kind.clone()))?;
    let mut document = message(name, raw, 0)?;
    document.insert("apiVersion".into(), api_version.into());
    document.insert("kind".into(), kind.into());
    Ok(Value::Object(document))
}

fn message_of(api_version: &str, kind: &str) -> Option<&'static str> {
    // Sent in the group and version of what is deleted.
    if kind == "DeleteOptions" {
        return Some("meta.v1.DeleteOptions");
    }
    let name = schema::definition_name(api_version, kind)?;
    let name = name
        .strip_prefix("io.k8s.api.")
        .or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."))?;
    table::fields(name).map(|_| name)
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Problem> {
    if depth > DEPTH_MAX {
        return Err(Problem::Malformed("messages are nested too deeply"));
    }
    let fields = table::fields(name).ok_or(Problem::Malformed("a message is not in the table"))?;
    let mut document = Map::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        let Some(field) = fields.iter().find(|field| field.number == number) else {
            continue;
        };
        add(&mut document, field, value, depth)?;
    }
    Ok(document)
}

fn add(
    document: &mut Map<String, Value>,
    field: &Field,
    value: Wire<'_>,
    depth: usize,
) -> Result<(), Problem> {
    match field.shape {
        Shape::Inline => {
            if let (Type::Message(name), Wire::Bytes(bytes)) = (&field.kind, value) {
                document.extend(message(name, bytes, depth + 1)?);
            }
        }
        Shape::Single => {
            let value = single(&field.kind, value, depth)?;
            if value.is_null() || (field.omits_zero && is_zero(&value)) {
                return Ok(());
            }
            document.insert(field.name.to_owned(), value);
        }
        Shape::List => {
            let list = document.entry(field.name).or_insert_with(|| json!([]));
            let Some(list) = list.as_array_mut() else {
                return Ok(());
            };
            match (&field.kind, value) {
                // Numbers may come packed.
                (Type::Integer, Wire::Bytes(packed)) => {
                    let mut packed = Reader::new(packed);
                    while let Some(number) = packed.packed_integer()? {
                        list.push(json!(number));
                    }
                }
                (kind, value) => list.push(single(kind, value, depth)?),
            }
        }
        Shape::Map => {
            let Wire::Bytes(entry) = value else {
                return Err(Problem::Malformed("a map's entry is no message"));
            };
            let (mut key, mut value) = (String::new(), zero(&field.kind));
            let mut entry = Reader::new(entry);
            while let Some((number, part)) = entry.field()? {
                match (number, part) {
                    (1, Wire::Bytes(bytes)) => key = wire::text(bytes)?,
                    (2, part) => value = single(&field.kind, part, depth)?,
                    _ => {}
                }
            }
            document.entry(field.name).or_insert_with(|| json!({}))[key] = value;
        }
    }
    Ok(())
}

fn single(kind: &Type, value: Wire<'_>, depth: usize) -> Result<Value, Problem> {
    Ok(match (kind, value) {
        (Type::Text, Wire::Bytes(bytes)) => Value::String(wire::text(bytes)?),
        (Type::Base64, Wire::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Type::Boolean, Wire::Integer(number)) => Value::Bool(number != 0),
        (Type::Integer, Wire::Integer(number)) => json!(number.cast_signed()),
        (Type::Double, Wire::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (Type::Message(name), Wire::Bytes(bytes)) => special(name, bytes, depth)?,
        _ => return Err(Problem::Malformed("a field has the wrong wire type")),
    })
}

/// Messages that are no objects in JSON.
fn special(name: &str, bytes: &[u8], depth: usize) -> Result<Value, Problem> {
    let mut reader = Reader::new(bytes);
    match name {
        "meta.v1.Time" | "meta.v1.MicroTime" => time(reader, name == "meta.v1.MicroTime"),
        "resource.Quantity" => match reader.field()? {
            Some((1, Wire::Bytes(bytes))) => Ok(Value::String(wire::text(bytes)?)),
            _ => Ok(json!("0")),
        },
        "intstr.IntOrString" => int_or_string(reader),
        "runtime.RawExtension" | "meta.v1.FieldsV1" => match reader.field()? {
            Some((1, Wire::Bytes(raw))) => {
                serde_json::from_slice(raw).map_err(|_| Problem::Malformed("an embedded object is no JSON"))
            }
            _ => Ok(Value::Null),
        },
        name if name.ends_with(".ExtraValue") => {
            let mut list = Vec::new();
            while let Some((_, value)) = reader.field()? {
                list.push(single(&Type::Text, value, depth)?);
            }
            Ok(Value::Array(list))
        }
        name => Ok(Value::Object(message(name, bytes, depth + 1)?)),
    }
}

fn time(mut reader: Reader<'_>, micros: bool) -> Result<Value, Problem> {
    let (mut seconds, mut nanos) = (0, 0);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Wire::Integer(number)) => seconds = number.cast_signed(),
            (2, Wire::Integer(number)) => nanos = i32::try_from(number.cast_signed()).unwrap_or(0),
            _ => {}
        }
    }
    // Go's zero time: years before 1970, or an empty message.
    if seconds <= 0 {
        return Ok(Value::Null);
    }
    let time = jiff::Timestamp::new(seconds, if micros { nanos } else { 0 });
    let time = time.map_err(|_| Problem::Malformed("a time is out of range"))?;
    Ok(Value::String(if micros {
        format!("{time:.6}")
    } else {
        time.to_string()
    }))
}

fn int_or_string(mut reader: Reader<'_>) -> Result<Value, Problem> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Wire::Integer(kind)) => is_text = kind == 1,
            (2, Wire::Integer(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = wire::text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

fn zero(kind: &Type) -> Value {
    match kind {
        Type::Text | Type::Base64 => json!(""),
        Type::Boolean => json!(false),
        Type::Integer | Type::Double => json!(0),
        Type::Message(_) => json!({}),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut head = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            head.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        head.push(length as u8);
        [&head, bytes].concat()
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &types), field(2, raw)].concat()
    }

    #[test]
    fn messages_become_the_documents_that_json_would_give() {
        let label = [field(1, b"k"), field(2, b"v")].concat();
        let metadata = [field(1, b"c"), field(3, b""), field(8, b""), field(11, &label)].concat();
        let data = [field(1, b"a"), field(2, b"")].concat();
        let raw = [field(1, &metadata), field(2, &data), field(15, b"later")].concat();
        assert_eq!(
            decode(&body("v1", "ConfigMap", &raw)).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": ""},
                "metadata": {"name": "c", "labels": {"k": "v"}},
            })
        );
        let options = decode(&body("apps/v1", "DeleteOptions", &[8, 0])).unwrap();
        assert_eq!(options["gracePeriodSeconds"], 0);
    }

    #[test]
    fn broken_bodies_are_refused() {
        assert!(matches!(decode(b"{}"), Err(Problem::Malformed(_))));
        assert!(matches!(
            decode(&body("v1", "Nothing", b"")),
            Err(Problem::UnknownKind(_))
        ));
        assert!(matches!(
            decode(&body("v1", "ConfigMap", &[10, 200])),
            Err(Problem::Malformed(_))
        ));
        assert!(matches!(
            decode(&body("v1", "ConfigMap", &[8, 1])),
            Err(Problem::Malformed(_))
        ));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = decode(&[MAGIC, &bytes].concat());
            for kind in ["Pod", "Service", "Event", "DeleteOptions"] {
                if let Ok(document) = decode(&body("v1", kind, &bytes)) {
                    assert_eq!(document["kind"], kind);
                }
            }
        }
    }
}
