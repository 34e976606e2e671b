//! Defaults are set, requirements checked, and both leave alone what they should.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_labels::Labels;
use capstan_sdk::{
    Config, Plugin,
    admission::{Edit, Mutate, Object, Patch, Validate, Verdict, test_request},
};
use serde_json::{Value, json};

const CONFIG: &str =
    r#"{"defaults": {"cost/center": "none"}, "required": [{"key": "team", "values": ["red", "blue"]}]}"#;

fn policy() -> Labels {
    Labels::new(Config::read(CONFIG).unwrap()).unwrap()
}

fn patches(object: &Value) -> Vec<Patch> {
    policy()
        .mutate(&test_request("Pod", "default"), Some(Object::new(object)), None)
        .unwrap()
}

#[test]
fn missing_defaults_are_added_once() {
    let add = |path: &str, value: &str| {
        Patch::Add(Edit {
            path: path.into(),
            value: value.into(),
        })
    };
    assert_eq!(
        patches(&json!({"metadata": {}})),
        [add("/metadata/labels", r#"{"cost/center":"none"}"#)]
    );
    assert_eq!(
        patches(&json!({"metadata": {"labels": {"a": "b"}}})),
        [add("/metadata/labels/cost~1center", "\"none\"")]
    );
    assert_eq!(
        patches(&json!({"metadata": {"labels": {"cost/center": "7"}}})),
        []
    );
}

#[test]
fn required_labels_are_demanded_with_their_values() {
    for (labels, message) in [
        (json!({"team": "red"}), None),
        (
            json!({}),
            Some("metadata.labels: label \"team\" is required, one of: red, blue"),
        ),
        (
            json!({"team": "green"}),
            Some("metadata.labels: label \"team\" is \"green\", but must be one of: red, blue"),
        ),
    ] {
        let pod = json!({"metadata": {"labels": labels}});
        let verdict = policy()
            .validate(&test_request("Pod", "default"), Some(Object::new(&pod)), None)
            .unwrap();
        let denial = match verdict {
            Verdict::Deny(denial) => Some(denial.message),
            Verdict::Allow(_) => None,
        };
        assert_eq!(denial.as_deref(), message);
    }
}
