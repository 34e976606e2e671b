//! JSON to protobuf in one pass over the text, byte for byte as Go's generated code writes it: fields by
//! number, map entries by key, zero values of fields that are no pointers written out.
//!
//! JSON members come in another order than fields, so each message is written as its members come, then
//! brought in order in place; no tree is built. Members that the table does not have, and values of a wrong
//! type, are left out: stored documents were checked when they were written.

use std::fmt;
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::moment;
use super::table::{Field, Form, Message, Place, Shape, Type, message, put_zero};
use super::wire::{put_bytes, put_double, put_head, put_integer, put_varint, varint_bytes};

/// Appends the message of a JSON document.
pub(super) fn append(out: &mut Vec<u8>, kind: &'static Message, json: &[u8]) -> serde_json::Result<()> {
    let start = out.len();
    let mut writer = Writer {
        out: std::mem::take(out),
        parts: Vec::with_capacity(128),
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    let written = Body {
        writer: &mut writer,
        kind,
    }
    .deserialize(&mut reader)
    .and_then(|_| reader.end());
    *out = writer.out;
    if written.is_err() {
        out.truncate(start);
    }
    written
}

struct Writer {
    out: Vec<u8>,
    /// Where the slots of the open messages stand; an empty range is an absent one.
    parts: Vec<Range<usize>>,
}

impl Writer {
    /// Opens a field that holds bytes of yet unknown length; gives where its content starts.
    fn open(&mut self, number: u32) -> usize {
        put_varint(&mut self.out, u64::from(number) << 3 | 2);
        self.out.push(0);
        self.out.len()
    }

    /// Writes the length of a field whose content goes from `start` to the end; gives by how many bytes it
    /// had to move the content.
    fn close(&mut self, start: usize) -> usize {
        let length = self.out.len() - start;
        let more = varint_bytes(length as u64) - 1;
        if more > 0 {
            let end = self.out.len();
            self.out.resize(end + more, 0);
            self.out.copy_within(start..end, start + more);
        }
        let mut rest = length as u64;
        for byte in &mut self.out[start - 1..start + more] {
            *byte = (rest & 0x7f) as u8 | 0x80;
            rest >>= 7;
        }
        self.out[start - 1 + more] &= 0x7f;
        more
    }

    /// Brings what was written since `start` in the layout's order, zeros added.
    fn settle(&mut self, kind: &Message, start: usize, first_part: usize) {
        let end = self.out.len();
        self.place(kind, &kind.layout, first_part);
        self.out.copy_within(end.., start);
        self.out.truncate(start + self.out.len() - end);
        self.parts.truncate(first_part);
    }

    fn place(&mut self, kind: &Message, places: &[Place], first_part: usize) {
        for place in places {
            match place {
                Place::Slot(slot) => {
                    let part = self.parts[first_part + slot].clone();
                    if part.is_empty() {
                        self.out.extend_from_slice(&kind.slots[*slot].zero);
                    } else {
                        self.out.extend_from_within(part);
                    }
                }
                Place::Inline(number, inner) => {
                    let length = self.length(kind, inner, first_part);
                    put_head(&mut self.out, *number, length);
                    self.place(kind, inner, first_part);
                }
            }
        }
    }

    fn length(&self, kind: &Message, places: &[Place], first_part: usize) -> usize {
        let length = |place: &Place| match place {
            Place::Slot(slot) => match self.parts[first_part + slot].len() {
                0 => kind.slots[*slot].zero.len(),
                length => length,
            },
            Place::Inline(number, inner) => {
                let inner = self.length(kind, inner, first_part);
                varint_bytes(u64::from(*number) << 3) + varint_bytes(inner as u64) + inner
            }
        };
        places.iter().map(length).sum()
    }
}

/// Reads an object's members into the message's content. Gives whether there was an object.
struct Body<'w> {
    writer: &'w mut Writer,
    kind: &'static Message,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let Self { writer, kind } = self;
        match kind.form {
            Form::SchemaOrList | Form::SchemaOrFlag | Form::SchemaOrTexts => {
                return schema(writer, kind, Whole(members));
            }
            Form::Object | Form::List => {}
        }
        let start = writer.out.len();
        let first_part = writer.parts.len();
        writer.parts.resize(first_part + kind.slots.len(), 0..0);
        while let Some(slot) = members.next_key_seed(Member(kind))? {
            let Some(slot) = slot else {
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            let from = writer.out.len();
            let field = &kind.slots[slot].field;
            members.next_value_seed(Content { writer, field })?;
            let to = writer.out.len();
            writer.parts[first_part + slot] = from..to;
        }
        writer.settle(kind, start, first_part);
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<bool, A::Error> {
        let field = match self.kind.form {
            Form::List | Form::SchemaOrList | Form::SchemaOrTexts => self.kind.fields.last(),
            Form::Object | Form::SchemaOrFlag => None,
        };
        match field {
            Some(field) => list(self.writer, field, items).map(|()| true),
            None => drain(items).map(|()| false),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<bool, E> {
        if self.kind.form == Form::SchemaOrFlag {
            put_integer(&mut self.writer.out, 1, u64::from(value));
            return Ok(true);
        }
        Ok(false)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_i64<E>(self, _: i64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_u64<E>(self, _: u64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_f64<E>(self, _: f64) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_str<E>(self, _: &str) -> Result<bool, E> {
        Ok(false)
    }
}

/// The schema within one of `JSONSchemaPropsOr…`.
fn schema<'de, D: Deserializer<'de>>(
    writer: &mut Writer,
    kind: &'static Message,
    reader: D,
) -> Result<bool, D::Error> {
    if kind.form == Form::SchemaOrFlag {
        put_integer(&mut writer.out, 1, 1);
    }
    let field = kind.fields.iter().find(|field| field.member == "schema");
    if let Some(field) = field {
        single(writer, field.number, field.kind, reader)?;
    }
    Ok(true)
}

/// An object whose members are being read, read as a value again.
struct Whole<A>(A);

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Whole<A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

fn drain<'de, A: SeqAccess<'de>>(mut items: A) -> Result<(), A::Error> {
    while items.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// A member's name as the slot that it goes to.
struct Member(&'static Message);

impl<'de> DeserializeSeed<'de> for Member {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Member {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.slot(name))
    }
}

/// A field's whole content: one value, or all of a list or map, each with its tag.
struct Content<'w> {
    writer: &'w mut Writer,
    field: &'static Field,
}

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        let Field {
            number, kind, shape, ..
        } = *self.field;
        match shape {
            Shape::Single | Shape::Inline => single(self.writer, number, kind, reader).map(drop),
            Shape::List | Shape::Map => reader.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.field.member)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        match self.field.shape {
            Shape::List => list(self.writer, self.field, items),
            _ => drain(items),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        if self.field.shape != Shape::Map {
            while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let Self { writer, field } = self;
        let start = writer.out.len();
        // The entries with their keys, and whether they came in order.
        let mut entries: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        let mut sorted = true;
        loop {
            let from = writer.out.len();
            let inner = writer.open(field.number);
            let Some(key) = members.next_key_seed(Key(writer))? else {
                writer.out.truncate(from);
                break;
            };
            if !members.next_value_seed(Value {
                writer,
                number: 2,
                kind: field.kind,
            })? {
                put_zero(&mut writer.out, 2, field.kind);
            }
            let moved = writer.close(inner);
            let key = key.start + moved..key.end + moved;
            if let Some((last, _)) = entries.last() {
                sorted &= writer.out[last.clone()] < writer.out[key.clone()];
            }
            entries.push((key, from..writer.out.len()));
        }
        if !sorted {
            let written = writer.out.split_off(start);
            let at = |range: &Range<usize>| &written[range.start - start..range.end - start];
            entries.sort_by(|(a, _), (b, _)| at(a).cmp(at(b)));
            for (_, entry) in &entries {
                writer.out.extend_from_slice(at(entry));
            }
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// All items of a list.
fn list<'de, A: SeqAccess<'de>>(writer: &mut Writer, field: &Field, mut items: A) -> Result<(), A::Error> {
    let Field { number, kind, .. } = *field;
    while let Some(written) = items.next_element_seed(Value { writer, number, kind })? {
        if !written {
            put_zero(&mut writer.out, number, kind);
        }
    }
    Ok(())
}

/// One value with its tag. Gives whether there was one.
struct Value<'w> {
    writer: &'w mut Writer,
    number: u32,
    kind: Type,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        single(self.writer, self.number, self.kind, reader)
    }
}

fn single<'de, D: Deserializer<'de>>(
    writer: &mut Writer,
    number: u32,
    kind: Type,
    reader: D,
) -> Result<bool, D::Error> {
    match kind {
        Type::Message(inner) => {
            let from = writer.out.len();
            let start = writer.open(number);
            let kind = message(inner);
            let written = Body { writer, kind }.deserialize(reader)?;
            if written {
                writer.close(start);
            } else {
                writer.out.truncate(from);
            }
            Ok(written)
        }
        Type::Raw => {
            let raw = <&RawValue as serde::Deserialize>::deserialize(reader)?.get();
            if raw == "null" {
                return Ok(false);
            }
            // A message whose only field holds the text.
            let length = 1 + varint_bytes(raw.len() as u64) + raw.len();
            put_head(&mut writer.out, number, length);
            put_bytes(&mut writer.out, 1, raw.as_bytes());
            Ok(true)
        }
        kind => reader.deserialize_any(Scalar {
            out: &mut writer.out,
            number,
            kind,
        }),
    }
}

/// A map's key, written as field 1; gives where its text stands.
struct Key<'w>(&'w mut Writer);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Range<usize>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Range<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let out = &mut self.0.out;
        put_bytes(out, 1, key.as_bytes());
        Ok(out.len() - key.len()..out.len())
    }
}

struct Scalar<'w> {
    out: &'w mut Vec<u8>,
    number: u32,
    kind: Type,
}

impl Scalar<'_> {
    fn integer(self, value: i64) -> bool {
        let Self { out, number, kind } = self;
        match kind {
            Type::Integer64 => put_integer(out, number, value.cast_unsigned()),
            // As Go writes it: 32 bits, the sign drawn out to 64.
            Type::Integer32 => put_integer(out, number, short(value)),
            Type::Double => put_double(out, number, value as f64),
            Type::Quantity => quantity(out, number, &value.to_string()),
            Type::NumberOrText => {
                let value = short(value);
                put_head(out, number, 2 + 1 + varint_bytes(value) + 2);
                put_integer(out, 1, 0);
                put_integer(out, 2, value);
                put_bytes(out, 3, b"");
            }
            _ => return false,
        }
        true
    }
}

fn short(value: i64) -> u64 {
    i64::from(value as i32).cast_unsigned()
}

fn quantity(out: &mut Vec<u8>, number: u32, text: &str) {
    put_head(out, number, 1 + varint_bytes(text.len() as u64) + text.len());
    put_bytes(out, 1, text.as_bytes());
}

impl<'de> Visitor<'de> for Scalar<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        let Self { out, number, kind } = self;
        match kind {
            Type::Text => put_bytes(out, number, text.as_bytes()),
            Type::Base64 => match STANDARD.decode(text) {
                Ok(bytes) => put_bytes(out, number, &bytes),
                Err(_) => return Ok(false),
            },
            Type::Quantity => quantity(out, number, text),
            Type::Time | Type::MicroTime => match moment::read(text) {
                Some(moment) => moment.put(out, number, kind == Type::MicroTime),
                None => return Ok(false),
            },
            Type::NumberOrText => {
                put_head(out, number, 4 + 1 + varint_bytes(text.len() as u64) + text.len());
                put_integer(out, 1, 1);
                put_integer(out, 2, 0);
                put_bytes(out, 3, text.as_bytes());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        if self.kind != Type::Boolean {
            return Ok(false);
        }
        put_integer(self.out, self.number, u64::from(value));
        Ok(true)
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        Ok(self.integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        Ok(i64::try_from(value).is_ok_and(|value| self.integer(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        match self.kind {
            Type::Double => put_double(self.out, self.number, value),
            Type::Quantity => quantity(self.out, self.number, &value.to_string()),
            _ if value.fract() == 0.0 && value.abs() < 1e15 => return Ok(self.integer(value as i64)),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<bool, A::Error> {
        drain(items).map(|()| false)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}
