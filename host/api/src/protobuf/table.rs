//! Which field of which message is which JSON member.
//!
//! One line a message in the data: its name, then `NUMBER=MEMBER:TYPE` for each field, followed by `*` for
//! a list, `%` for a map with text keys, `?` where a zero is as good as absent. No member: its fields stand
//! in the message around it. Types: `s`, `y` (bytes), `b`, `i`, `d`, or another message.

use std::collections::HashMap;
use std::sync::LazyLock;

const DATA: &str = include_str!("../../data/protobuf.tsv");

#[derive(Debug)]
pub(super) struct Field {
    pub number: u64,
    pub name: &'static str,
    pub kind: Type,
    pub shape: Shape,
    pub omits_zero: bool,
}

#[derive(Debug)]
pub(super) enum Type {
    Text,
    Base64,
    Boolean,
    Integer,
    Double,
    Message(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    List,
    Map,
    Inline,
}

static TABLE: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let lines = DATA.lines().filter_map(|line| line.split_once('\t'));
    lines
        .map(|(name, fields)| (name, fields.split(' ').filter_map(field).collect()))
        .collect()
});

/// The fields of a message.
pub(super) fn fields(message: &str) -> Option<&'static [Field]> {
    TABLE.get(message).map(Vec::as_slice)
}

fn field(text: &'static str) -> Option<Field> {
    let (number, rest) = text.split_once('=')?;
    let (name, kind) = rest.split_once(':')?;
    let (kind, omits_zero) = (kind.trim_end_matches('?'), kind.ends_with('?'));
    let shape = match kind.chars().last() {
        Some('*') => Shape::List,
        Some('%') => Shape::Map,
        _ if name.is_empty() => Shape::Inline,
        _ => Shape::Single,
    };
    let kind = match kind.trim_end_matches(['*', '%']) {
        "s" => Type::Text,
        "y" => Type::Base64,
        "b" => Type::Boolean,
        "i" => Type::Integer,
        "d" => Type::Double,
        message => Type::Message(message),
    };
    Some(Field {
        number: number.parse().ok()?,
        name,
        kind,
        shape,
        omits_zero,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_that_is_named_is_there() {
        let outside = [
            "meta.v1.Time",
            "meta.v1.MicroTime",
            "meta.v1.FieldsV1",
            "resource.Quantity",
            "intstr.IntOrString",
            "runtime.RawExtension",
        ];
        for (message, fields) in TABLE.iter() {
            for field in fields {
                if let Type::Message(name) = field.kind {
                    let known = TABLE.contains_key(name) || outside.contains(&name);
                    assert!(known, "{message}.{}: {name}", field.name);
                }
            }
        }
        assert!(TABLE.len() > 400);
    }
}
