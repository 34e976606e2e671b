//! Bodies: JSON, YAML or protobuf to a document, with the fields that stand twice in it.
//!
//! Duplicates are seen while decoding, by a visitor of our own; unknown fields and wrong types are looked
//! up in the kind's schema. What becomes of both is the request's `fieldValidation`.

use std::fmt;

use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_kinds::validate;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::syntax;
use crate::call::{Call, FieldValidation};
use crate::negotiate::{JSON, YAML, content_type};
use crate::protobuf::{self, PROTOBUF, Problem};
use crate::refusal::Refusal;

/// Duplicate fields that are reported at most.
const DUPLICATES_MAX: usize = 32;

/// A document and the paths of the fields that stand in it twice.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub object: Value,
    pub duplicates: Vec<String>,
}

/// Bytes of a body that cannot be read, which are shown.
const SHOWN_BYTES: usize = 30;

/// Reads a body by its media type.
pub(crate) fn decode(media: &str, body: &[u8]) -> Result<Decoded, Refusal> {
    match media {
        JSON => json(body),
        YAML | "application/x-yaml" | "text/yaml" => yaml(body),
        PROTOBUF => protobuf::decode(body)
            .map(|object| Decoded {
                object,
                duplicates: Vec::new(),
            })
            .map_err(|problem| {
                Refusal::from(match problem {
                    Problem::Malformed(what) => {
                        Status::bad_request(format!("the body is not valid Kubernetes protobuf: {what}"))
                    }
                    Problem::UnknownKind(_) => Status::unsupported_media_type(&[JSON, YAML]),
                })
            }),
        _ => Err(Status::unsupported_media_type(&[JSON, YAML, PROTOBUF]).into()),
    }
}

fn json(body: &[u8]) -> Result<Decoded, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let decoded = read(&mut reader).and_then(|decoded| reader.end().map(|()| decoded));
    decoded.map_err(|error| {
        let why = syntax::problem(body).unwrap_or_else(|| error.to_string());
        Status::bad_request(format!("couldn't get version/kind; json parse error: {why}")).into()
    })
}

fn yaml(body: &[u8]) -> Result<Decoded, Refusal> {
    let decoded = read(serde_norway::Deserializer::from_slice(body));
    decoded.map_err(|error| Status::bad_request(format!("the body is not valid YAML: {error}")).into())
}

fn read<'de, D: Deserializer<'de>>(reader: D) -> Result<Decoded, D::Error> {
    let mut duplicates = Vec::new();
    let mut path = String::new();
    let object = Node {
        path: &mut path,
        duplicates: &mut duplicates,
    }
    .deserialize(reader)?;
    Ok(Decoded { object, duplicates })
}

struct Node<'a> {
    path: &'a mut String,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        let length = self.path.len();
        loop {
            if list.len() < 1000 {
                self.path.push_str(&format!("[{}]", list.len()));
            }
            let item = items.next_element_seed(Node {
                path: self.path,
                duplicates: self.duplicates,
            })?;
            self.path.truncate(length);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let length = self.path.len();
        while let Some(Key(key)) = members.next_key()? {
            if length > 0 {
                self.path.push('.');
            }
            self.path.push_str(&key);
            if map.contains_key(&key) && self.duplicates.len() < DUPLICATES_MAX {
                self.duplicates.push(self.path.clone());
            }
            let value = members.next_value_seed(Node {
                path: self.path,
                duplicates: self.duplicates,
            })?;
            self.path.truncate(length);
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// A member's name; YAML may have numbers and booleans there.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_str<E>(self, value: &str) -> Result<Key, E> {
                Ok(Key(value.to_owned()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Key, E> {
                Ok(Key(value.to_string()))
            }
        }
        reader.deserialize_any(Name)
    }
}

/// Reads the request's object: of the right kind, with right types, its unknown and duplicate fields
/// refused, warned about or dropped, as asked.
pub(crate) fn object(call: &mut Call) -> Result<Value, Refusal> {
    let decoded = decode(content_type(&call.headers), &call.body);
    let Decoded {
        mut object,
        duplicates,
    } = decoded.map_err(|refusal| unrecognized(&call.resource, &call.body, refusal))?;
    of_kind(&call.resource, &mut object)?;
    checked(call, &object, duplicates)?;
    Ok(object)
}

/// A body that is no object at all: what was to be there, and how it begins.
fn unrecognized(resource: &Resource, body: &[u8], mut refusal: Refusal) -> Refusal {
    if refusal.code == 400 {
        let start = &body[..body.len().min(SHOWN_BYTES)];
        let shown = match body.first() {
            None => "<empty>".to_owned(),
            Some(b'{') => String::from_utf8_lossy(start).into_owned(),
            Some(_) => start.iter().map(|byte| format!("{byte:02x}")).collect(),
        };
        let more = if body.len() > SHOWN_BYTES { " ..." } else { "" };
        refusal.message = format!(
            "the object provided is unrecognized (must be of type {}): {} ({shown}{more})",
            resource.kind, refusal.message
        );
    }
    refusal
}

/// Sets or checks `kind` and `apiVersion`.
pub(crate) fn of_kind(resource: &Resource, object: &mut Value) -> Result<(), Refusal> {
    let Some(document) = object.as_object_mut() else {
        return Err(
            Status::bad_request("the body must be a JSON object with apiVersion, kind and metadata").into(),
        );
    };
    let expected = resource.api_version();
    let sent = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default();
    let (version, kind) = (sent("apiVersion"), sent("kind"));
    if !kind.is_empty() && kind != resource.kind {
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: no kind \"{kind}\" is served at this path",
            resource.kind
        ))
        .into());
    }
    if !version.is_empty() && version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({version}) does not match the expected API version ({expected})"
        ))
        .into());
    }
    document.insert("apiVersion".into(), expected.into());
    document.insert("kind".into(), resource.kind.clone().into());
    if !document.get("metadata").is_some_and(Value::is_object) {
        document.insert("metadata".into(), Value::Object(Map::new()));
    }
    Ok(())
}

/// Types, and fields that do not belong.
pub(crate) fn checked(call: &mut Call, object: &Value, duplicates: Vec<String>) -> Result<(), Refusal> {
    validate::types(&call.resource, object).map_err(Status::bad_request)?;
    let mode = call.field_validation()?;
    if mode == FieldValidation::Ignore {
        return Ok(());
    }
    let unknown = validate::unknown_fields(&call.resource, object);
    let texts: Vec<String> = unknown
        .iter()
        .map(|path| format!("unknown field \"{path}\""))
        .chain(
            duplicates
                .iter()
                .map(|path| format!("duplicate field \"{path}\"")),
        )
        .collect();
    if texts.is_empty() {
        return Ok(());
    }
    if mode == FieldValidation::Strict {
        let kind = &call.resource.kind;
        let version = &call.resource.version;
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: strict decoding error: {}",
            texts.join(", ")
        ))
        .into());
    }
    for text in texts {
        call.warn(text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn duplicates_are_found_in_json_and_yaml() {
        let body = br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#;
        let decoded = decode(JSON, body).unwrap();
        assert_eq!(decoded.object, json!({"a": 3, "b": [{"c": 2}]}));
        assert_eq!(decoded.duplicates, ["b[0].c", "a"]);
        let decoded = decode(YAML, b"x: 1\n8080: true\nn: ~\nf: 1.5\n").unwrap();
        assert_eq!(decoded.object, json!({"x": 1, "8080": true, "n": null, "f": 1.5}));
        assert_eq!(decode(PROTOBUF, b"k8s").unwrap_err().code, 400);
        assert_eq!(decode("application/cbor", b"").unwrap_err().code, 415);
        assert_eq!(decode(JSON, b"{\"a\":1} x").unwrap_err().code, 400);
    }
}
