//! The strategic merge: a merge patch that knows which lists merge, and by which key.
//! Invariants: works on copies, so a failed patch changes nothing; the order of merged lists is the
//! original's (`$setElementOrder` first, else patch order appended). Understands `$patch` (merge, replace,
//! delete), `$setElementOrder/X`, `$deleteFromPrimitiveList/X` and `$retainKeys`.

use serde_json::{Map, Value};

use super::PatchError;
use crate::schema::Schema;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";

type Node = Option<&'static Schema>;

/// The patched document.
pub(super) fn apply(schema: Node, document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(PatchError::Malformed(
            "a strategic merge patch and what it patches are objects".to_string(),
        ));
    };
    Ok(Value::Object(merge_map(schema, document, patch)?))
}

fn malformed<T>(message: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(message.into()))
}

/// The schema of an object's member, unless the object is free-form.
fn member(schema: Node, field: &str) -> Node {
    schema.and_then(|schema| schema.field(field))
}

fn merge_map(
    schema: Node,
    document: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Map<String, Value>, PatchError> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) => match directive.as_str() {
            "replace" => {
                let mut replaced = patch.clone();
                replaced.remove(DIRECTIVE);
                return Ok(clean_map(&replaced));
            }
            "delete" => return Ok(Map::new()),
            "merge" => {}
            other => return malformed(format!("unknown patch type found: {other}")),
        },
        Some(other) => return malformed(format!("unknown patch type found: {other}")),
    }
    let mut merged = document.clone();
    retain_keys(&mut merged, patch)?;
    for (field, value) in patch {
        if let Some(list) = field.strip_prefix(DELETE_PRIMITIVES) {
            delete_primitives(&mut merged, list, value)?;
        }
    }
    for (field, value) in patch {
        if field.starts_with('$')
            && (field == DIRECTIVE
                || field == RETAIN_KEYS
                || field.starts_with(SET_ORDER)
                || field.starts_with(DELETE_PRIMITIVES))
        {
            continue;
        }
        merge_field(schema, &mut merged, patch, field, value)?;
    }
    // An order may be given for a list that the patch does not otherwise touch.
    for (field, order) in patch {
        if let Some(list) = field.strip_prefix(SET_ORDER)
            && !patch.contains_key(list)
            && let Some(Value::Array(items)) = merged.get(list)
        {
            let key = member(schema, list).and_then(Schema::merge_key);
            let sorted = sort(items.clone(), &[], items, order_of(order, list)?, key);
            merged.insert(list.to_string(), Value::Array(sorted));
        }
    }
    Ok(merged)
}

fn merge_field(
    schema: Node,
    merged: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    field: &str,
    value: &Value,
) -> Result<(), PatchError> {
    if value.is_null() {
        merged.remove(field);
        return Ok(());
    }
    let node = member(schema, field);
    let strategy = node.map(Schema::strategy).unwrap_or_default();
    let result = match (merged.get(field), value) {
        (Some(Value::Object(before)), Value::Object(change)) if !strategy.replace => {
            Value::Object(merge_map(node, before, change)?)
        }
        (None | Some(_), Value::Object(change)) => {
            if change.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
                merged.remove(field);
                return Ok(());
            }
            Value::Object(merge_map(node, &Map::new(), change)?)
        }
        (before, Value::Array(change)) if strategy.merge => {
            let empty = Vec::new();
            let before = before.and_then(Value::as_array).unwrap_or(&empty);
            let order = match patch.get(&format!("{SET_ORDER}{field}")) {
                Some(order) => order_of(order, field)?,
                None => &[],
            };
            Value::Array(merge_list(node, before, change, order, field)?)
        }
        (_, Value::Array(change)) => Value::Array(change.iter().map(clean).collect()),
        (_, other) => other.clone(),
    };
    merged.insert(field.to_string(), result);
    Ok(())
}

fn retain_keys(merged: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    let Some(kept) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let Some(kept) = kept.as_array() else {
        return malformed("invalid patch format of retainKeys");
    };
    for field in patch.keys().filter(|field| !field.starts_with('$')) {
        if !patch[field].is_null() && !kept.iter().any(|one| one.as_str() == Some(field)) {
            return malformed("invalid patch format of retainKeys: a field of the patch is not listed in it");
        }
    }
    merged.retain(|field, _| kept.iter().any(|one| one.as_str() == Some(field)));
    Ok(())
}

fn delete_primitives(merged: &mut Map<String, Value>, list: &str, gone: &Value) -> Result<(), PatchError> {
    let Some(gone) = gone.as_array() else {
        return malformed(format!("{DELETE_PRIMITIVES}{list} must be a list"));
    };
    if let Some(items) = merged.get_mut(list).and_then(Value::as_array_mut) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn order_of<'a>(order: &'a Value, list: &str) -> Result<&'a [Value], PatchError> {
    order
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| PatchError::Malformed(format!("{SET_ORDER}{list} must be a list")))
}

fn merge_list(
    node: Node,
    before: &[Value],
    change: &[Value],
    order: &[Value],
    field: &str,
) -> Result<Vec<Value>, PatchError> {
    let objects = before.iter().chain(change).any(Value::is_object);
    let Some(key) = node.and_then(Schema::merge_key).filter(|_| objects) else {
        if objects {
            return malformed(format!("{field} is merged by value, but has objects in it"));
        }
        let mut merged: Vec<Value> = before.to_vec();
        for item in change {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(sort(merged, change, before, order, None));
    };
    merge_objects(node, key, before, change, order, field)
}

fn merge_objects(
    node: Node,
    key: &str,
    before: &[Value],
    change: &[Value],
    order: &[Value],
    field: &str,
) -> Result<Vec<Value>, PatchError> {
    let mut merged: Vec<Value> = before.to_vec();
    let mut replaced = false;
    let mut changes = Vec::new();
    for item in change {
        let Some(item) = item.as_object() else {
            return malformed(format!("{field}: an item of the patch is not an object"));
        };
        match item.get(DIRECTIVE).and_then(Value::as_str) {
            Some("replace") => replaced = true,
            Some("delete") => match item.get(key) {
                Some(id) => merged.retain(|one| one.get(key) != Some(id)),
                None => return malformed(missing_key(item, key)),
            },
            Some("merge") | None => changes.push(item),
            Some(other) => return malformed(format!("unknown patch type found: {other}")),
        }
    }
    if replaced {
        return Ok(changes
            .into_iter()
            .map(|item| Value::Object(clean_map(item)))
            .collect());
    }
    let items = node.and_then(Schema::items);
    for item in changes {
        let Some(id) = item.get(key) else {
            return malformed(missing_key(item, key));
        };
        match merged.iter_mut().find(|one| one.get(key) == Some(id)) {
            Some(Value::Object(same)) => *same = merge_map(items, same, item)?,
            _ => merged.push(Value::Object(merge_map(items, &Map::new(), item)?)),
        }
    }
    Ok(sort(merged, change, before, order, Some(key)))
}

fn missing_key(item: &Map<String, Value>, key: &str) -> String {
    format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(item.clone())
    )
}

/// Orders a merged list: items that the patch names stand in its order, the server's own stay where they were.
fn sort(
    merged: Vec<Value>,
    change: &[Value],
    before: &[Value],
    order: &[Value],
    key: Option<&str>,
) -> Vec<Value> {
    if order.is_empty() {
        return merged;
    }
    let _ = change;
    let id = |item: &Value| -> Value {
        key.and_then(|key| item.get(key))
            .cloned()
            .unwrap_or_else(|| item.clone())
    };
    let rank = |item: &Value| {
        let wanted = id(item);
        order.iter().position(|one| id(one) == wanted)
    };
    let place = |item: &Value| {
        let wanted = id(item);
        before.iter().position(|one| id(one) == wanted)
    };
    let (mut ordered, own): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| rank(item).is_some());
    ordered.sort_by_key(|item| rank(item));
    // The server's own items keep their place relative to their old neighbours.
    let mut result = Vec::with_capacity(ordered.len() + own.len());
    let mut own = own.into_iter().peekable();
    for item in ordered {
        if let Some(here) = place(&item) {
            while own.peek().and_then(&place).is_some_and(|there| there < here) {
                result.extend(own.next());
            }
        }
        result.push(item);
    }
    result.extend(own);
    result
}

/// A value of a patch without nulls and directives, as it stands where nothing was before.
fn clean(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(clean_map(fields)),
        Value::Array(items) => Value::Array(items.iter().map(clean).collect()),
        other => other.clone(),
    }
}

fn clean_map(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .filter(|(field, value)| {
            !value.is_null()
                && *field != DIRECTIVE
                && *field != RETAIN_KEYS
                && !field.starts_with(SET_ORDER)
                && !field.starts_with(DELETE_PRIMITIVES)
        })
        .map(|(field, value)| (field.clone(), clean(value)))
        .collect()
}
