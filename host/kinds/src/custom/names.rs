//! Which names a definition gets, and the conditions that tell it.
//! Invariants: a name belongs to the first definition of the group that was accepted with it; a definition
//! that was established once stays so; nothing is written where nothing changes. Called by the API server's
//! loop over definitions, with all definitions of the group; pure.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::definition::is_true;

/// The finalizer of a definition whose objects must go first.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The names that other definitions of a group hold.
#[derive(Debug, Default)]
pub struct Names {
    resources: HashSet<String>,
    kinds: HashSet<String>,
}

impl Names {
    /// Of the other definitions of the same group, the built-in kinds' included.
    pub fn taken<'a>(group: &str, name: &str, all: impl Iterator<Item = &'a Value>) -> Self {
        let mut taken = Names::default();
        for row in crate::resource::all().iter().filter(|row| row.group == group) {
            taken.resources.extend([row.plural.clone(), row.singular.clone()]);
            taken.resources.extend(row.short_names.iter().cloned());
            taken.kinds.extend([row.kind.clone(), row.list_kind.clone()]);
        }
        for other in all.filter(|other| other["spec"]["group"] == group && other["metadata"]["name"] != name)
        {
            let names = &other["status"]["acceptedNames"];
            let text = |field: &str| names[field].as_str().map(str::to_string);
            let short = names["shortNames"].as_array().into_iter().flatten();
            taken
                .resources
                .extend(text("plural").into_iter().chain(text("singular")));
            taken
                .resources
                .extend(short.filter_map(|one| one.as_str().map(str::to_string)));
            taken
                .kinds
                .extend(text("kind").into_iter().chain(text("listKind")));
        }
        taken
    }
}

/// The definition with the names and conditions that it should have; none if it has them.
pub fn accept(definition: &Value, taken: &Names, now: &str) -> Option<Value> {
    let requested = &definition["spec"]["names"];
    let mut names = definition["status"]["acceptedNames"].clone();
    if !names.is_object() {
        names = json!({});
    }
    let mut problem: Option<(&str, String)> = None;
    let fields = [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ];
    for (field, reason, used) in fields {
        let wanted = &requested[field];
        let list: Vec<&str> = match wanted {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let clash: Vec<String> = list
            .into_iter()
            .filter(|name| used.contains(*name))
            .map(|name| format!("{name:?} is already in use"))
            .collect();
        if clash.is_empty() {
            put(&mut names, field, wanted);
        } else {
            let text = if clash.len() == 1 {
                clash.concat()
            } else {
                format!("[{}]", clash.join(", "))
            };
            problem = Some((reason, text));
        }
    }
    put(&mut names, "categories", &requested["categories"]);
    let mut new = definition.clone();
    new["status"]["acceptedNames"] = names;
    let accepted = problem.is_none();
    let (reason, message) = problem.unwrap_or(("NoConflicts", "no conflicts found".to_string()));
    set_condition(&mut new, "NamesAccepted", accepted, reason, &message, now);
    if !is_true(definition, "Established") {
        let (reason, message) = match accepted {
            true => ("InitialNamesAccepted", "the initial names have been accepted"),
            false => ("NotAccepted", "not all names are accepted"),
        };
        set_condition(&mut new, "Established", accepted, reason, message, now);
    }
    (new != *definition).then_some(new)
}

fn put(names: &mut Value, field: &str, value: &Value) {
    match (names.as_object_mut(), value) {
        (Some(names), Value::Null) => {
            names.remove(field);
        }
        (Some(names), value) => {
            names.insert(field.to_string(), value.clone());
        }
        _ => {}
    }
}

/// Sets a condition; its time changes only with its status.
pub fn set_condition(
    definition: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: &str,
) {
    let status = if holds { "True" } else { "False" };
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else {
        return;
    };
    let before = list.iter_mut().find(|one| one["type"] == kind);
    let since = match &before {
        Some(one) if one["status"] == status => one["lastTransitionTime"].clone(),
        _ => json!(now),
    };
    let condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    match before {
        Some(one) => *one = condition,
        None => list.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.g.io")},
            "spec": {"group": "g.io", "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": short}}
        })
    }

    #[test]
    fn the_first_keeps_its_names() {
        let first = accept(&definition("as", "A", &["x"]), &Names::default(), "t1").unwrap();
        assert!(is_true(&first, "Established") && is_true(&first, "NamesAccepted"));
        assert!(accept(&first, &Names::default(), "t2").is_none());
        let second = definition("bs", "B", &["x"]);
        let taken = Names::taken("g.io", "bs.g.io", [&first, &second].into_iter());
        let second = accept(&second, &taken, "t2").unwrap();
        assert_eq!(second["status"]["conditions"][0]["reason"], "ShortNamesConflict");
        assert_eq!(
            second["status"]["conditions"][0]["message"],
            "\"x\" is already in use"
        );
        assert!(!is_true(&second, "Established"));
        let freed = accept(&second, &Names::default(), "t3").unwrap();
        assert!(is_true(&freed, "Established"));
    }
}
