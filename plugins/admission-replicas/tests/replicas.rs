//! How many replicas workloads may ask for.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_replicas::Replicas;
use capstan_sdk::{
    Config, Plugin,
    admission::{Object, Validate, Verdict, test_request},
};
use serde_json::{Value, json};

fn verdict(config: &str, kind: &str, object: &Value, old: Option<&Value>) -> Option<String> {
    let policy = Replicas::new(Config::read(config).unwrap()).unwrap();
    let old = old.map(|old| Object::new(old));
    match policy
        .validate(&test_request(kind, "default"), Some(Object::new(object)), old)
        .unwrap()
    {
        Verdict::Deny(denial) => Some(denial.message),
        Verdict::Allow(_) => None,
    }
}

#[test]
fn replicas_are_bounded_in_every_kind_that_has_them() {
    let replicas = |count: i64| json!({"spec": {"replicas": count}});
    let few = Some("spec.replicas: 1 is too few; ask for at least 2, or 0 to switch it off");
    for (config, kind, object, message) in [
        ("{}", "Deployment", replicas(2), None),
        ("{}", "Deployment", replicas(1), few),
        ("{}", "Deployment", json!({"spec": {}}), few),
        ("{}", "Deployment", replicas(0), None),
        ("{}", "Scale", json!({"spec": {}}), None),
        ("{}", "Scale", replicas(1), few),
        ("{}", "DaemonSet", json!({"spec": {}}), None),
        (
            r#"{"allowZero": false}"#,
            "StatefulSet",
            replicas(0),
            Some("spec.replicas: 0 is too few; ask for at least 2"),
        ),
        (
            r#"{"maximum": 3}"#,
            "Deployment",
            replicas(4),
            Some("spec.replicas: 4 is too many; ask for at most 3"),
        ),
        (
            "{}",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 9}}),
            Some("spec.minReplicas: 1 is too few; ask for at least 2, or 0 to switch it off"),
        ),
    ] {
        assert_eq!(
            verdict(config, kind, &object, None).as_deref(),
            message,
            "{kind} {object}"
        );
    }
}

#[test]
fn what_was_there_stays_and_what_is_owned_is_its_owners() {
    let mut one = json!({"spec": {"replicas": 1}});
    assert_eq!(verdict("{}", "Deployment", &one, Some(&one.clone())), None);
    assert!(verdict("{}", "ReplicaSet", &one, None).is_some());
    one["metadata"] = json!({"ownerReferences": [{"kind": "Deployment", "controller": true}]});
    assert_eq!(verdict("{}", "ReplicaSet", &one, None), None);
}

#[test]
fn bounds_that_exclude_each_other_are_refused() {
    let config = Config::read(r#"{"minimum": 3, "maximum": 2}"#).unwrap();
    let fault = Replicas::new(config).err().unwrap();
    assert_eq!(fault.message, "maximum: 2 is below minimum 3");
}
