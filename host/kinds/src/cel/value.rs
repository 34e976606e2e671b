//! Values of CEL, and how JSON of a known schema becomes them.
//! Invariants: what stands in an object is borrowed, never copied, until an operation makes something new;
//! equality and order are CEL's: numbers of all kinds compare by value, lists that are sets or maps by what
//! they hold.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::authorizer::Access;
use super::message::Message;
use crate::custom::formats;
use crate::custom::{ListType, Schema, Type};
use crate::quantity::Quantity;

/// A value.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Cow<'a, str>),
    Bytes(Rc<[u8]>),
    List(Rc<Vec<Value<'a>>>),
    Map(Rc<Vec<(Value<'a>, Value<'a>)>>),
    /// A list in an object.
    Array(&'a [Json], Option<&'a Schema>),
    /// An object or a map in an object.
    Object(&'a serde_json::Map<String, Json>, Option<&'a Schema>),
    /// Nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    Type(&'static str),
    Optional(Option<Rc<Value<'a>>>),
    Quantity(Quantity),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Url(Rc<str>),
    /// One of the named formats.
    Format(Rc<str>),
    Semver(Rc<semver::Version>),
    /// An object that the expression made.
    Message(Rc<Message<'a>>),
    /// A question about access, or its answer.
    Access(Rc<Access<'a>>),
}

impl<'a> Value<'a> {
    /// A part of an object.
    pub fn json(value: &'a Json, schema: Option<&'a Schema>) -> Self {
        match value {
            Json::Null => Value::Null,
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => match number.as_i64() {
                _ if schema.is_some_and(|schema| schema.kind == Some(Type::Number)) => {
                    Value::Double(number.as_f64().unwrap_or_default())
                }
                Some(whole) => Value::Int(whole),
                None => match number.as_f64() {
                    // 1.0 fits where a whole number is wanted.
                    Some(float) if schema.is_some_and(|one| one.kind == Some(Type::Integer)) => {
                        Value::Int(float as i64)
                    }
                    Some(float) => Value::Double(float),
                    None => Value::Null,
                },
            },
            Json::String(text) => formatted(text, schema),
            Json::Array(list) => Value::Array(list, schema),
            Json::Object(fields) => Value::Object(fields, schema),
        }
    }

    /// A text of its own.
    pub fn text(text: impl Into<String>) -> Self {
        Value::String(Cow::Owned(text.into()))
    }

    /// A list of its own.
    pub fn list(items: Vec<Value<'a>>) -> Self {
        Value::List(Rc::new(items))
    }

    /// What errors call its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) | Value::Array(..) => "list",
            Value::Map(_) | Value::Object(..) => "map",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Ip(_) => "net.IP",
            Value::Cidr(..) => "net.CIDR",
            Value::Url(_) => "kubernetes.URL",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Message(message) if message.name == "JSONPatch" => "JSONPatch",
            Value::Message(_) => "Object",
            Value::Access(access) => access.type_name(),
        }
    }

    /// Its items; none where it is no list.
    pub fn items(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::List(items) => Some(items.to_vec()),
            Value::Array(list, schema) => {
                let items = schema.and_then(|schema| schema.items.as_deref());
                Some(list.iter().map(|item| Value::json(item, items)).collect())
            }
            _ => None,
        }
    }

    /// Its entries; none where it is no map.
    pub fn entries(&self) -> Option<Vec<(Value<'a>, Value<'a>)>> {
        match self {
            Value::Map(entries) => Some(entries.to_vec()),
            Value::Object(fields, schema) => {
                let entry = |(name, value): (&'a String, &'a Json)| {
                    let field = schema.and_then(|schema| schema.field(name));
                    (Value::String(Cow::Borrowed(name)), Value::json(value, field))
                };
                Some(fields.iter().map(entry).collect())
            }
            Value::Message(message) => {
                let entry = |(name, value): &(String, Value<'a>)| (Value::text(name.clone()), value.clone());
                Some(message.fields.iter().map(entry).collect())
            }
            _ => None,
        }
    }

    /// How many items, entries, characters or bytes.
    pub fn size(&self) -> Option<usize> {
        Some(match self {
            Value::String(text) => text.chars().count(),
            Value::Bytes(bytes) => bytes.len(),
            Value::List(items) => items.len(),
            Value::Array(list, _) => list.len(),
            Value::Map(entries) => entries.len(),
            Value::Object(fields, _) => fields.len(),
            Value::Message(message) => message.fields.len(),
            _ => return None,
        })
    }

    /// The member of a map by its key.
    pub fn member(&self, key: &Value<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Value::Object(fields, schema), Value::String(name)) => {
                let field = schema.and_then(|schema| schema.field(name));
                fields.get(&**name).map(|value| Value::json(value, field))
            }
            (Value::Map(entries), key) => entries
                .iter()
                .find(|(one, _)| one.equals(key))
                .map(|(_, value)| value.clone()),
            (Value::Message(message), Value::String(name)) => message.field(name).cloned(),
            _ => None,
        }
    }

    /// CEL's equality.
    pub fn equals(&self, other: &Value<'a>) -> bool {
        if let Some(order) = numbers(self, other) {
            return order == Some(Ordering::Equal);
        }
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Bytes(a), Value::Bytes(b)) => a == b,
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Quantity(a), Value::Quantity(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a, n), Value::Cidr(b, m)) => a == b && n == m,
            (Value::Url(a), Value::Url(b)) | (Value::Format(a), Value::Format(b)) => a == b,
            (Value::Semver(a), Value::Semver(b)) => a.cmp_precedence(b).is_eq(),
            (Value::Optional(None), Value::Optional(None)) => true,
            (Value::Optional(Some(a)), Value::Optional(Some(b))) => a.equals(b),
            _ => self.holds_the_same(other),
        }
    }

    fn holds_the_same(&self, other: &Value<'a>) -> bool {
        if let (Some(a), Some(b)) = (self.items(), other.items()) {
            if a.len() != b.len() {
                return false;
            }
            let unordered = |value: &Value<'_>| matches!(value, Value::Array(_, Some(schema)) if schema.list != ListType::Atomic);
            if unordered(self) || unordered(other) {
                return a.iter().all(|one| b.iter().any(|two| one.equals(two)));
            }
            return a.iter().zip(&b).all(|(a, b)| a.equals(b));
        }
        match (self.entries(), other.entries()) {
            (Some(a), Some(_)) => {
                self.size() == other.size()
                    && a.iter()
                        .all(|(key, value)| other.member(key).is_some_and(|there| there.equals(value)))
            }
            _ => false,
        }
    }

    /// CEL's order; none where the two cannot be compared.
    pub fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        if let Some(order) = numbers(self, other) {
            return order;
        }
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Quantity(a), Value::Quantity(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

fn formatted<'a>(text: &'a str, schema: Option<&'a Schema>) -> Value<'a> {
    let plain = Value::String(Cow::Borrowed(text));
    let format = schema
        .filter(|schema| !schema.int_or_string)
        .and_then(Schema::format);
    match format {
        Some("date-time") => text.parse().map_or(plain, Value::Timestamp),
        Some("date") => match format!("{text}T00:00:00Z").parse() {
            Ok(time) => Value::Timestamp(time),
            Err(_) => plain,
        },
        Some("duration") => formats::duration_nanos(text).map_or(plain, Value::Duration),
        Some("byte") => {
            use base64::Engine;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            decoded.map_or(plain, |bytes| Value::Bytes(bytes.into()))
        }
        _ => plain,
    }
}

/// The order of two numbers; the outer none where one is no number.
fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Option<Ordering>> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    if let (Some(a), Some(b)) = (whole(a), whole(b)) {
        return Some(Some(a.cmp(&b)));
    }
    let float = |value: &Value<'_>| match value {
        Value::Double(number) => Some(*number),
        other => whole(other).map(|number| number as f64),
    };
    Some(float(a)?.partial_cmp(&float(b)?))
}
