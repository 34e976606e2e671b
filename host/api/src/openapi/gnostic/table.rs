//! The members of gnostic's messages: under which number each stands, and how it is written.

/// How a member is written.
#[derive(Clone, Copy)]
pub(super) enum Kind {
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
pub(super) enum Shape {
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

pub(super) struct Message {
    pub(super) fields: &'static [(&'static str, u32, Kind)],
    /// Number of the members that begin with `x-`.
    pub(super) extensions: u32,
}

use Kind::{Any, Anys, Flag, FlagOr, Integer, Many, Named, Number, One, Scalar, Text, Texts};
use Shape::{In, OrReference, Parameter, SchemaV2, SchemaV3, Type};

pub(super) static DOCUMENT_V2: Message = Message {
    fields: &[
        ("swagger", 1, Text),
        ("info", 2, One(Shape::Message(&INFO_V2))),
        ("paths", 8, Named(2, Shape::Message(&PATH_V2))),
        ("definitions", 9, Named(1, SchemaV2)),
    ],
    extensions: 16,
};
pub(super) static INFO_V2: Message = Message {
    fields: &[("title", 1, Text), ("version", 2, Text), ("description", 3, Text)],
    extensions: 7,
};
pub(super) static PATH_V2: Message = Message {
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
pub(super) const OPERATION_V2: Shape = Shape::Message(&OPERATION_V2_MESSAGE);
pub(super) static OPERATION_V2_MESSAGE: Message = Message {
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
pub(super) static RESPONSE_V2: Message = Message {
    fields: &[("description", 1, Text), ("schema", 2, One(In(1, &SchemaV2)))],
    extensions: 5,
};
pub(super) static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("name", 2, Text),
        ("in", 3, Text),
        ("required", 4, Flag),
        ("schema", 5, One(SchemaV2)),
    ],
    extensions: 6,
};
pub(super) static QUERY_PARAMETER: Message = Message {
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
pub(super) static PATH_PARAMETER: Message = Message {
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
pub(super) static SCHEMA_V2_MESSAGE: Message = Message {
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

pub(super) static DOCUMENT_V3: Message = Message {
    fields: &[
        ("openapi", 1, Text),
        ("info", 2, One(Shape::Message(&INFO_V3))),
        ("paths", 4, Named(1, Shape::Message(&PATH_V3))),
        ("components", 5, One(Shape::Message(&COMPONENTS))),
    ],
    extensions: 9,
};
pub(super) static INFO_V3: Message = Message {
    fields: &[("title", 1, Text), ("description", 2, Text), ("version", 6, Text)],
    extensions: 7,
};
pub(super) static COMPONENTS: Message = Message {
    fields: &[("schemas", 1, Named(1, SchemaV3))],
    extensions: 10,
};
pub(super) static PATH_V3: Message = Message {
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
pub(super) const OPERATION_V3: Shape = Shape::Message(&OPERATION_V3_MESSAGE);
pub(super) static OPERATION_V3_MESSAGE: Message = Message {
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
pub(super) static PARAMETER_V3: Message = Message {
    fields: &[
        ("name", 1, Text),
        ("in", 2, Text),
        ("description", 3, Text),
        ("required", 4, Flag),
        ("schema", 10, One(SchemaV3)),
    ],
    extensions: 14,
};
pub(super) static BODY_V3: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("content", 2, Named(1, Shape::Message(&MEDIA_TYPE))),
        ("required", 3, Flag),
    ],
    extensions: 4,
};
pub(super) static RESPONSE_V3: Message = Message {
    fields: &[
        ("description", 1, Text),
        ("content", 3, Named(1, Shape::Message(&MEDIA_TYPE))),
    ],
    extensions: 5,
};
pub(super) static MEDIA_TYPE: Message = Message {
    fields: &[("schema", 1, One(SchemaV3))],
    extensions: 5,
};
pub(super) static SCHEMA_V3_MESSAGE: Message = Message {
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
