//! Protobuf to the document that JSON would have given. Fields that the table does not have are skipped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::table::{Field, Form, Message, Shape, Type, message};
use super::wire::{self, Reader, Wire};
use super::{DOCUMENT_DEPTH_MAX, Problem, moment};

const DEEP: Problem = Problem::Malformed("it is nested too deeply");

/// Reads a message into a document whose outermost object stands `depth` levels deep.
pub(super) fn document(kind: &Message, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Problem> {
    let mut document = Map::new();
    read(&mut document, kind, bytes, depth)?;
    Ok(document)
}

/// As in Go, what is there already is kept where the message has nothing.
fn read(
    document: &mut Map<String, Value>,
    kind: &Message,
    bytes: &[u8],
    depth: usize,
) -> Result<(), Problem> {
    if depth > DOCUMENT_DEPTH_MAX {
        return Err(DEEP);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, value)) = reader.field()? {
        if let Some(field) = kind.field(number) {
            add(document, field, value, depth)?;
        }
    }
    Ok(())
}

fn add(
    document: &mut Map<String, Value>,
    field: &Field,
    value: Wire<'_>,
    depth: usize,
) -> Result<(), Problem> {
    match (field.shape, field.kind, value) {
        (Shape::Inline, Type::Message(inner), Wire::Bytes(bytes)) => {
            read(document, message(inner), bytes, depth)?;
        }
        (Shape::Single | Shape::Inline, kind, value) => {
            let value = single(kind, value, document.remove(field.member), depth + 1)?;
            let omitted = value.is_null() || (field.omits_zero && is_zero(kind, &value));
            if !omitted {
                document.insert(field.member.to_owned(), value);
            }
        }
        (Shape::List, kind, value) => {
            let list = document.entry(field.member).or_insert_with(|| json!([]));
            let Some(list) = list.as_array_mut() else {
                return Ok(());
            };
            match (kind, value) {
                (Type::Integer32 | Type::Integer64 | Type::Boolean, Wire::Bytes(packed)) => {
                    let mut packed = Reader::new(packed);
                    while let Some(number) = packed.packed_integer()? {
                        list.push(single(kind, Wire::Integer(number), None, depth + 2)?);
                    }
                }
                (kind, value) => list.push(single(kind, value, None, depth + 2)?),
            }
        }
        (Shape::Map, kind, value) => {
            let Wire::Bytes(entry) = value else {
                return Err(Problem::Malformed("a map's entry is no message"));
            };
            let (mut key, mut value) = (String::new(), None);
            let mut entry = Reader::new(entry);
            while let Some((number, part)) = entry.field()? {
                match (number, part) {
                    (1, Wire::Bytes(bytes)) => key = wire::text(bytes)?,
                    (2, part) => value = Some(single(kind, part, None, depth + 2)?),
                    _ => {}
                }
            }
            let map = document.entry(field.member).or_insert_with(|| json!({}));
            map[key] = value.unwrap_or_else(|| zero(kind));
        }
    }
    Ok(())
}

fn single(kind: Type, value: Wire<'_>, before: Option<Value>, depth: usize) -> Result<Value, Problem> {
    Ok(match (kind, value) {
        (Type::Text, Wire::Bytes(bytes)) => Value::String(wire::text(bytes)?),
        (Type::Base64, Wire::Bytes(bytes)) => Value::String(STANDARD.encode(bytes)),
        (Type::Boolean, Wire::Integer(number)) => Value::Bool(number != 0),
        (Type::Integer32, Wire::Integer(number)) => json!(number as i32),
        (Type::Integer64, Wire::Integer(number)) => json!(number.cast_signed()),
        (Type::Double, Wire::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (Type::Time | Type::MicroTime, Wire::Bytes(bytes)) => {
            json!(moment::decode(bytes, kind == Type::MicroTime)?)
        }
        (Type::Quantity, Wire::Bytes(bytes)) => match Reader::new(bytes).field()? {
            Some((1, Wire::Bytes(text))) if !text.is_empty() => Value::String(wire::text(text)?),
            _ => json!("0"),
        },
        (Type::NumberOrText, Wire::Bytes(bytes)) => number_or_text(bytes)?,
        (Type::Raw, Wire::Bytes(bytes)) => raw(bytes, depth)?,
        (Type::Message(inner), Wire::Bytes(bytes)) => whole(message(inner), bytes, before, depth)?,
        _ => return Err(Problem::Malformed("a field has the wrong wire type")),
    })
}

fn whole(kind: &Message, bytes: &[u8], before: Option<Value>, depth: usize) -> Result<Value, Problem> {
    let mut document = match before {
        Some(Value::Object(before)) if kind.form == Form::Object => before,
        _ => Map::new(),
    };
    read(&mut document, kind, bytes, depth)?;
    let mut take = |member: &str| document.remove(member);
    Ok(match kind.form {
        Form::Object => Value::Object(document),
        Form::List => take("items").unwrap_or_else(|| json!([])),
        Form::SchemaOrList => take("jSONSchemas").or_else(|| take("schema")).unwrap_or_default(),
        Form::SchemaOrTexts => take("property").or_else(|| take("schema")).unwrap_or_default(),
        Form::SchemaOrFlag => take("schema").unwrap_or_else(|| json!(take("allows") == Some(json!(true)))),
    })
}

/// The JSON, or the object in protobuf, that a message holds in its only field.
fn raw(bytes: &[u8], depth: usize) -> Result<Value, Problem> {
    let Some((1, Wire::Bytes(raw))) = Reader::new(bytes).field()? else {
        return Ok(Value::Null);
    };
    if raw.is_empty() {
        return Ok(Value::Null);
    }
    if raw.starts_with(super::MAGIC) {
        return super::decode_at(raw, depth);
    }
    let value = serde_json::from_slice(raw);
    let value = value.map_err(|_| Problem::Malformed("an embedded object is no JSON"))?;
    if depth + levels(&value) > DOCUMENT_DEPTH_MAX {
        return Err(DEEP);
    }
    Ok(value)
}

/// How deep a value is nested. The JSON reader has bounded it.
fn levels(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(levels).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

fn number_or_text(bytes: &[u8]) -> Result<Value, Problem> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, value)) = reader.field()? {
        match (field, value) {
            (1, Wire::Integer(kind)) => is_text = kind == 1,
            (2, Wire::Integer(value)) => number = value as i32,
            (3, Wire::Bytes(bytes)) => text = wire::text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

fn zero(kind: Type) -> Value {
    match kind {
        Type::Text | Type::Base64 => json!(""),
        Type::Boolean => json!(false),
        Type::Integer32 | Type::Integer64 | Type::Double | Type::NumberOrText => json!(0),
        Type::Quantity => json!("0"),
        Type::Time | Type::MicroTime | Type::Raw => Value::Null,
        Type::Message(inner) => match message(inner).form {
            Form::List => json!([]),
            _ => json!({}),
        },
    }
}

fn is_zero(kind: Type, value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(map) => map.is_empty() && kind != Type::Raw,
        _ => false,
    }
}
