//! What differs between two states of a value: the fields that were added, modified and removed.
//! Invariants: a value with one owner counts as a whole; list items are told apart by key or value, their
//! order does not count. Values that are equal cost no allocation: most of an object is, in most writes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::element::{Element, same};
use super::set::{Node, Set};
use super::typed::{Atom, ListAtom, MapAtom, Typed};
use crate::schema::ListType;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Fields of the new state that the old one had not.
    pub added: Set,
    /// Fields of both, with different values.
    pub modified: Set,
    /// Fields of the old state that the new one has not.
    pub removed: Set,
}

impl Change {
    /// From one state to the other.
    pub fn between(of: Typed<'_>, old: &Value, new: &Value) -> Self {
        let nodes = compare(of, Some(old), Some(new));
        Self {
            added: nodes.added.below,
            modified: nodes.modified.below,
            removed: nodes.removed.below,
        }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What the new state says that the old one did not.
    pub fn said(&self) -> Set {
        self.clone().into_said()
    }

    /// As `said`, at the end.
    pub fn into_said(self) -> Set {
        let mut said = self.added;
        said.union(&self.modified);
        said
    }

    /// Keeps only what passes.
    pub fn filtered(self, pass: impl Fn(Set) -> Set) -> Self {
        Self {
            added: pass(self.added),
            modified: pass(self.modified),
            removed: pass(self.removed),
        }
    }
}

/// What stands where nothing is written, of a field that is always there.
static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

#[derive(Default)]
struct Nodes {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Nodes {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut nodes = Self::default();
        match (old, new) {
            (None, Some(_)) => nodes.added.member = true,
            (Some(_), None) => nodes.removed.member = true,
            (Some(old), Some(new)) => nodes.modified.member = !same(old, new),
            (None, None) => {}
        }
        nodes
    }

    /// Takes in what is at an element below.
    fn put(&mut self, element: impl FnOnce() -> Element, below: Nodes) {
        if below.is_empty() {
            return;
        }
        let element = element();
        self.added.below.put(element.clone(), below.added);
        self.modified.below.put(element.clone(), below.modified);
        self.removed.below.put(element, below.removed);
    }

    fn merge(&mut self, other: Nodes) {
        let into = |own: &mut Node, other: Node| {
            own.member |= other.member;
            own.below.union(&other.below);
        };
        into(&mut self.added, other.added);
        into(&mut self.modified, other.modified);
        into(&mut self.removed, other.removed);
    }

    /// An object or list that came or went is itself a field that came or went.
    fn with_itself(mut self, old: Option<&Value>, new: Option<&Value>) -> Self {
        self.added.member |= old.is_none();
        self.removed.member |= new.is_none();
        self
    }
}

fn compare(of: Typed<'_>, old: Option<&Value>, new: Option<&Value>) -> Nodes {
    let atom = of.atom(new.or(old));
    let other = match (old, new) {
        (Some(_), Some(_)) => Some(of.atom(old)),
        _ => None,
    };
    match other {
        // The value was of one form and is of another: both count.
        Some(other) if std::mem::discriminant(&other) != std::mem::discriminant(&atom) => {
            let mut nodes = by(other, old, new);
            nodes.merge(by(atom, old, new));
            nodes
        }
        _ => by(atom, old, new),
    }
}

fn by(atom: Atom<'_>, old: Option<&Value>, new: Option<&Value>) -> Nodes {
    match atom {
        Atom::Scalar(_) => Nodes::leaf(old, new),
        Atom::Map(map) => {
            let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let empty = |fields: Option<&Map<String, Value>>| fields.is_none_or(Map::is_empty);
            if map.atomic || (empty(before) && empty(after)) {
                return Nodes::leaf(old, new);
            }
            maps(&map, before, after, old.is_some()).with_itself(old, new)
        }
        Atom::List(list) => {
            let (before, after) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
            let empty = |items: Option<&Vec<Value>>| items.is_none_or(Vec::is_empty);
            if list.kind == ListType::Atomic || (empty(before) && empty(after)) {
                return Nodes::leaf(old, new);
            }
            if before.is_some() && before == after {
                return Nodes::default();
            }
            lists(&list, before, after).with_itself(old, new)
        }
    }
}

fn maps(
    map: &MapAtom<'_>,
    before: Option<&Map<String, Value>>,
    after: Option<&Map<String, Value>>,
    was_there: bool,
) -> Nodes {
    let mut nodes = Nodes::default();
    let fields = before.into_iter().flatten();
    for (name, old) in fields {
        let new = after.and_then(|after| after.get(name));
        let (inner, _) = map.member(name).unwrap_or((Typed::Deduced, false));
        let left = new.is_none() && after.is_some() && map.always_has(name, inner);
        let new = if left { Some(&*EMPTY) } else { new };
        nodes.put(|| map.element(name), compare(inner, Some(old), new));
    }
    for (name, new) in after.into_iter().flatten() {
        if before.is_some_and(|before| before.contains_key(name)) {
            continue;
        }
        let (inner, _) = map.member(name).unwrap_or((Typed::Deduced, false));
        let old = (was_there && map.always_has(name, inner)).then_some(&*EMPTY);
        nodes.put(|| map.element(name), compare(inner, old, Some(new)));
    }
    nodes
}

type Items<'v> = BTreeMap<Element, (Vec<&'v Value>, Vec<&'v Value>)>;

fn lists(list: &ListAtom<'_>, before: Option<&Vec<Value>>, after: Option<&Vec<Value>>) -> Nodes {
    let mut items: Items<'_> = BTreeMap::new();
    for item in before.into_iter().flatten() {
        if let Ok(element) = list.element(item) {
            items.entry(element).or_default().0.push(item);
        }
    }
    for item in after.into_iter().flatten() {
        if let Ok(element) = list.element(item) {
            items.entry(element).or_default().1.push(item);
        }
    }
    let mut nodes = Nodes::default();
    for (element, (old, new)) in items {
        let mut below = match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => compare(list.items, old.first().copied(), new.first().copied()),
            (0 | 1, _) => match old.first() {
                Some(old) => compare(list.items, Some(old), None),
                None => Nodes::default(),
            },
            (_, 0 | 1) => match new.first() {
                Some(new) => compare(list.items, None, Some(new)),
                None => Nodes::default(),
            },
            _ => Nodes::default(),
        };
        // Items that stand there several times count as one value together.
        match (old.len() > 1, new.len() > 1) {
            (true, true) => {
                let equal = old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| same(old, new));
                below.modified.member = !equal;
            }
            (true, false) => below.removed.member = true,
            (false, true) => below.added.member = true,
            (false, false) => {}
        }
        nodes.put(|| element, below);
    }
    nodes
}
