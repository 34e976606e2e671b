//! The fields of a value that somebody applies, and whether it fits its schema at all.

use serde_json::Value;

use super::element::Element;
use super::set::{Node, Set};
use super::typed::{Atom, ListAtom, Scalar, Typed};
use crate::schema::ListType;

/// Every field that the value sets: leaves, list items, and entries of maps.
pub fn fields_of(of: Typed<'_>, value: &Value) -> Set {
    node_of(of, value).below
}

fn node_of(of: Typed<'_>, value: &Value) -> Node {
    match of.atom(Some(value)) {
        Atom::Scalar(_) => Node::leaf(),
        Atom::Map(map) if map.atomic => Node::leaf(),
        Atom::List(list) if list.kind == ListType::Atomic => Node::leaf(),
        Atom::Map(map) => {
            let mut node = Node::default();
            for (name, member) in value.as_object().into_iter().flatten() {
                let (inner, declared) = map.member(name).unwrap_or((Typed::Deduced, false));
                let mut own = node_of(inner, member);
                own.member |= !declared || is_empty_map(member);
                node.below.put(map.element(name), own);
            }
            node
        }
        Atom::List(list) => Node {
            member: false,
            below: items_of(&list, value),
        },
    }
}

fn is_empty_map(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
}

/// Items by their keys; one that stands there several times is owned as it is.
fn items_of(list: &ListAtom<'_>, value: &Value) -> Set {
    let items = value.as_array().into_iter().flatten();
    let mut named: Vec<(Element, &Value)> = items
        .filter_map(|item| Some((list.element(item).ok()?, item)))
        .collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut set = Set::default();
    for same in named.chunk_by(|a, b| a.0 == b.0) {
        let mut node = match same {
            [(_, item)] => node_of(list.items, item),
            _ => Node::leaf(),
        };
        node.member = true;
        set.put(same[0].0.clone(), node);
    }
    set
}

/// Whether a value fits its schema: declared fields, types, keys of list items that stand once. The message
/// begins with the path.
pub fn fits(of: Typed<'_>, value: &Value) -> Result<(), String> {
    let mut path = String::new();
    check(of, value, &mut path).map_err(|problem| {
        if path.is_empty() {
            problem
        } else {
            format!("{path}: {problem}")
        }
    })
}

fn check(of: Typed<'_>, value: &Value, path: &mut String) -> Result<(), String> {
    match of.atom(Some(value)) {
        Atom::Scalar(scalar) => check_scalar(scalar, value),
        Atom::Map(map) => {
            let fields = match value {
                Value::Object(fields) => fields,
                Value::Null => return Ok(()),
                other => return Err(format!("expected map, got {other}")),
            };
            for (name, member) in fields {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                let Some((inner, _)) = map.member(name) else {
                    return Err("field not declared in schema".into());
                };
                check(inner, member, path)?;
                path.truncate(length);
            }
            Ok(())
        }
        Atom::List(list) => {
            let items = match value {
                Value::Array(items) => items,
                Value::Null => return Ok(()),
                other => return Err(format!("expected list, got {other}")),
            };
            check_items(&list, items, path)
        }
    }
}

fn check_items(list: &ListAtom<'_>, items: &[Value], path: &mut String) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let length = path.len();
        if list.kind == ListType::Atomic {
            path.push_str(&format!("[{index}]"));
        } else {
            let element = list
                .element(item)
                .map_err(|problem| format!("element {index}: {problem}"))?;
            let text = element.to_string();
            if !seen.insert(element) {
                return Err(format!("duplicate entries for key {text}"));
            }
            path.push_str(&text);
        }
        check(list.items, item, path)?;
        path.truncate(length);
    }
    Ok(())
}

fn check_scalar(scalar: Scalar, value: &Value) -> Result<(), String> {
    let fits = match (scalar, value) {
        (_, Value::Null) => true,
        (Scalar::Any, value) => !value.is_array() && !value.is_object(),
        (Scalar::Text, value) => value.is_string(),
        (Scalar::Number, value) => value.is_number(),
        (Scalar::Boolean, value) => value.is_boolean(),
    };
    let expected = match scalar {
        Scalar::Any => "any scalar",
        Scalar::Text => "string",
        Scalar::Number => "numeric (int or float)",
        Scalar::Boolean => "boolean",
    };
    if fits {
        Ok(())
    } else {
        Err(format!("expected {expected}, got {value}"))
    }
}
