//! OpenAPI documents in gnostic's protobuf, which client-go asks for: v2 and v3. Pure.
//!
//! A table says of each message which member stands under which number and how; one walk writes any document.
//! What the messages do not have is left out. Values of any form (defaults, vendor extensions) are YAML text
//! in gnostic: JSON is that too.

use serde_json::{Map, Value};

/// How a member is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Flag,
    Integer,
    Number,
    Texts,
    Any,
    Anys,
    One(Shape),
    Many(Shape),
    /// A message whose repeated entries, under this number, are pairs of a name and a shape.
    Named(u32, Shape),
    /// v2: `{schema}` or a boolean.
    FlagOr(Shape),
    /// v3: a scalar of one of three types.
    Scalar,
}

/// What stands there.
#[derive(Clone, Copy)]
enum Shape {
    Message(&'static Message),
    /// A message that holds nothing but another under a number.
    In(u32, &'static Shape),
    /// v2's parameters: of the body, of the query or of the path.
    Parameter,
    /// v3: the one, or a reference.
    OrReference(&'static Message),
    /// v2: a repeated text in a message of its own.
    Type,
    /// Of themselves: a schema holds schemas.
    SchemaV2,
    SchemaV3,
}

struct Message {
    fields: &'static [(&'static str, u32, Kind)],
    /// Number of the members that begin with `x-`.
    extensions: u32,
}

use Kind::{Any, Anys, Flag, FlagOr, Integer, Many, Named, Number, One, Scalar, Text, Texts};
use Shape::{In, OrReference, Parameter, SchemaV2, SchemaV3, Type};

static DOCUMENT_V2: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, One(Shape::Message(&INFO_V2))),
        ("paths", 8, Named(2, Shape::Message(&PATH_V2))),
        ("definitions", 9, Named(1, SchemaV2)),
    ],
    extensions: 16,
};
static INFO_V2: Message = Message {
    fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)],
    extensions: 7,
};
static PATH_V2: Message = Message {
    fields: &[
        ("get", 2, One(OPERATION_V2)),
        ("put", 3, One(OPERATION_V2)),
        ("post", 4, One(OPERATION_V2)),
        ("delete", 5, One(OPERATION_V2)),
        ("options", 6, One(OPERATION_V2)),
        ("head", 7, One(OPERATION_V2)),
        ("patch", 8, One(OPERATION_V2)),
        ("parameters", 9, Many(In(1, &Parameter))),
    ],
    extensions: 10,
};
const OPERATION_V2: Shape = Shape::Message(&OPERATION_V2_MESSAGE);
static OPERATION_V2_MESSAGE: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("produces", 6, Texts),
        ("consumes", 7, Texts),
        ("parameters", 8, Many(In(1, &Parameter))),
        ("responses", 9, Named(1, In(1, &Shape::Message(&RESPONSE_V2)))),
        ("schemes", 10, Texts),
        ("deprecated", 11, Flag),
    ],
    extensions: 13,
};
static RESPONSE_V2: Message = Message {
    fields: &[("description", 1, Text), ("schema", 2, One(In(1, &SchemaV2)))],
    extensions: 5,
};
static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(SchemaV2)),
    ],
    extensions: 6,
};
static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 6, Text),
        ("format", 7, Text),
        ("uniqueItems", 20, Flag),
    ],
    extensions: 23,
};
static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Flag),
        ("in", 2, Text),
        ("description", 3, Text),
        ("name", 4, Text),
        ("type", 5, Text),
        ("format", 6, Text),
        ("uniqueItems", 19, Flag),
    ],
    extensions: 22,
};
static SCHEMA_V2_MESSAGE: Message = Message {
    fields: &[
        ("$ref", 1, Text),
        ("format", 2, Text),
        ("title", 3, Text),
        ("description", 4, Text),
        ("default", 5, Any),
        ("multipleOf", 6, Number),
        ("maximum", 7, Number),
        ("exclusiveMaximum", 8, Flag),
        ("minimum", 9, Number),
        ("exclusiveMinimum", 10, Flag),
        ("maxLength", 11, Integer),
        ("minLength", 12, Integer),
        ("pattern", 13, Text),
        ("maxItems", 14, Integer),
        ("minItems", 15, Integer),
        ("uniqueItems", 16, Flag),
        ("maxProperties", 17, Integer),
        ("minProperties", 18, Integer),
        ("required", 19, Texts),
        ("enum", 20, Anys),
        ("additionalProperties", 21, FlagOr(SchemaV2)),
        ("type", 22, One(Type)),
        ("items", 23, One(In(1, &SchemaV2))),
        ("allOf", 24, Many(SchemaV2)),
        ("properties", 25, Named(1, SchemaV2)),
        ("readOnly", 27, Flag),
        ("example", 30, Any),
    ],
    extensions: 31,
};

static DOCUMENT_V3: Message = Message {
    fields: &[
        ("openapi", 1, Text),
        ("info", 2, One(Shape::Message(&INFO_V3))),
        ("paths", 4, Named(1, Shape::Message(&PATH_V3))),
        ("components", 5, One(Shape::Message(&COMPONENTS))),
    ],
    extensions: 9,
};
static INFO_V3: Message = Message {
    fields: &[("title", 1, Text), ("description", 2, Text), ("version", 6, Text)],
    extensions: 7,
};
static COMPONENTS: Message = Message {
    fields: &[("schemas", 1, Named(1, SchemaV3))],
    extensions: 10,
};
static PATH_V3: Message = Message {
    fields: &[
        ("summary", 2, Text),
        ("description", 3, Text),
        ("get", 4, One(OPERATION_V3)),
        ("put", 5, One(OPERATION_V3)),
        ("post", 6, One(OPERATION_V3)),
        ("delete", 7, One(OPERATION_V3)),
        ("options", 8, One(OPERATION_V3)),
        ("head", 9, One(OPERATION_V3)),
        ("patch", 10, One(OPERATION_V3)),
        ("parameters", 13, Many(OrReference(&PARAMETER_V3))),
    ],
    extensions: 14,
};
const OPERATION_V3: Shape = Shape::Message(&OPERATION_V3_MESSAGE);
static OPERATION_V3_MESSAGE: Message = Message {
    fields: &[
        ("tags", 1, Texts),
        ("summary", 2, Text),
        ("description", 3, Text),
        ("operationId", 5, Text),
        ("parameters", 6, Many(OrReference(&PARAMETER_V3))),
        ("requestBody", 7, One(OrReference(&BODY_V3))),
        ("responses", 8, Named(2, OrReference(&RESPONSE_V3))),
        ("deprecated", 10, Flag),
    ],
    extensions: 13,
};
static PARAMETER_V3: Message = Message {
    fields: &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Flag),
        ("schema", 10, One(SchemaV3)),
    ],
    extensions: 14,
};
static BODY_V3: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("content", 2, Named(1, Shape::Message(&MEDIA_TYPE))),
        ("required", 3, Flag),
    ],
    extensions: 4,
};
static RESPONSE_V3: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("content", 3, Named(1, Shape::Message(&MEDIA_TYPE))),
    ],
    extensions: 5,
};
static MEDIA_TYPE: Message = Message {
    fields: &[("schema", 1, One(SchemaV3))],
    extensions: 5,
};
static SCHEMA_V3_MESSAGE: Message = Message {
    fields: &[
        ("nullable", 1, Flag),
        ("readOnly", 3, Flag),
        ("writeOnly", 4, Flag),
        ("example", 7, Any),
        ("deprecated", 8, Flag),
        ("title", 9, Text),
        ("multipleOf", 10, Number),
        ("maximum", 11, Number),
        ("exclusiveMaximum", 12, Flag),
        ("minimum", 13, Number),
        ("exclusiveMinimum", 14, Flag),
        ("maxLength", 15, Integer),
        ("minLength", 16, Integer),
        ("pattern", 17, Text),
        ("maxItems", 18, Integer),
        ("minItems", 19, Integer),
        ("uniqueItems", 20, Flag),
        ("maxProperties", 21, Integer),
        ("minProperties", 22, Integer),
        ("required", 23, Texts),
        ("enum", 24, Anys),
        ("type", 25, Text),
        ("allOf", 26, Many(SchemaV3)),
        ("oneOf", 27, Many(SchemaV3)),
        ("anyOf", 28, Many(SchemaV3)),
        ("not", 29, One(Shape::Message(&SCHEMA_V3_MESSAGE))),
        ("items", 30, One(In(1, &SchemaV3))),
        ("properties", 31, Named(1, SchemaV3)),
        ("additionalProperties", 32, FlagOr(SchemaV3)),
        ("default", 33, Scalar),
        ("description", 34, Text),
        ("format", 35, Text),
    ],
    extensions: 36,
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
