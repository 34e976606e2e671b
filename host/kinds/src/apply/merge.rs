//! Merging an applied value into a live one, and taking fields out of a value.
//! Invariants: what the applied value says wins; lists keep the applied order, with what only the live one
//! has in between; nothing is removed by merging. Null is a value here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::set::Set;
use super::typed::{Atom, ListAtom, MapAtom, Typed};
use crate::schema::ListType;

/// The live value with what is applied; the applied one must fit its schema.
pub fn merged(of: Typed<'_>, live: &Value, applied: &Value) -> Value {
    merge(of, Some(live), Some(applied)).unwrap_or(Value::Null)
}

fn merge(of: Typed<'_>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
    let (Some(base), Some(over)) = (live, applied) else {
        return applied.or(live).cloned();
    };
    match of.atom(Some(over)) {
        Atom::Scalar(_) => Some(over.clone()),
        Atom::Map(map) => {
            let (base, fields) = (base.as_object(), over.as_object());
            let empty = |fields: Option<&Map<String, Value>>| fields.is_none_or(Map::is_empty);
            if map.atomic || (empty(base) && empty(fields)) {
                return Some(over.clone());
            }
            Some(Value::Object(merge_maps(&map, base, fields)))
        }
        Atom::List(list) => {
            let (base, items) = (base.as_array(), over.as_array());
            let empty = |items: Option<&Vec<Value>>| items.is_none_or(Vec::is_empty);
            if list.kind == ListType::Atomic || (empty(base) && empty(items)) {
                return Some(over.clone());
            }
            let none = Vec::new();
            let items = merge_lists(&list, base.unwrap_or(&none), items.unwrap_or(&none));
            (!items.is_empty()).then_some(Value::Array(items))
        }
    }
}

fn merge_maps(
    map: &MapAtom<'_>,
    live: Option<&Map<String, Value>>,
    applied: Option<&Map<String, Value>>,
) -> Map<String, Value> {
    let mut out = Map::new();
    for (name, live) in live.into_iter().flatten() {
        let applied = applied.and_then(|applied| applied.get(name));
        let (inner, _) = map.member(name).unwrap_or((Typed::Deduced, false));
        out.extend(merge(inner, Some(live), applied).map(|value| (name.clone(), value)));
    }
    for (name, value) in applied.into_iter().flatten() {
        if live.is_none_or(|live| !live.contains_key(name)) {
            out.insert(name.clone(), value.clone());
        }
    }
    out
}

/// Live items by name; one that stands there several times is not merged into.
fn named<'v>(list: &ListAtom<'_>, items: &'v [Value]) -> (Vec<(Element, &'v Value)>, Index<'v>) {
    let all: Vec<(Element, &Value)> = items
        .iter()
        .filter_map(|item| Some((list.element(item).ok()?, item)))
        .collect();
    let mut index: Index<'v> = BTreeMap::new();
    for (element, item) in &all {
        index
            .entry(element.clone())
            .and_modify(|one| *one = None)
            .or_insert(Some(*item));
    }
    (all, index)
}

type Index<'v> = BTreeMap<Element, Option<&'v Value>>;

fn merge_lists(list: &ListAtom<'_>, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let (live, live_by) = named(list, live);
    let (applied, applied_by) = named(list, applied);
    let mut shared = applied
        .iter()
        .map(|(element, _)| element)
        .filter(|element| live_by.contains_key(*element))
        .peekable();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let both = |element: &Element, over: &Value| {
        let base = live_by.get(element).copied().flatten();
        merge(list.items, base, Some(over))
    };
    let (mut left, mut right) = (0, 0);
    while left < live.len() || right < applied.len() {
        if let (Some((name, _)), Some((over_name, over))) = (live.get(left), applied.get(right)) {
            if name == over_name {
                done.insert(over_name);
                out.extend(both(over_name, over));
                (left, right) = (left + 1, right + 1);
                shared.next();
                continue;
            }
            // An item of both that stands elsewhere in the applied order: it comes there.
            if applied_by.contains_key(name) && shared.peek().is_some_and(|next| *next != name) {
                left += 1;
                continue;
            }
        }
        if let Some((name, base)) = live.get(left) {
            if !applied_by.contains_key(name) {
                out.push((*base).clone());
                left += 1;
                continue;
            }
            if done.contains(name) {
                left += 1;
            }
        }
        if let Some((name, over)) = applied.get(right) {
            done.insert(name);
            out.extend(both(name, over));
            right += 1;
            if shared.peek() == Some(&name) {
                shared.next();
            }
        } else if live
            .get(left)
            .is_some_and(|(name, _)| applied_by.contains_key(name))
        {
            left += 1;
        }
    }
    out
}

/// The value without the fields of a set; objects and lists that become empty by it stay.
pub fn without(of: Typed<'_>, value: &Value, fields: &Set) -> Value {
    if fields.is_empty() {
        return value.clone();
    }
    remove(of, value, fields).unwrap_or(Value::Null)
}

fn remove(of: Typed<'_>, value: &Value, fields: &Set) -> Option<Value> {
    match of.atom(Some(value)) {
        Atom::Scalar(_) => Some(value.clone()),
        Atom::Map(map) => {
            let members = value
                .as_object()
                .filter(|members| !members.is_empty() && !map.atomic)?;
            let (mut out, mut inside) = (Map::new(), false);
            for (name, member) in members {
                let kept = match fields.at_field(name) {
                    None => member.clone(),
                    Some(node) if node.member => continue,
                    Some(node) => {
                        inside = true;
                        let (inner, _) = map.member(name).unwrap_or((Typed::Deduced, false));
                        remove(inner, member, &node.below).unwrap_or_else(|| emptied(member))
                    }
                };
                out.insert(name.clone(), kept);
            }
            (inside || !out.is_empty()).then_some(Value::Object(out))
        }
        Atom::List(list) => {
            let items = value
                .as_array()
                .filter(|items| !items.is_empty() && list.kind != ListType::Atomic)?;
            let (mut out, mut inside) = (Vec::new(), false);
            for item in items {
                let node = list.element(item).ok().and_then(|element| fields.get(&element));
                out.push(match node {
                    None => item.clone(),
                    Some(node) if node.member => continue,
                    Some(node) => {
                        inside = true;
                        remove(list.items, item, &node.below).unwrap_or_else(|| emptied(item))
                    }
                });
            }
            (inside || !out.is_empty()).then_some(Value::Array(out))
        }
    }
}

fn emptied(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}
