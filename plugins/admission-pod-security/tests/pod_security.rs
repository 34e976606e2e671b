//! Verdicts and texts of the standards on whole pods and workloads.
#![allow(missing_docs, clippy::unwrap_used)]

use admission_pod_security::PodSecurity;
use capstan_sdk::{
    Config, Pair, Plugin,
    admission::{Object, Validate, Verdict, test_request},
};
use serde_json::{Value, json};

fn check(kind: &str, labels: &[(&str, &str)], object: &Value) -> Verdict {
    let policy = PodSecurity::new(Config::read("{}").unwrap()).unwrap();
    let mut request = test_request(kind, "default");
    let pair = |(key, value): &(&str, &str)| Pair {
        key: format!("pod-security.kubernetes.io/{key}"),
        value: (*value).into(),
    };
    request.namespace_labels = labels.iter().map(pair).collect();
    policy
        .validate(&request, Some(Object::new(object)), None)
        .unwrap()
}

fn message(verdict: Verdict) -> String {
    match verdict {
        Verdict::Deny(denial) => denial.message,
        Verdict::Allow(warnings) => format!("allowed {warnings:?}"),
    }
}

fn hardened() -> Value {
    json!({"spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "x", "image": "a", "securityContext":
            {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    }})
}

#[test]
fn a_plain_pod_is_denied_by_restricted_in_the_original_words() {
    let pod = json!({"spec": {"containers": [{"name": "x", "image": "a"}]}});
    assert_eq!(
        message(check("Pod", &[("enforce", "restricted")], &pod)),
        "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"x\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"x\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"x\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"x\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    for level in ["baseline", "privileged"] {
        assert_eq!(check("Pod", &[("enforce", level)], &pod), Verdict::Allow(vec![]));
    }
    assert_eq!(
        check("Pod", &[("enforce", "restricted")], &hardened()),
        Verdict::Allow(vec![])
    );
}

#[test]
fn each_demand_of_baseline_has_its_own_text() {
    let one = |security: Value| json!({"spec": {"containers": [{"name": "x", "securityContext": security}]}});
    for (pod, text) in [
        (
            json!({"spec": {"hostNetwork": true, "hostPID": true}}),
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (
            one(json!({"privileged": true})),
            "privileged (container \"x\" must not set securityContext.privileged=true)",
        ),
        (
            one(json!({"capabilities": {"add": ["SYS_TIME", "CHOWN", "NET_ADMIN"]}})),
            "non-default capabilities (container \"x\" must not include \"NET_ADMIN\", \"SYS_TIME\" in securityContext.capabilities.add)",
        ),
        (
            json!({"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}),
            "hostPath volumes (volume \"h\")",
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 443}]}]}}),
            "hostPort (containers \"a\", \"b\" use hostPorts 443, 80)",
        ),
        (
            json!({"spec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            one(json!({"procMount": "Unmasked"})),
            "procMount (container \"x\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            one(json!({"seLinuxOptions": {"type": "spc_t", "user": "u"}})),
            "seLinuxOptions (container \"x\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
    ] {
        let expected = format!("violates PodSecurity \"baseline:v1.30\": {text}");
        assert_eq!(
            message(check(
                "Pod",
                &[("enforce", "baseline"), ("enforce-version", "v1.30")],
                &pod
            )),
            expected
        );
    }
}

#[test]
fn workloads_are_warned_about_and_not_denied() {
    let mut pod = hardened();
    pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]);
    let deployment = json!({"spec": {"template": pod}});
    let verdict = check(
        "Deployment",
        &[("enforce", "restricted"), ("warn", "restricted")],
        &deployment,
    );
    let warning = "would violate PodSecurity \"restricted:latest\": restricted volume types (volume \"v\" uses restricted \
                   volume type \"hostPath\")";
    assert_eq!(verdict, Verdict::Allow(vec![warning.into()]));
}

#[test]
fn a_label_that_names_no_level_is_refused_on_the_namespace() {
    let namespace = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "strict"}}});
    let Verdict::Deny(denial) = check("Namespace", &[], &namespace) else {
        panic!("allowed")
    };
    assert_eq!(
        (denial.code, denial.field.as_deref()),
        (422, Some("metadata.labels[pod-security.kubernetes.io/enforce]"))
    );
}

#[test]
fn it_passes_its_own_checks() {
    assert_eq!(<PodSecurity as capstan_sdk::SelfTest>::run(), Ok(3));
}
