//! The strategic merge: a merge patch that knows which lists merge, and by which key.
//! Invariants: works on copies, so a failed patch changes nothing; the order of merged lists is the
//! original's (`$setElementOrder`, else the patch's own order). Understands `$patch` (merge, replace,
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
            let sorted = sort(items.clone(), items, order_of(order, list)?, key);
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
                None => change.as_slice(),
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
        return Ok(sort(merged, before, order, None));
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
            None => changes.push(item),
            Some("merge") => return malformed("merging lists cannot yet be specified in the patch"),
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
    Ok(sort(merged, before, order, Some(key)))
}

fn missing_key(item: &Map<String, Value>, key: &str) -> String {
    format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(item.clone())
    )
}

/// Orders a merged list as the original does: items that the order names stand in its order, the server's own
/// keep their place before those old neighbours that they stood before, and new items come ahead of them.
fn sort(merged: Vec<Value>, before: &[Value], order: &[Value], key: Option<&str>) -> Vec<Value> {
    let id = |item: &Value| {
        key.and_then(|key| item.get(key))
            .cloned()
            .unwrap_or_else(|| item.clone())
    };
    let index = |list: &[Value], item: &Value| {
        let wanted = id(item);
        list.iter().position(|one| id(one) == wanted)
    };
    let (mut named, mut own): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| index(order, item).is_some());
    named.sort_by_cached_key(|item| index(order, item));
    own.sort_by_cached_key(|item| index(before, item));
    let mut result = Vec::with_capacity(named.len() + own.len());
    let mut own = own.into_iter().peekable();
    for item in named {
        if let Some(here) = index(before, &item) {
            while own
                .peek()
                .and_then(|first| index(before, first))
                .is_some_and(|there| there < here)
            {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema;

    fn patched(api_version: &str, kind: &str, document: Value, patch: Value) -> Result<Value, PatchError> {
        apply(schema::of(api_version, kind), &document, &patch)
    }

    #[track_caller]
    fn check(document: Value, patch: Value, expected: Value) {
        assert_eq!(patched("v1", "Pod", document, patch).unwrap(), expected);
    }

    fn containers(names: &[&str]) -> Value {
        json!({"spec": {"containers": names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>()}})
    }

    #[test]
    fn lists_merge_by_key() {
        check(
            json!({"spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "y", "env": [{"name": "F", "value": "2"}, {"name": "E", "value": "1"}]}]}}),
        );
        // A new item comes first, as kubectl patch shows.
        check(
            containers(&["a", "b"]),
            containers(&["c"]),
            containers(&["c", "a", "b"]),
        );
        check(
            containers(&["a", "b", "c"]),
            containers(&["b"]),
            containers(&["a", "b", "c"]),
        );
        // Lists without a merge strategy are replaced.
        check(
            json!({"spec": {"containers": [{"name": "a", "args": ["1"]}], "tolerations": [{"key": "x"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["2"]}], "tolerations": [{"key": "y"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["2"]}], "tolerations": [{"key": "y"}]}}),
        );
    }

    #[test]
    fn null_removes() {
        check(
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [{"name": "a", "image": "x"}]}}),
            json!({"metadata": {"labels": {"a": null}}, "spec": {"containers": [{"name": "a", "image": null}]}}),
            json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "a"}]}}),
        );
    }

    #[test]
    fn element_order() {
        check(
            containers(&["a", "b", "c"]),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]}}),
            containers(&["b", "c", "a"]),
        );
        check(
            containers(&["a", "b"]),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "n"}], "containers": [{"name": "n"}, {"$patch": "delete", "name": "b"}]}}),
            containers(&["a", "n"]),
        );
    }

    #[test]
    fn delete_and_replace() {
        check(
            containers(&["a", "b"]),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}}),
            containers(&["b"]),
        );
        check(
            containers(&["a", "b"]),
            json!({"spec": {"containers": [{"name": "z"}, {"$patch": "replace"}]}}),
            containers(&["z"]),
        );
        check(
            json!({"spec": {"securityContext": {"runAsUser": 1}, "nodeSelector": {"a": "b"}}}),
            json!({"spec": {"securityContext": {"$patch": "delete"}, "nodeSelector": {"$patch": "replace", "c": "d"}}}),
            json!({"spec": {"securityContext": {}, "nodeSelector": {"c": "d"}}}),
        );
    }

    #[test]
    fn primitives() {
        check(
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "b"]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]}}),
        );
        check(
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["b"]}}),
            json!({"metadata": {"finalizers": ["b"]}}),
        );
    }

    #[test]
    fn retain_keys_clears_the_rest() {
        let deployment =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        assert_eq!(
            patched("apps/v1", "Deployment", deployment, patch).unwrap(),
            json!({"spec": {"strategy": {"type": "Recreate"}}})
        );
        check(
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        );
    }

    #[test]
    fn refused() {
        for patch in [
            json!({"spec": {"containers": [{"image": "x"}]}}),
            json!({"spec": {"$patch": "explode"}}),
            json!({"spec": {"$retainKeys": ["a"], "b": 1}}),
            json!([]),
        ] {
            assert!(
                patched("v1", "Pod", containers(&["a"]), patch.clone()).is_err(),
                "{patch}"
            );
        }
    }
}
