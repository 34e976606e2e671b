//! Admission webhooks and conversion webhooks, called over TLS by the real server.
#![allow(clippy::unwrap_used)]

mod rig;

use rig::Rig;
use rig::webhook::{Hook, allowed, patched};
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1";

/// A webhook of a configuration.
fn webhook(hook: &Hook, name: &str, more: Value) -> Value {
    let mut webhook = json!({
        "name": name, "clientConfig": hook.client(&format!("/{name}")), "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}],
        "objectSelector": {"matchLabels": {"judged": "yes"}},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        webhook[field] = value.clone();
    }
    webhook
}

async fn register(rig: &Rig, kind: &str, name: &str, webhooks: Vec<Value>) {
    let plural = format!("{HOOKS}/{}webhookconfigurations", kind.to_lowercase());
    let document = json!({"metadata": {"name": name}, "webhooks": webhooks});
    rig.done("POST", &plural, document).await;
}

fn map(name: &str, data: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"judged": "yes"}}, "data": data})
}

/// Denies what holds `bad`, warns of everything else.
fn judge(_: &str, review: &Value) -> Value {
    let request = &review["request"];
    let object = if request["object"].is_null() {
        &request["oldObject"]
    } else {
        &request["object"]
    };
    if object["data"]["bad"].is_null() {
        return allowed(
            review,
            json!({"warnings": ["looked at"], "auditAnnotations": {"k": "v"}}),
        );
    }
    allowed(
        review,
        json!({"allowed": false, "status": {"message": "this is bad", "reason": "Forbidden", "code": 403}}),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validating_webhooks_refuse_what_they_are_about() {
    let rig = Rig::start().await;
    let hook = Hook::start(judge).await;
    rig.done("POST", MAPS, map("before", json!({"bad": "1"}))).await;
    register(
        &rig,
        "Validating",
        "judge",
        vec![webhook(&hook, "judge.test.io", json!({}))],
    )
    .await;
    let refused = rig
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            map("x", json!({"bad": "1"})),
            |reply| reply.code != 201,
        )
        .await;
    assert_eq!(refused.code, 403, "{}", refused.document);
    assert_eq!(
        (refused.message(), &refused.document["reason"]),
        (
            "admission webhook \"judge.test.io\" denied the request: this is bad",
            &json!("Forbidden")
        )
    );
    let good = rig.ask("POST", MAPS, map("good", json!({"a": "1"}))).await;
    assert_eq!(good.code, 201);
    assert_eq!(good.headers["warning"], "299 - \"looked at\"");
    // What it was sent.
    let review = hook.asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    let mut request = review["request"].clone();
    assert!(request["object"]["metadata"]["uid"].is_string() && request["uid"].is_string());
    for field in ["uid", "object"] {
        request.as_object_mut().unwrap().remove(field);
    }
    let (kind, resource) = (
        json!({"group": "", "version": "v1", "kind": "ConfigMap"}),
        json!({"group": "", "version": "v1", "resource": "configmaps"}),
    );
    assert_eq!(
        request,
        json!({"kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource, "name": "good",
            "namespace": "default", "operation": "CREATE", "dryRun": false, "oldObject": null,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
            "userInfo": {"username": "test", "groups": ["system:masters", "system:authenticated"]}})
    );
    // Connections serve one call after the other; one that is not back yet when the next call comes has a second beside it.
    let before = hook.connections.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..10 {
        rig.done("PATCH", &format!("{MAPS}/good"), json!({"data": {"a": "2"}}))
            .await;
    }
    let after = hook.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(after <= before + 1, "{before} connections, then {after}");
    // Updates, patches and deletions too; others pass unseen.
    for (method, path, body) in [
        ("PUT", format!("{MAPS}/good"), map("good", json!({"bad": "1"}))),
        ("PATCH", format!("{MAPS}/good"), json!({"data": {"bad": "1"}})),
        ("DELETE", format!("{MAPS}/before"), Value::Null),
        (
            "DELETE",
            format!("{MAPS}?labelSelector=judged%3Dyes"),
            Value::Null,
        ),
    ] {
        let reply = rig.ask(method, &path, body).await;
        assert_eq!(reply.code, 403, "{method} {path}: {}", reply.document);
    }
    rig.done(
        "POST",
        MAPS,
        json!({"metadata": {"name": "unseen"}, "data": {"bad": "1"}}),
    )
    .await;
    // A server beside judges by the same configuration, and no webhook keeps itself from being removed.
    let beside = rig.beside().await;
    assert_eq!(
        beside.ask("POST", MAPS, map("y", json!({"bad": "1"}))).await.code,
        403
    );
    let own = format!("{HOOKS}/validatingwebhookconfigurations/judge");
    beside.done("DELETE", &own, Value::Null).await;
    let again = rig
        .until("POST", MAPS, map("free", json!({"bad": "1"})), |reply| {
            reply.code == 201
        })
        .await;
    assert!(again.headers.get("warning").is_none());
    beside.stop().await;
    rig.stop().await;
}

/// Each path appends its own letter to what stands in `order`.
fn append(path: &str, review: &Value) -> Value {
    let data = &review["request"]["object"]["data"];
    let order = data["order"].as_str().unwrap_or_default();
    let letter = path.trim_start_matches('/').chars().next().unwrap();
    if letter == 'c' && order.ends_with('c') {
        return allowed(review, json!({}));
    }
    patched(
        review,
        json!([{"op": "add", "path": "/data/order", "value": format!("{order}{letter}")}]),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutating_webhooks_change_objects_in_order_and_again() {
    let rig = Rig::start().await;
    let hook = Hook::start(append).await;
    // By name of the configuration, then by place; `a` wants to see what `c` made of it.
    register(
        &rig,
        "Mutating",
        "second",
        vec![webhook(&hook, "c.test.io", json!({}))],
    )
    .await;
    let again = webhook(&hook, "a.test.io", json!({"reinvocationPolicy": "IfNeeded"}));
    register(
        &rig,
        "Mutating",
        "first",
        vec![again, webhook(&hook, "b.test.io", json!({}))],
    )
    .await;
    let made = rig
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            map("m", json!({"x": "1"})),
            |reply| {
                reply.document["data"]["order"]
                    .as_str()
                    .is_some_and(|order| order.len() > 3)
            },
        )
        .await;
    assert_eq!(made.document["data"], json!({"x": "1", "order": "abca"}));
    // What a webhook makes must still be of the kind.
    let broken =
        Hook::start(|_, review| patched(review, json!([{"op": "replace", "path": "/data", "value": 5}])))
            .await;
    register(
        &rig,
        "Mutating",
        "third",
        vec![webhook(&broken, "d.test.io", json!({}))],
    )
    .await;
    let path = format!("{MAPS}?dryRun=All");
    let refused = rig
        .until("POST", &path, map("m", json!({"x": "1"})), |reply| {
            reply.code != 201
        })
        .await;
    assert_eq!(
        (refused.code, &refused.document["reason"]),
        (500, &json!("InternalError")),
        "{}",
        refused.document
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_get_defaults_after_a_mutation_and_kubectl_sees_the_refusal() {
    let rig = Rig::start().await;
    let hook = Hook::start(|path, review| match path {
        "/pods.test.io" => patched(
            review,
            json!([{"op": "add", "path": "/spec/initContainers", "value": [{"name": "i", "image": "busybox"}]}]),
        ),
        _ => judge(path, review),
    })
    .await;
    let rules =
        json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]);
    let pods = webhook(
        &hook,
        "pods.test.io",
        json!({"rules": rules, "objectSelector": {}}),
    );
    register(&rig, "Mutating", "pods", vec![pods]).await;
    register(
        &rig,
        "Validating",
        "judge",
        vec![webhook(&hook, "judge.test.io", json!({}))],
    )
    .await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let path = "/api/v1/namespaces/default/pods?dryRun=All";
    let made = rig
        .until("POST", path, pod, |reply| {
            !reply.document["spec"]["initContainers"].is_null()
        })
        .await;
    let init = &made.document["spec"]["initContainers"][0];
    assert_eq!(
        (&init["terminationMessagePath"], &init["imagePullPolicy"]),
        (&json!("/dev/termination-log"), &json!("Always"))
    );
    rig.until(
        "POST",
        &format!("{MAPS}?dryRun=All"),
        map("x", json!({"bad": "1"})),
        |reply| reply.code == 403,
    )
    .await;
    let mut bad = map("bad", json!({"bad": "1"}));
    (bad["kind"], bad["apiVersion"]) = (json!("ConfigMap"), json!("v1"));
    let told = rig.fails(&["create", "-f", "-"], &bad.to_string()).await;
    assert!(
        told.contains("Error from server (Forbidden): error when creating \"STDIN\": admission webhook \"judge.test.io\" denied the request: this is bad"),
        "{told}"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_refuse_or_pass_by_policy() {
    let rig = Rig::start().await;
    let slow = Hook::start(|_, _| Value::Null).await;
    let odd = Hook::start(|_, review| json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": {"uid": "other", "allowed": true, "r": review["request"]["name"]}})).await;
    let create = format!("{MAPS}?dryRun=All");
    let cases = [
        ("slow", webhook(&slow, "slow.test.io", json!({"timeoutSeconds": 1})),
         format!("Internal error occurred: failed calling webhook \"slow.test.io\": failed to call webhook: Post \"https://127.0.0.1:{}/slow.test.io?timeout=1s\": context deadline exceeded", slow.port)),
        ("gone", webhook(&slow, "gone.test.io", json!({"clientConfig": {"url": "https://127.0.0.1:1/x", "caBundle": slow.bundle}})),
         "Internal error occurred: failed calling webhook \"gone.test.io\": failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused".to_owned()),
        ("foreign", webhook(&slow, "foreign.test.io", json!({"clientConfig": {"url": format!("https://127.0.0.1:{}/x", slow.port), "caBundle": odd.bundle}})),
         format!("Internal error occurred: failed calling webhook \"foreign.test.io\": failed to call webhook: Post \"https://127.0.0.1:{}/x?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority", slow.port)),
        ("odd", webhook(&odd, "odd.test.io", json!({})),
         "Internal error occurred: failed calling webhook \"odd.test.io\": received invalid webhook response: expected response.uid=".to_owned()),
        ("absent", webhook(&odd, "absent.test.io", json!({"clientConfig": {"service": {"name": "hook", "namespace": "default", "path": "/s"}, "caBundle": odd.bundle}})),
         "Internal error occurred: failed calling webhook \"absent.test.io\": failed to call webhook: Post \"https://hook.default.svc:443/s?timeout=10s\": service \"hook\" not found".to_owned()),
        ("dry", webhook(&odd, "dry.test.io", json!({"matchConditions": [{"name": "c", "expression": "object.data.none == 'x'"}]})),
         "configmaps \"x\" is forbidden: expression 'object.data.none == 'x'' resulted in error: no such key: none".to_owned()),
    ];
    for (name, mut webhook, expected) in cases {
        register(&rig, "Validating", name, vec![webhook.clone()]).await;
        let reply = rig
            .until("POST", &create, map("x", json!({"a": "1"})), |reply| {
                reply.code != 201
            })
            .await;
        assert!(
            reply.message().starts_with(&expected),
            "{}\n{expected}",
            reply.message()
        );
        let path = format!("{HOOKS}/validatingwebhookconfigurations/{name}");
        webhook["failurePolicy"] = json!("Ignore");
        rig.done("PATCH", &path, json!({"webhooks": [webhook]})).await;
        rig.until("POST", &create, map("x", json!({"a": "1"})), |reply| {
            reply.code == 201
        })
        .await;
        rig.done("DELETE", &path, Value::Null).await;
    }
    let metrics = rig.ask("GET", "/metrics", Value::Null).await.document;
    let page = metrics.as_str().unwrap();
    for row in [
        "apiserver_admission_webhook_rejection_count{error_type=\"calling_webhook_error\",name=\"slow.test.io\",operation=\"CREATE\",rejection_code=\"503\",type=\"validating\"}",
        "apiserver_admission_webhook_fail_open_count{name=\"gone.test.io\",type=\"validating\"} 1",
        "apiserver_admission_webhook_request_total{code=\"503\",name=\"odd.test.io\",operation=\"CREATE\",rejected=\"true\",type=\"validating\"}",
        "apiserver_admission_webhook_admission_duration_seconds_count{name=\"slow.test.io\",operation=\"CREATE\",rejected=\"false\",type=\"validating\"} 1",
        // The conditions of one that ignores failures did not hold.
        "apiserver_admission_match_condition_exclusions_total{kind=\"webhook\",name=\"dry.test.io\",operation=\"CREATE\",type=\"validating\"}",
    ] {
        assert!(page.contains(row), "{row}\n{page}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_conditions_connections_and_scales_are_seen() {
    let rig = Rig::start().await;
    let hook = Hook::start(|path, review| match path {
        "/deny" => allowed(review, json!({"allowed": false})),
        "/half" => patched(
            review,
            json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]),
        ),
        _ => judge(path, review),
    })
    .await;
    // By a service whose endpoint is the webhook.
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 443, "targetPort": 8443}]}});
    rig.done("POST", "/api/v1/namespaces/default/services", service)
        .await;
    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "ports": [{"name": "https", "port": hook.port, "protocol": "TCP"}], "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let made = rig.ask("POST", slices, slice).await;
    let by_service = made.code == 201;
    let at = |path: &str| match by_service {
        true => {
            json!({"service": {"name": "hook", "namespace": "default", "path": path}, "caBundle": hook.bundle})
        }
        false => hook.client(path),
    };
    let rules = |operation: &str, plural: &str| json!([{"apiGroups": ["", "apps"], "apiVersions": ["v1"], "operations": [operation], "resources": [plural]}]);
    let own = |name: &str, path: &str, rules: Value| {
        webhook(
            &hook,
            name,
            json!({"clientConfig": at(path), "rules": rules, "objectSelector": {}}),
        )
    };
    let skip = json!([{"name": "not-me", "expression": "object.metadata.name != 'skip-me'"}]);
    let mut judged = own("judge.test.io", "/judge", rules("CREATE", "configmaps"));
    judged["matchConditions"] = skip;
    register(
        &rig,
        "Validating",
        "v",
        vec![
            judged,
            own("connect.test.io", "/deny", rules("CONNECT", "pods/*")),
            own("token.test.io", "/deny", rules("CREATE", "serviceaccounts/token")),
        ],
    )
    .await;
    register(
        &rig,
        "Mutating",
        "m",
        vec![own(
            "scale.test.io",
            "/half",
            rules("UPDATE", "deployments/scale"),
        )],
    )
    .await;
    rig.until("POST", MAPS, map("bad", json!({"bad": "1"})), |reply| {
        reply.code == 403
    })
    .await;
    rig.done("POST", MAPS, map("skip-me", json!({"bad": "1"}))).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    rig.done("POST", "/api/v1/namespaces/default/pods", pod).await;
    for (verb, path) in [("POST", "attach?container=c&stdout=true"), ("GET", "proxy/x")] {
        let reply = rig
            .ask(
                verb,
                &format!("/api/v1/namespaces/default/pods/p/{path}"),
                Value::Null,
            )
            .await;
        assert_eq!(
            (reply.code, reply.message()),
            (
                400,
                "admission webhook \"connect.test.io\" denied the request without explanation"
            ),
            "{path}"
        );
    }
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    rig.done("POST", accounts, json!({"metadata": {"name": "robot"}}))
        .await;
    let token = rig
        .ask(
            "POST",
            &format!("{accounts}/robot/token"),
            json!({"spec": {"audiences": ["x"]}}),
        )
        .await;
    assert_eq!(
        token.message(),
        "admission webhook \"token.test.io\" denied the request without explanation"
    );
    let asked = hook.asked.lock().unwrap().clone();
    let attach = asked
        .iter()
        .find(|one| one["request"]["subResource"] == "attach")
        .unwrap();
    assert_eq!(
        (&attach["request"]["operation"], &attach["request"]["object"]),
        (
            &json!("CONNECT"),
            &json!({"kind": "PodAttachOptions", "apiVersion": "v1", "container": "c", "stdout": true})
        )
    );
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    rig.done("POST", deployments, deployment).await;
    let scale = rig
        .done(
            "PATCH",
            &format!("{deployments}/d/scale"),
            json!({"spec": {"replicas": 9}}),
        )
        .await;
    assert_eq!(scale["spec"]["replicas"], 2);
    assert!(by_service, "{}", made.document);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_are_judged() {
    let rig = Rig::start().await;
    let hook = Hook::start(judge).await;
    let bad = json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name =="}]});
    for kind in ["Validating", "Mutating"] {
        let plural = format!("{HOOKS}/{}webhookconfigurations", kind.to_lowercase());
        let document =
            json!({"metadata": {"name": "x"}, "webhooks": [webhook(&hook, "x.test.io", bad.clone())]});
        let reply = rig.ask("POST", &plural, document).await;
        assert_eq!(reply.code, 422);
        assert!(reply.message().starts_with(&format!(
            "{kind}WebhookConfiguration.admissionregistration.k8s.io \"x\" is invalid: webhooks[0].matchConditions[0].expression: Invalid value: \"object.metadata.name ==\": compilation failed: ERROR: <input>:1:24: Syntax error"
        )), "{}", reply.message());
    }
    rig.stop().await;
}
