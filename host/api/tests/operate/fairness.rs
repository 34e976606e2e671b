//! Priority and fairness: seats, flows and the surplus; the plain limits without it.

use capstan_api::{Body, UserInfo};
use http::{HeaderMap, Request};
use serde_json::{Value, json};
use tower::Service;

use crate::rig::Rig;
use crate::{MAPS, admin, ask, get, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fairness_seats_flows_and_sends_the_surplus_away() {
    let rig = Rig::start_with(|config| {
        config.limits.max_requests_inflight = 8;
        config.limits.max_mutating_requests_inflight = 4;
    })
    .await;
    let schemas = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let levels = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";
    let uid = async |path: String| -> Option<String> {
        let (code, text) = get(&rig, &path).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        (code == 200).then(|| object["metadata"]["uid"].as_str().unwrap().to_owned())
    };
    let schema = until("the schemas stand", async || {
        uid(format!("{schemas}/global-default")).await
    })
    .await;
    let level = until("the levels stand", async || {
        uid(format!("{levels}/global-default")).await
    })
    .await;
    let exempt = until("the exempt level stands", async || {
        uid(format!("{levels}/exempt")).await
    })
    .await;
    until("schemas say that they lead somewhere", async || {
        let (_, text) = get(&rig, &format!("{schemas}/catch-all")).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        (object["status"]["conditions"][0]["reason"] == "Found").then_some(())
    })
    .await;
    let reader = || UserInfo::new("reader", &["system:authenticated"]);
    let (_, headers, _) = ask(&rig, reader(), ("GET", "/version"), &[], Value::Null).await;
    let of = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(of(&headers, "x-kubernetes-pf-flowschema-uid"), schema);
    assert_eq!(of(&headers, "x-kubernetes-pf-prioritylevel-uid"), level);
    let (_, headers, _) = ask(&rig, admin(), ("GET", MAPS), &[], Value::Null).await;
    assert_eq!(of(&headers, "x-kubernetes-pf-prioritylevel-uid"), exempt);
    // A level without queues refuses what it has no seat for. One request holds the seat: its body never ends.
    let level = json!({
        "metadata": {"name": "tight"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "limitResponse": {"type": "Reject"}}},
    });
    assert_eq!(ask(&rig, admin(), ("POST", levels), &[], level).await.0, 201);
    let flow = json!({
        "metadata": {"name": "tight"},
        "spec": {
            "priorityLevelConfiguration": {"name": "tight"}, "matchingPrecedence": 3,
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "slow"}}], "resourceRules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}]}],
        },
    });
    let (code, _, text) = ask(&rig, admin(), ("POST", schemas), &[], flow).await;
    assert_eq!(code, 201, "{text}");
    let binding = json!({
        "metadata": {"name": "slow"}, "subjects": [{"kind": "User", "name": "slow"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(ask(&rig, admin(), ("POST", bindings), &[], binding).await.0, 201);
    get(&rig, bindings).await;
    let mut service = rig.api.service(UserInfo::new("slow", &[]));
    let held = tokio::spawn(async move {
        // One that asks whether the seat is taken may have it just then.
        loop {
            let endless = Request::post(MAPS)
                .header("content-type", "application/json")
                .body(Body::stream(futures::stream::pending()))
                .unwrap();
            let response = service.call(endless).await.unwrap();
            assert_eq!(response.status(), 429);
        }
    });
    let slow = || UserInfo::new("slow", &[]);
    let (headers, text) = until("the seat is taken", async || {
        let (code, headers, text) = ask(&rig, slow(), ("GET", MAPS), &[], Value::Null).await;
        (code == 429).then_some((headers, text))
    })
    .await;
    assert_eq!(of(&headers, "retry-after"), "1");
    assert_eq!(text, "Too many requests, please try again later.\n");
    // Others are not touched; and the seat comes back when its holder goes away.
    assert_eq!(ask(&rig, admin(), ("GET", MAPS), &[], Value::Null).await.0, 200);
    held.abort();
    until("the seat is free", async || {
        let (code, ..) = ask(&rig, slow(), ("GET", MAPS), &[], Value::Null).await;
        (code == 200).then_some(())
    })
    .await;
    let (_, text) = get(&rig, "/metrics").await;
    for row in [
        "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"tight\",priority_level=\"tight\",reason=\"queue-full\"}",
        "apiserver_flowcontrol_current_executing_requests{priority_level=\"tight\"} 0",
        "apiserver_dropped_requests_total{request_kind=\"readOnly\"}",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
    // What every cluster has is brought back.
    let (code, ..) = ask(
        &rig,
        admin(),
        ("DELETE", &format!("{schemas}/probes")),
        &[],
        Value::Null,
    )
    .await;
    assert_eq!(code, 200);
    until("the schema is back", async || {
        uid(format!("{schemas}/probes")).await
    })
    .await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fairness_the_limits_are_plain() {
    let rig = Rig::start_with(|config| {
        config.limits.fairness = false;
        config.limits.max_mutating_requests_inflight = 1;
    })
    .await;
    let binding = json!({
        "metadata": {"name": "writer"}, "subjects": [{"kind": "User", "name": "writer"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    assert_eq!(ask(&rig, admin(), ("POST", bindings), &[], binding).await.0, 201);
    let endless = Request::post(MAPS)
        .header("content-type", "application/json")
        .body(Body::stream(futures::stream::pending()))
        .unwrap();
    let mut service = rig.api.service(admin());
    let held = tokio::spawn(async move { service.call(endless).await });
    let writer = || UserInfo::new("writer", &[]);
    let map = || json!({"metadata": {"generateName": "w-"}});
    let headers = until("the place is taken", async || {
        let (code, headers, _) = ask(&rig, writer(), ("POST", MAPS), &[], map()).await;
        (code == 429).then_some(headers)
    })
    .await;
    assert_eq!(headers["retry-after"], "1");
    assert!(!headers.contains_key("x-kubernetes-pf-flowschema-uid"));
    // Readers and administrators go on.
    assert_eq!(ask(&rig, writer(), ("GET", MAPS), &[], Value::Null).await.0, 200);
    assert_eq!(ask(&rig, admin(), ("POST", MAPS), &[], map()).await.0, 201);
    held.abort();
    until("the place is free", async || {
        let (code, ..) = ask(&rig, writer(), ("POST", MAPS), &[], map()).await;
        (code == 201).then_some(())
    })
    .await;
    rig.stop().await;
}
