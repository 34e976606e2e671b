//! Whether an answer holds what is expected: objects may hold more, lists must be as long, texts may leave out.
//!
//! `...` in an expected text stands for any text; everything else is compared as it is. Pure.

use serde_json::Value;

/// What `...` in an expected text is.
const ANY: &str = "...";

/// What differs, a line each; none where the answer holds what is expected.
pub(crate) fn differences(expected: &Value, answer: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", expected, answer, &mut found);
    found
}

fn compare(path: &str, expected: &Value, answer: &Value, found: &mut Vec<String>) {
    match (expected, answer) {
        (Value::Object(expected), Value::Object(answer)) => {
            for (key, expected) in expected {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(&path, expected, answer.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(expected), Value::Array(answer)) if expected.len() == answer.len() => {
            for (at, (expected, answer)) in expected.iter().zip(answer).enumerate() {
                compare(&format!("{path}[{at}]"), expected, answer, found);
            }
        }
        (Value::String(expected), Value::String(answer)) if reads_as(expected, answer) => {}
        (Value::Number(expected), Value::Number(answer)) if expected.as_f64() == answer.as_f64() => {}
        _ if expected == answer => {}
        _ => {
            let answer = if answer.is_null() {
                "nothing".to_owned()
            } else {
                answer.to_string()
            };
            found.push(format!("{path}: expected {expected}, got {answer}"));
        }
    }
}

/// Whether the pieces between `...` stand in the text in order, the first at its start and the last at its end.
fn reads_as(expected: &str, text: &str) -> bool {
    let pieces: Vec<&str> = expected.split(ANY).collect();
    let [first, between @ .., last] = pieces.as_slice() else {
        return expected == text;
    };
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    for piece in between {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_may_hold_more_but_nothing_else() {
        for (expected, answer, differs) in [
            (json!({"a": 1}), json!({"a": 1, "b": 2}), None),
            (json!({"a": 1.0}), json!({"a": 1}), None),
            (
                json!({"a": 1}),
                json!({"b": 2}),
                Some("a: expected 1, got nothing"),
            ),
            (json!({"a": [{"b": 1}]}), json!({"a": [{"b": 1, "c": 2}]}), None),
            (
                json!({"a": [1]}),
                json!({"a": [1, 2]}),
                Some("a: expected [1], got [1,2]"),
            ),
            (
                json!({"a": [{"b": 1}]}),
                json!({"a": [{"b": 2}]}),
                Some("a[0].b: expected 1, got 2"),
            ),
            (json!({"a": null}), json!({}), None),
            (json!("no...tag"), json!("no such tag"), None),
            (json!("...tag..."), json!("a tag"), None),
            (json!("tag"), json!("a tag"), Some("expected \"tag\"")),
            (json!("...a...a"), json!("a"), Some("expected")),
        ] {
            let found = differences(&expected, &answer);
            match differs {
                None => assert!(found.is_empty(), "{expected} {answer}: {found:?}"),
                Some(text) => assert!(
                    found.len() == 1 && found[0].contains(text),
                    "{expected} {answer}: {found:?}"
                ),
            }
        }
    }
}
