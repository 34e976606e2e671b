//! What containers must state, and within which bounds.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_limits::Limits;
use capstan_sdk::{
    Config, Plugin,
    admission::{Object, Validate, Verdict, test_request},
};
use serde_json::{Value, json};

fn verdict(config: &Value, resources: &Value) -> Option<String> {
    let policy = Limits::new(Config::read(&config.to_string()).unwrap()).unwrap();
    let pod = json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
    match policy
        .validate(&test_request("Pod", "default"), Some(Object::new(&pod)), None)
        .unwrap()
    {
        Verdict::Deny(denial) => Some(denial.message),
        Verdict::Allow(_) => None,
    }
}

#[test]
fn requests_and_limits_are_required_and_bounded() {
    let require = json!({"require": {"requests": ["cpu"], "limits": ["memory"]}});
    let bound = json!({"minimum": {"cpu": "10m"}, "maximum": {"memory": "1Gi"}});
    let at = "spec.containers[0].resources";
    for (config, resources, message) in [
        (
            &require,
            json!({}),
            Some("requests: cpu is required; state for instance cpu: 100m"),
        ),
        (
            &require,
            json!({"requests": {"cpu": "1"}}),
            Some("limits: memory is required; state for instance memory: 128Mi"),
        ),
        (&require, json!({"limits": {"cpu": 1, "memory": "1Gi"}}), None),
        (
            &bound,
            json!({"requests": {"cpu": "5m"}, "limits": {"memory": "1Mi"}}),
            Some("requests: minimum cpu usage per Container is 10m, but request is 5m"),
        ),
        (
            &bound,
            json!({"limits": {"memory": "1025Mi"}}),
            Some("limits: maximum memory usage per Container is 1Gi, but limit is 1025Mi"),
        ),
        (
            &bound,
            json!({}),
            Some("limits: maximum memory usage per Container is 1Gi. No limit is specified"),
        ),
        (
            &bound,
            json!({"requests": {"cpu": "10m"}, "limits": {"memory": "1Gi"}}),
            None,
        ),
    ] {
        assert_eq!(
            verdict(config, &resources),
            message.map(|message| format!("{at}.{message}")),
            "{resources}"
        );
    }
}

#[test]
fn a_bound_that_is_no_quantity_refuses_the_configuration() {
    let fault = Limits::new(Config::read(r#"{"maximum":{"cpu":"lots"}}"#).unwrap())
        .err()
        .unwrap();
    assert_eq!(
        fault.message,
        "maximum.cpu: \"lots\" is not a quantity such as 100m or 1Gi"
    );
}
