//! Which classes and hosts ingresses may have.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_ingress::{Ingress, IngressPolicy};
use capstan_sdk::{
    Config, Fault, Plugin,
    admission::{Verdict, test_request},
    json::from_str,
};
use serde_json::{Value, json};

fn ingress(namespace: &str, name: &str, class: Option<&str>, routes: &[(&str, &str)]) -> Ingress {
    let rule = |(host, path): &(&str, &str)| json!({"host": host, "http": {"paths": [{"path": path}]}});
    let rules: Vec<Value> = routes.iter().map(rule).collect();
    let metadata = json!({"namespace": namespace, "name": name});
    let spec = json!({"ingressClassName": class, "rules": rules});
    from_str(&json!({"metadata": metadata, "spec": spec}).to_string()).unwrap()
}

fn verdict(
    config: &str,
    ingress: &Ingress,
    before: Option<&Ingress>,
    others: Result<Vec<Ingress>, Fault>,
) -> Result<Option<String>, Fault> {
    let policy = IngressPolicy::new(Config::read(config).unwrap()).unwrap();
    let mut request = test_request("Ingress", &ingress.metadata.namespace);
    request.name.clone_from(&ingress.metadata.name);
    let verdict = policy.judge(&request, ingress, None, before, || others)?;
    Ok(match verdict {
        Verdict::Deny(denial) => Some(denial.message),
        Verdict::Allow(_) => None,
    })
}

#[test]
fn a_class_is_required_and_one_of_those_allowed() {
    let config = r#"{"classes": ["nginx", "internal"], "requireClass": true, "requireHost": true}"#;
    for (class, host, message) in [
        (Some("nginx"), "a.example", None),
        (
            None,
            "a.example",
            Some("spec.ingressClassName: a class is required, one of: nginx, internal"),
        ),
        (
            Some("other"),
            "a.example",
            Some("spec.ingressClassName: \"other\" is not allowed; it must be one of: nginx, internal"),
        ),
        (
            Some("nginx"),
            "",
            Some("spec.rules: every rule must name a host, and no default backend"),
        ),
    ] {
        let ingress = ingress("team", "web", class, &[(host, "/")]);
        assert_eq!(
            verdict(config, &ingress, None, Ok(vec![])).unwrap().as_deref(),
            message
        );
    }
}

#[test]
fn a_host_is_unique_within_what_was_asked() {
    let held = || {
        Ok(vec![
            ingress("team", "web", None, &[("a.example", "/api")]),
            ingress("other", "web", None, &[("b.example", "/")]),
        ])
    };
    let ask = |within: &str, ingress: &Ingress| {
        verdict(
            &format!("{{\"uniqueHosts\": \"{within}\"}}"),
            ingress,
            None,
            held(),
        )
        .unwrap()
    };
    let taken = |host: &str, by: &str| {
        Some(format!(
            "spec.rules[0].host: host {host:?} belongs to ingress {by}"
        ))
    };
    let neighbour = ingress("team", "web-2", None, &[("A.example", "/")]);
    let stranger = ingress("third", "web", None, &[("b.example", "/x")]);
    let itself = ingress("team", "web", None, &[("a.example", "/")]);
    for (within, of_neighbour, of_stranger) in [
        ("namespace", None, taken("b.example", "other/web")),
        (
            "ingress",
            taken("a.example", "team/web"),
            taken("b.example", "other/web"),
        ),
        ("path", None, None),
    ] {
        assert_eq!(ask(within, &neighbour), of_neighbour, "{within}");
        assert_eq!(ask(within, &stranger), of_stranger, "{within}");
        assert_eq!(ask(within, &itself), None, "{within}");
    }
    let same_path = ingress("third", "web", None, &[("a.example", "/api/")]);
    assert_eq!(
        ask("path", &same_path).unwrap(),
        "spec.rules[0].host: path \"/api/\" of host \"a.example\" belongs to ingress team/web"
    );
}

#[test]
fn others_are_asked_for_only_where_a_host_is_new() {
    let config = r#"{"uniqueHosts": "ingress"}"#;
    let unreadable = || Err(Fault::retry("no cluster yet"));
    let one = ingress("team", "web", None, &[("a.example", "/")]);
    let two = ingress("team", "web", Some("nginx"), &[("a.example", "/x")]);
    assert_eq!(verdict(config, &two, Some(&one), unreadable()).unwrap(), None);
    let fault = verdict(config, &two, None, unreadable()).unwrap_err();
    assert!(fault.retry);
}
