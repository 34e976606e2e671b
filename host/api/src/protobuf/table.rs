//! Which field of which message is which JSON member, and how Go's encoder writes it.
//!
//! One line a message in the data: its name, then `NUMBER=MEMBER:TYPE` for each field by number, followed by
//! `*` for a list, `%` for a map with text keys, `!` where the field is written even when zero, `?` the same
//! but JSON leaves the zero out. No mark: written only when set. No member: its fields stand in the message
//! around it. Types: `s`, `y` (bytes), `b`, `i` and `l` (32 and 64 bits), `d`, `T` and `M` (times), `Q`
//! (quantity), `N` (number or text), `R` (embedded JSON), or another message. A line `=VERSION` names the
//! package that holds a group's kinds. Read once; `data/protobuf.py` derives the data from the sources.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::wire;

const DATA: &str = include_str!("../../data/protobuf.tsv");

/// Where the kinds stand that every group has.
const COMMON: &str = "meta.v1";

#[derive(Debug)]
pub(super) struct Message {
    pub name: &'static str,
    pub form: Form,
    /// As they stand in the data, by number.
    pub fields: Vec<Field>,
    /// All fields that hold values, those of inline messages too, in the order of the layout.
    pub slots: Vec<Slot>,
    pub layout: Vec<Place>,
    /// Slots by member.
    by_member: Vec<(&'static str, usize)>,
    /// What Go writes for an empty one.
    pub zero: Box<[u8]>,
}

/// What a message is in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Object,
    /// The list in its only field.
    List,
    SchemaOrList,
    SchemaOrFlag,
    SchemaOrTexts,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub number: u32,
    pub member: &'static str,
    pub kind: Type,
    pub shape: Shape,
    /// Written even when zero.
    pub always: bool,
    /// JSON leaves a zero out.
    pub omits_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Base64,
    Boolean,
    Integer32,
    Integer64,
    Double,
    Time,
    MicroTime,
    Quantity,
    NumberOrText,
    Raw,
    /// Another message, by its place in the table.
    Message(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    List,
    Map,
    Inline,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub field: Field,
    /// The bytes that stand for it where JSON has nothing, tag included.
    pub zero: Box<[u8]>,
}

/// What stands in a message, in the order in which it is written.
#[derive(Debug)]
pub(super) enum Place {
    Slot(usize),
    /// An inline message: its number, and its own places.
    Inline(u32, Vec<Place>),
}

struct Table {
    messages: Vec<Message>,
    by_name: HashMap<&'static str, usize>,
    packages: HashMap<&'static str, &'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(Table::read);

/// The message of a kind; none where the kind has no protobuf form.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static Message> {
    // Sent in the group and version of what is deleted, a custom one too.
    if kind == "DeleteOptions" {
        return find("meta.v1.DeleteOptions");
    }
    let package = TABLE.packages.get(api_version)?;
    find(&format!("{package}.{kind}")).or_else(|| find(&format!("{COMMON}.{kind}")))
}

pub(super) fn find(name: &str) -> Option<&'static Message> {
    TABLE.by_name.get(name).map(|index| &TABLE.messages[*index])
}

/// A message that a [`Type::Message`] names.
pub(super) fn message(index: usize) -> &'static Message {
    &TABLE.messages[index]
}

impl Message {
    /// The field of a number.
    pub(super) fn field(&self, number: u64) -> Option<&Field> {
        self.fields
            .binary_search_by(|field| u64::from(field.number).cmp(&number))
            .ok()
            .map(|index| &self.fields[index])
    }

    /// The slot of a JSON member.
    pub(super) fn slot(&self, member: &str) -> Option<usize> {
        self.by_member
            .binary_search_by(|(one, _)| (*one).cmp(member))
            .ok()
            .map(|index| self.by_member[index].1)
    }
}

impl Table {
    fn read() -> Self {
        let mut packages = HashMap::new();
        let mut lines: Vec<(&'static str, &'static str)> = Vec::new();
        for line in DATA.lines() {
            let (name, fields) = line.split_once('\t').unwrap_or((line, ""));
            match name.strip_prefix('=') {
                Some(api_version) => {
                    packages.insert(api_version, fields);
                }
                None => lines.push((name, fields)),
            }
        }
        let by_name: HashMap<_, _> = lines
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (*name, index))
            .collect();
        let fields: Vec<Vec<Field>> = lines
            .iter()
            .map(|(_, fields)| {
                fields
                    .split(' ')
                    .filter_map(|text| field(text, &by_name))
                    .collect()
            })
            .collect();
        let mut zeros = Zeros {
            fields: &fields,
            done: vec![None; fields.len()],
        };
        let mut messages: Vec<Message> = Vec::with_capacity(lines.len());
        for (index, (name, _)) in lines.iter().enumerate() {
            let mut slots = Vec::new();
            let layout = places(&fields, index, &mut slots, &mut zeros);
            let mut by_member: Vec<_> = slots
                .iter()
                .enumerate()
                .map(|(slot, one): (_, &Slot)| (one.field.member, slot))
                .collect();
            by_member.sort_unstable();
            messages.push(Message {
                name,
                form: form(name),
                fields: fields[index].clone(),
                slots,
                layout,
                by_member,
                zero: zeros.message(index).into(),
            });
        }
        Self {
            messages,
            by_name,
            packages,
        }
    }
}

fn form(name: &str) -> Form {
    match name.rsplit('.').next() {
        Some("ExtraValue" | "Verbs") => Form::List,
        Some("JSONSchemaPropsOrArray") => Form::SchemaOrList,
        Some("JSONSchemaPropsOrBool") => Form::SchemaOrFlag,
        Some("JSONSchemaPropsOrStringArray") => Form::SchemaOrTexts,
        _ => Form::Object,
    }
}

fn places(fields: &[Vec<Field>], index: usize, slots: &mut Vec<Slot>, zeros: &mut Zeros<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for field in &fields[index] {
        places.push(match (field.shape, field.kind) {
            (Shape::Inline, Type::Message(inner)) => {
                Place::Inline(field.number, self::places(fields, inner, slots, zeros))
            }
            _ => {
                slots.push(Slot {
                    field: *field,
                    zero: zeros.field(field).into(),
                });
                Place::Slot(slots.len() - 1)
            }
        });
    }
    places
}

/// The bytes of empty messages, each made once.
struct Zeros<'a> {
    fields: &'a [Vec<Field>],
    done: Vec<Option<Vec<u8>>>,
}

impl Zeros<'_> {
    fn message(&mut self, index: usize) -> Vec<u8> {
        if let Some(done) = &self.done[index] {
            return done.clone();
        }
        // Go's types cannot hold themselves but behind pointers, lists or maps: this ends.
        let fields = self.fields;
        let bytes: Vec<u8> = fields[index].iter().flat_map(|field| self.field(field)).collect();
        self.done[index] = Some(bytes.clone());
        bytes
    }

    fn field(&mut self, field: &Field) -> Vec<u8> {
        if !field.always || matches!(field.shape, Shape::List | Shape::Map) {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        match field.kind {
            Type::Message(inner) => wire::put_bytes(&mut bytes, field.number, &self.message(inner)),
            kind => put_zero(&mut bytes, field.number, kind),
        }
        bytes
    }
}

/// A field with its type's zero value.
pub(super) fn put_zero(out: &mut Vec<u8>, number: u32, kind: Type) {
    match kind {
        Type::Boolean | Type::Integer32 | Type::Integer64 => wire::put_integer(out, number, 0),
        Type::Double => wire::put_double(out, number, 0.0),
        Type::Text | Type::Base64 | Type::Time | Type::MicroTime | Type::Raw => {
            wire::put_bytes(out, number, b"");
        }
        Type::Quantity => wire::put_bytes(out, number, b"\x0a\x010"),
        Type::NumberOrText => wire::put_bytes(out, number, b"\x08\0\x10\0\x1a\0"),
        Type::Message(inner) => wire::put_bytes(out, number, &message(inner).zero),
    }
}

fn field(text: &'static str, by_name: &HashMap<&'static str, usize>) -> Option<Field> {
    let (number, rest) = text.split_once('=')?;
    let (member, kind) = rest.split_once(':')?;
    let (kind, mark) = match kind.char_indices().last() {
        Some((at, mark @ ('*' | '%' | '!' | '?'))) => (&kind[..at], mark),
        _ => (kind, ' '),
    };
    let shape = match mark {
        '*' => Shape::List,
        '%' => Shape::Map,
        _ if member.is_empty() => Shape::Inline,
        _ => Shape::Single,
    };
    let kind = match kind {
        "s" => Type::Text,
        "y" => Type::Base64,
        "b" => Type::Boolean,
        "i" => Type::Integer32,
        "l" => Type::Integer64,
        "d" => Type::Double,
        "T" => Type::Time,
        "M" => Type::MicroTime,
        "Q" => Type::Quantity,
        "N" => Type::NumberOrText,
        "R" => Type::Raw,
        message => Type::Message(*by_name.get(message)?),
    };
    Some(Field {
        number: number.parse().ok()?,
        member,
        kind,
        shape,
        // Go knows absent bytes from empty ones.
        always: matches!(mark, '!' | '?') && kind != Type::Base64,
        omits_zero: mark == '?',
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_data_is_understood() {
        for line in DATA.lines() {
            let (name, fields) = line.split_once('\t').unwrap_or((line, ""));
            if let Some(api_version) = name.strip_prefix('=') {
                assert!(TABLE.packages.contains_key(api_version), "{line}");
                continue;
            }
            let message = find(name).unwrap();
            let count = fields.split(' ').filter(|field| !field.is_empty()).count();
            assert_eq!(message.fields.len(), count, "{name}: a type is not in the table");
            let members: std::collections::HashSet<_> =
                message.slots.iter().map(|slot| slot.field.member).collect();
            assert_eq!(
                members.len(),
                message.slots.len(),
                "{name}: a member stands twice"
            );
        }
    }

    #[test]
    fn kinds_of_the_resource_table_have_messages_with_their_lists() {
        for resource in capstan_kinds::resource::all() {
            let api_version = resource.api_version();
            if resource.group.ends_with(".capstan.dev") {
                assert!(of_kind(&api_version, &resource.kind).is_none());
                continue;
            }
            assert!(
                of_kind(&api_version, &resource.kind).is_some(),
                "{}",
                resource.kind
            );
            if resource.is_stored() {
                let list = of_kind(&api_version, &resource.list_kind).unwrap();
                let shapes: Vec<_> = list
                    .fields
                    .iter()
                    .map(|f| (f.number, f.member, f.shape))
                    .collect();
                assert_eq!(
                    shapes,
                    [(1, "metadata", Shape::Single), (2, "items", Shape::List)]
                );
            }
        }
        assert!(of_kind("apps/v1", "DeleteOptions").is_some());
        assert!(of_kind("v1", "Status").is_some());
        assert!(of_kind("example.com/v1", "DeleteOptions").is_some());
        assert!(of_kind("example.com/v1", "Deployment").is_none());
        assert!(of_kind("example.com/v1", "Status").is_none());
    }
}
