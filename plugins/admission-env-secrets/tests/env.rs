//! What may stand in a container's environment.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_env_secrets::EnvSecrets;
use capstan_sdk::{
    Config, Plugin,
    admission::{Object, Validate, Verdict, test_request},
};
use serde_json::{Value, json};

fn verdict(config: &str, container: &Value, old: Option<&Value>) -> Option<String> {
    let policy = EnvSecrets::new(Config::read(config).unwrap()).unwrap();
    let template = |container: &Value| json!({"spec": {"template": {"spec": {"containers": [container]}}}});
    let (object, old) = (template(container), old.map(template));
    let old = old.as_ref().map(|old| Object::new(old));
    match policy
        .validate(
            &test_request("Deployment", "default"),
            Some(Object::new(&object)),
            old,
        )
        .unwrap()
    {
        Verdict::Deny(denial) => Some(denial.message),
        Verdict::Allow(_) => None,
    }
}

#[test]
fn literals_are_refused_without_being_repeated() {
    let container = json!({"name": "a", "env": [{"name": "A", "value": "b"}, {"name": "DB_PASSWORD", "value": "hunter2"}]});
    let message = verdict("{}", &container, None).unwrap();
    assert_eq!(
        message,
        "spec.template.spec.containers[0].env[1].value: DB_PASSWORD holds what by its name is a secret as plain \
         text; keep it in a Secret and refer to it by valueFrom.secretKeyRef"
    );
    assert!(!message.contains("hunter2"));
    assert_eq!(
        verdict("{}", &container, Some(&container)),
        None,
        "it was there before"
    );
    assert_eq!(
        verdict(r#"{"allowNames": ["DB_PASSWORD"]}"#, &container, None),
        None
    );
}

#[test]
fn references_are_refused_on_wish() {
    let by_key = json!({"name": "a", "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}}]});
    let whole =
        json!({"name": "a", "envFrom": [{"configMapRef": {"name": "c"}}, {"secretRef": {"name": "db"}}]});
    let strict = r#"{"denyReferences": true}"#;
    for (container, field) in [
        (&by_key, "env[0].valueFrom.secretKeyRef"),
        (&whole, "envFrom[1].secretRef"),
    ] {
        assert_eq!(verdict("{}", container, None), None);
        assert_eq!(
            verdict(strict, container, None).unwrap(),
            format!(
                "spec.template.spec.containers[0].{field}: Secret \"db\" must not be put into the environment; \
                 mount it as a volume"
            )
        );
    }
}
