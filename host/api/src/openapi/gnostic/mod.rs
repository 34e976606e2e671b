//! OpenAPI documents in gnostic's protobuf, which client-go asks for: v2 and v3. Pure.
//!
//! A table (`table`) says of each message which member stands under which number and how; one walk writes any document.
//! What the messages do not have is left out. Values of any form (defaults, vendor extensions) are YAML text
//! in gnostic: JSON is that too.

mod table;

use serde_json::{Map, Value};

use self::table::Kind::{Any, Anys, Flag, FlagOr, Integer, Many, Named, Number, One, Scalar, Text, Texts};
use self::table::Shape::{In, OrReference, Parameter, SchemaV2, SchemaV3, Type};
use self::table::{
    BODY_PARAMETER, DOCUMENT_V2, DOCUMENT_V3, Kind, Message, PATH_PARAMETER, QUERY_PARAMETER,
    SCHEMA_V2_MESSAGE, SCHEMA_V3_MESSAGE, Shape,
};

/// A v2 document.
pub(super) fn v2(document: &Value) -> Vec<u8> {
    message(&DOCUMENT_V2, document)
}

/// A v3 document.
pub(super) fn v3(document: &Value) -> Vec<u8> {
    message(&DOCUMENT_V3, document)
}

fn message(message: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(members) = value.as_object() else {
        return out;
    };
    for (name, number, kind) in message.fields {
        if let Some(value) = members.get(*name) {
            member(&mut out, *number, *kind, value);
        }
    }
    extensions(&mut out, message.extensions, members);
    out
}

fn member(out: &mut Vec<u8>, number: u32, kind: Kind, value: &Value) {
    let list = || value.as_array().into_iter().flatten();
    match kind {
        Text => {
            if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
                bytes(out, number, text.as_bytes());
            }
        }
        Flag => {
            if value == true {
                flag(out, number, true);
            }
        }
        Integer => {
            if let Some(value) = value.as_i64().filter(|value| *value != 0) {
                tag(out, number, 0);
                varint(out, value as u64);
            }
        }
        Number => {
            if let Some(value) = value.as_f64().filter(|value| *value != 0.0) {
                double(out, number, value);
            }
        }
        Texts => list()
            .filter_map(Value::as_str)
            .for_each(|text| bytes(out, number, text.as_bytes())),
        Any => bytes(out, number, &any(value)),
        Anys => list().for_each(|one| bytes(out, number, &any(one))),
        One(shape) => bytes(out, number, &shaped(shape, value)),
        Many(shape) => list().for_each(|one| bytes(out, number, &shaped(shape, one))),
        Named(entry, shape) => bytes(out, number, &named(entry, shape, value)),
        FlagOr(shape) => {
            let mut inner = Vec::new();
            match value {
                Value::Bool(value) => flag(&mut inner, 2, *value),
                schema => bytes(&mut inner, 1, &shaped(shape, schema)),
            }
            bytes(out, number, &inner);
        }
        Scalar => {
            let mut inner = Vec::new();
            match value {
                Value::Number(value) => double(&mut inner, 1, value.as_f64().unwrap_or_default()),
                Value::Bool(value) => flag(&mut inner, 2, *value),
                Value::String(value) => bytes(&mut inner, 3, value.as_bytes()),
                _ => return,
            }
            bytes(out, number, &inner);
        }
    }
}

fn shaped(shape: Shape, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match shape {
        Shape::Message(kind) => return message(kind, value),
        SchemaV2 => return message(&SCHEMA_V2_MESSAGE, value),
        SchemaV3 => return shaped(OrReference(&SCHEMA_V3_MESSAGE), value),
        In(number, inner) => bytes(&mut out, number, &shaped(*inner, value)),
        Parameter => match value["in"].as_str() {
            Some("body") => bytes(&mut out, 1, &message(&BODY_PARAMETER, value)),
            place => {
                let (number, kind) = match place {
                    Some("path") => (4, &PATH_PARAMETER),
                    _ => (3, &QUERY_PARAMETER),
                };
                let mut inner = Vec::new();
                bytes(&mut inner, number, &message(kind, value));
                bytes(&mut out, 2, &inner);
            }
        },
        OrReference(kind) => match value["$ref"].as_str() {
            Some(reference) => {
                let mut inner = Vec::new();
                bytes(&mut inner, 1, reference.as_bytes());
                bytes(&mut out, 2, &inner);
            }
            None => bytes(&mut out, 1, &message(kind, value)),
        },
        Type => match value {
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .for_each(|text| bytes(&mut out, 1, text.as_bytes())),
            value => bytes(&mut out, 1, value.as_str().unwrap_or_default().as_bytes()),
        },
    }
    out
}

fn named(entry: u32, shape: Shape, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let mut pair = Vec::new();
        bytes(&mut pair, 1, name.as_bytes());
        bytes(&mut pair, 2, &shaped(shape, value));
        bytes(&mut out, entry, &pair);
    }
    out
}

fn extensions(out: &mut Vec<u8>, number: u32, members: &Map<String, Value>) {
    for (name, value) in members.iter().filter(|(name, _)| name.starts_with("x-")) {
        let mut pair = Vec::new();
        bytes(&mut pair, 1, name.as_bytes());
        bytes(&mut pair, 2, &any(value));
        bytes(out, number, &pair);
    }
}

fn any(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 2, format!("{value}\n").as_bytes());
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u8) {
    varint(out, u64::from(number) << 3 | u64::from(wire));
}

fn bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    tag(out, number, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn flag(out: &mut Vec<u8>, number: u32, value: bool) {
    tag(out, number, 0);
    out.push(u8::from(value));
}

fn double(out: &mut Vec<u8>, number: u32, value: f64) {
    tag(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The fields of a message, numbers with the raw content of those that have a length.
    fn fields(mut raw: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn varint(raw: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = raw[0];
                *raw = &raw[1..];
                value |= u64::from(byte & 0x7F) << shift;
                if byte < 0x80 {
                    return value;
                }
                shift += 7;
            }
        }
        let mut all = Vec::new();
        while !raw.is_empty() {
            let tag = varint(&mut raw);
            let length = match tag & 7 {
                0 => {
                    let value = varint(&mut raw);
                    all.push((tag >> 3, vec![value as u8]));
                    continue;
                }
                1 => 8,
                _ => varint(&mut raw) as usize,
            };
            all.push((tag >> 3, raw[..length].to_vec()));
            raw = &raw[length..];
        }
        all
    }

    fn at(raw: &[u8], path: &[u64]) -> Vec<u8> {
        path.iter().fold(raw.to_vec(), |raw, number| {
            let found = fields(&raw).into_iter().find(|(one, _)| one == number);
            found.unwrap_or_else(|| panic!("no {number} of {path:?}")).1
        })
    }

    #[test]
    fn members_stand_where_gnostic_looks_for_them() {
        let document = json!({
            "swagger": "2.0", "info": {"title": "K", "version": "v1"},
            "paths": {"/api/v1/x": {"get": {
                "operationId": "list", "x-kubernetes-action": "list",
                "parameters": [{"name": "body", "in": "body", "schema": {"$ref": "#/definitions/X"}},
                    {"name": "limit", "in": "query", "type": "integer", "uniqueItems": true}],
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/X"}}}}}},
            "definitions": {"X": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"},
                "default": {"b": 1}}}, "additionalProperties": false, "x-kubernetes-group-version-kind": [{"kind": "X"}]}},
        });
        let raw = v2(&document);
        let text = |path: &[u64]| String::from_utf8(at(&raw, path)).unwrap();
        assert_eq!(text(&[1]), "2.0");
        assert_eq!(text(&[8, 2, 1]), "/api/v1/x");
        let get = at(&raw, &[8, 2, 2, 2]);
        assert_eq!(at(&get, &[13, 2, 2]), b"\"list\"\n");
        assert_eq!(at(&get, &[8, 1, 1, 5, 1]), b"#/definitions/X");
        assert_eq!(at(&get, &[9, 1, 1]), b"200");
        assert_eq!(at(&get, &[9, 1, 2, 1, 2, 1, 1]), b"#/definitions/X");
        let query = fields(&get)
            .into_iter()
            .filter(|(number, _)| *number == 8)
            .nth(1)
            .unwrap()
            .1;
        assert_eq!(at(&query, &[1, 2, 3, 6]), b"integer");
        let x = at(&raw, &[9, 1, 2]);
        assert_eq!(at(&x, &[22, 1]), b"object");
        assert_eq!(at(&x, &[21, 2]), [0]);
        assert_eq!(at(&x, &[25, 1, 2, 23, 1, 22, 1]), b"string");
        assert_eq!(at(&x, &[25, 1, 2, 5, 2]), b"{\"b\":1}\n");
        let document = json!({"openapi": "3.0.0", "components": {"schemas": {"X": {
            "properties": {"a": {"$ref": "#/components/schemas/Y"}, "b": {"default": 1.5, "allOf": [{"$ref": "r"}]}}}}}});
        let raw = v3(&document);
        let x = at(&raw, &[5, 1, 1, 2, 1]);
        assert_eq!(at(&x, &[31, 1, 2, 2, 1]), b"#/components/schemas/Y");
        let b = fields(&at(&x, &[31])).pop().unwrap().1;
        assert_eq!(at(&b, &[2, 1, 33, 1]), 1.5_f64.to_le_bytes());
        assert_eq!(at(&b, &[2, 1, 26, 2, 1]), b"r");
    }
}
