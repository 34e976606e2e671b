//! How much of a custom kind's values can be in one request, by their schema: what the estimate of a rule's
//! cost is made of. Invariants: the original's figures; a value that expressions cannot see has none.

use super::schema::{Additional, Limits, Schema, Type};
use crate::cel::unescape;

/// Bytes of a request at most.
const REQUEST_BYTES_MAX: u64 = 3 << 20;
/// Bytes of a character at most.
const CHARACTER_BYTES_MAX: u64 = 4;

/// Bytes of the shortest value as JSON; none where expressions cannot see it.
fn bytes_min(schema: &Schema) -> Option<u64> {
    if schema.int_or_string {
        return Some(1);
    }
    Some(match schema.kind? {
        Type::Boolean => 4,
        Type::Integer | Type::Number => 1,
        Type::String => match schema.format() {
            Some("duration") => 3,
            Some("date") => 12,
            Some("date-time") => 21,
            _ => 2,
        },
        Type::Array => {
            bytes_min(schema.items.as_ref()?)?;
            2
        }
        Type::Object => match &schema.additional {
            Additional::Schema(values) => {
                bytes_min(values)?;
                2
            }
            _ => 2 + required(schema),
        },
    })
}

/// Bytes of the fields that an object must have.
fn required(schema: &Schema) -> u64 {
    let names = schema.limits.as_ref().map_or(&[][..], |limits| &limits.required);
    let fields = names.iter().filter_map(|name| {
        let field = schema.property(name).filter(|field| field.default.is_none())?;
        Some(name.len() as u64 + bytes_min(field)? + 4)
    });
    fields.sum()
}

/// How often a value can be in a request where nothing bounds the lists and maps that it is in.
pub(super) fn times_max(schema: &Schema) -> u64 {
    REQUEST_BYTES_MAX / (bytes_min(schema).unwrap_or_default() + 1)
}

/// How often each value directly below can be there for each of this one; none where nothing says.
pub(super) fn children_max(schema: &Schema) -> Option<u64> {
    let limits = schema.limits.as_ref();
    match schema.kind {
        Some(Type::Array) => limits?.max_items,
        Some(Type::Object) if !matches!(schema.additional, Additional::None) => limits?.max_properties,
        _ => Some(1),
    }
}

/// Characters, items or entries of a value at most; 0 for what has none. None where expressions cannot see it.
fn elements_max(schema: &Schema) -> Option<u64> {
    let limits = schema.limits.as_deref();
    let limit = |of: fn(&Limits) -> Option<u64>| limits.and_then(of);
    let characters = || limit(|limits| limits.max_length).map(|length| length * CHARACTER_BYTES_MAX);
    let room = REQUEST_BYTES_MAX - 2;
    if schema.int_or_string {
        return Some(characters().unwrap_or(room));
    }
    Some(match schema.kind? {
        Type::Boolean | Type::Integer | Type::Number => 0,
        Type::String => match schema.format() {
            Some("duration" | "date-time") => 32,
            Some("date") => 12,
            Some("byte") => limit(|limits| limits.max_length).unwrap_or(room),
            _ => characters().or_else(|| longest_choice(limits?)).unwrap_or(room),
        },
        Type::Array => {
            let item = bytes_min(schema.items.as_ref()?)?;
            limit(|limits| limits.max_items).unwrap_or(room / (item + 1))
        }
        Type::Object => match &schema.additional {
            Additional::Schema(values) => {
                let value = bytes_min(values)?;
                limit(|limits| limits.max_properties).unwrap_or(room / (value + 6))
            }
            _ => 0,
        },
    })
}

fn longest_choice(limits: &Limits) -> Option<u64> {
    if limits.choices.is_empty() {
        return None;
    }
    let lengths = limits
        .choices
        .iter()
        .filter_map(|one| Some(one.as_str()?.len() as u64));
    Some(lengths.max().unwrap_or_default())
}

/// As [`elements_max`] for what a path leads to, of fields, `@items`, `@keys` and `@values`.
pub(super) fn elements_at(schema: &Schema, resource: bool, path: &[String]) -> Option<u64> {
    let Some((step, rest)) = path.split_first() else {
        return elements_max(schema);
    };
    let map = match &schema.additional {
        Additional::Schema(values) => Some(&**values),
        _ => None,
    };
    match step.as_str() {
        "@items" => {
            let items = schema.items.as_deref()?;
            elements_at(items, items.embedded, rest)
        }
        "@values" => map.and_then(|values| elements_at(values, values.embedded, rest)),
        "@keys" => (map.is_some() && rest.is_empty()).then_some(0),
        "apiVersion" | "kind" if resource => Some(REQUEST_BYTES_MAX - 2),
        "metadata" if resource => match rest {
            [] => Some(0),
            [name] if matches!(name.as_str(), "name" | "generateName") => Some(REQUEST_BYTES_MAX - 2),
            _ => None,
        },
        field => {
            let plain = schema.property(field);
            let found = plain.or_else(|| schema.property(&unescape(field)?))?;
            elements_at(found, found.embedded, rest)
        }
    }
}
