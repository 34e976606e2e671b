//! The rules of all kinds, as tables that a reviewer can read: what is changed of a good object, and what the
//! server then says. Rows are in `rules/*.tsv`: base object (`rules/bases.json`), operation, change, answer.
//! Operations are `create`, `update`, the name of a subresource, `warn` (the answer is the warnings), and `default` (the
//! answer is what some fields become).
//! A change is assignments joined by ` & `; what stands before ` >> ` was so already in the stored object. An answer
//! that ends in `…` is the beginning of one; `-` is none. A write that is refused says all that is wrong, in order.

use std::path::Path;

use capstan_kinds::{default, resource, strategy, validate};
use serde_json::Value;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rules")
}

/// The steps of a path such as `spec.containers[0].env[+].name` or `data["a/b"]`.
fn steps(path: &str) -> Vec<String> {
    let (mut steps, mut rest) = (Vec::new(), path);
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]").expect("a closed bracket");
            steps.push(key.to_string());
            rest = after;
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']').expect("a closed bracket");
            steps.push(format!("#{index}"));
            rest = after;
        } else {
            let rest_ = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest_.find(['.', '[']).unwrap_or(rest_.len());
            steps.push(rest_[..end].to_string());
            rest = &rest_[end..];
        }
    }
    steps
}

fn assign(object: &mut Value, assignment: &str) {
    let (path, value) = assignment
        .split_once('=')
        .unwrap_or_else(|| panic!("{assignment} assigns"));
    let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{assignment}: {error}"));
    let steps = steps(path.trim());
    let (last, way) = steps.split_last().expect("a path");
    let mut place = object;
    for step in way {
        place = descend(place, step);
    }
    if value.is_null() && !last.starts_with('#') {
        place.as_object_mut().expect("an object").remove(last);
    } else if value.is_null() {
        let index: usize = last[1..].parse().expect("an index");
        place.as_array_mut().expect("a list").remove(index);
    } else {
        *descend(place, last) = value;
    }
}

fn descend<'a>(place: &'a mut Value, step: &str) -> &'a mut Value {
    let Some(index) = step.strip_prefix('#') else {
        if place.is_null() {
            *place = serde_json::json!({});
        }
        return &mut place[step];
    };
    if place.is_null() {
        *place = serde_json::json!([]);
    }
    let list = place.as_array_mut().expect("a list");
    let index = index.parse().unwrap_or(list.len());
    if index == list.len() {
        list.push(Value::Null);
    }
    &mut list[index]
}

fn read<'a>(object: &'a Value, path: &str) -> &'a Value {
    steps(path)
        .iter()
        .fold(object, |place, step| match step.strip_prefix('#') {
            Some(index) => &place[index.parse::<usize>().expect("an index")],
            None => &place[step.as_str()],
        })
}

fn changed(base: &Value, change: &str) -> Value {
    let mut object = base.clone();
    let parts = change.split(" & ").map(str::trim);
    parts
        .filter(|part| !part.is_empty() && *part != "-")
        .for_each(|part| assign(&mut object, part));
    object
}

struct Row<'a> {
    line: usize,
    base: &'a str,
    operation: &'a str,
    change: &'a str,
    expected: &'a str,
}

fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let mut cells = line.split('\t').map(str::trim);
            let mut cell = || {
                cells
                    .next()
                    .unwrap_or_else(|| panic!("line {} has four cells", index + 1))
            };
            Row {
                line: index + 1,
                base: cell(),
                operation: cell(),
                change: cell(),
                expected: cell(),
            }
        })
}

/// What the server says about a row's write.
fn answers(row: &Row, bases: &Value) -> Vec<String> {
    let base = &bases[row.base];
    let text = |name: &str| base[name].as_str().unwrap_or_default();
    let resource = resource::find_kind(text("apiVersion"), text("kind"))
        .unwrap_or_else(|| panic!("{} is a base of a known kind", row.base));
    let stored = |mut object: Value| {
        default::apply(&resource, &mut object);
        object
    };
    if row.operation == "default" {
        let object = stored(changed(base, row.change));
        let paths = row
            .expected
            .split(" ;; ")
            .map(|one| one.split_once('=').expect("path=value").0);
        return paths
            .map(|path| format!("{path}={}", read(&object, path)))
            .collect();
    }
    let texts = |errors: Vec<validate::FieldError>| errors.iter().map(ToString::to_string).collect();
    let (before, after) = row.change.split_once(" >> ").unwrap_or(("", row.change));
    if row.operation == "create" || row.operation == "warn" {
        let mut object = stored(changed(base, row.change));
        if row.operation == "warn" {
            return validate::warnings(&resource, &object, None);
        }
        strategy::prepare_create(&resource, &mut object);
        return texts(validate::create(&resource, &object));
    }
    let old = stored(changed(base, before));
    let mut new = stored(changed(&old, after));
    let subresource = if row.operation == "update" {
        strategy::prepare_update(&resource, &mut new, &old);
        ""
    } else {
        row.operation
    };
    texts(validate::update_through(&resource, subresource, &new, &old))
}

fn fits(expected: &str, answer: &str) -> bool {
    match expected.strip_suffix('…') {
        Some(start) => answer.starts_with(start),
        None => expected == answer,
    }
}

#[test]
fn every_row_of_every_table_holds() {
    let text = std::fs::read_to_string(folder().join("bases.json")).expect("the base objects");
    let bases: Value = serde_json::from_str(&text).expect("base objects in JSON");
    let mut tables: Vec<_> = std::fs::read_dir(folder())
        .expect("the tables")
        .map(|entry| entry.expect("a table").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tsv"))
        .collect();
    tables.sort();
    let (mut count, mut wrong) = (0, Vec::new());
    for table in tables {
        let text = std::fs::read_to_string(&table).expect("a table");
        let name = table.file_name().expect("a file").to_string_lossy().into_owned();
        for row in rows(&text) {
            count += 1;
            let expected: Vec<&str> = match row.expected {
                "-" => Vec::new(),
                list => list.split(" ;; ").collect(),
            };
            let got = answers(&row, &bases);
            let same =
                got.len() == expected.len() && got.iter().zip(&expected).all(|(got, one)| fits(one, got));
            if !same {
                wrong.push(format!(
                    "{name}:{} {} {} {}\n  expected {}\n  got      {}",
                    row.line,
                    row.base,
                    row.operation,
                    row.change,
                    row.expected,
                    got.join(" ;; ")
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} rows are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 300, "the tables are read: {count} rows");
}
