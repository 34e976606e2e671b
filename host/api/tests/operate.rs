//! What an operator sees and sets: audit, fairness, encryption at rest, health, metrics, limits.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod rig;

use std::path::Path;
use std::time::{Duration, Instant};

use capstan_api::{
    AuditOptions, AuditPolicy, Body, Encryption, LogOptions, Store, UserInfo, WebhookOptions, WebhookServer,
};
use capstan_store::{KeyRange, RangeRequest};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use rig::Rig;
use serde_json::{Value, json};
use tower::Service;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long a condition may take.
const BOUND: Duration = Duration::from_secs(20);

fn admin() -> UserInfo {
    UserInfo::admin("admin")
}

async fn ask(
    rig: &Rig,
    user: UserInfo,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: Value,
) -> (u16, HeaderMap, String) {
    let bytes = match &body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let mut request = Request::builder().method(method).uri(path);
    if !bytes.is_empty() && !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(bytes)).unwrap();
    let response = rig.api.service(user).call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect(64 << 20).await.unwrap().unwrap();
    (
        parts.status.as_u16(),
        parts.headers,
        String::from_utf8_lossy(&body).into_owned(),
    )
}

async fn get(rig: &Rig, path: &str) -> (u16, String) {
    let (code, _, text) = ask(rig, admin(), ("GET", path), &[], Value::Null).await;
    (code, text)
}

/// Waits until something is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < BOUND, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, verbs: [watch], users: ["system:informers"]}
- {level: None, resources: [{group: flowcontrol.apiserver.k8s.io}]}
- level: RequestResponse
  omitStages: [RequestReceived]
  omitManagedFields: true
  resources: [{group: "", resources: [configmaps]}]
- {level: Request, omitStages: [RequestReceived], resources: [{group: "", resources: [secrets]}]}
- level: Metadata
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_audited_by_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let rig = Rig::start_with(|config| {
        config.audit = Some(AuditOptions {
            policy: AuditPolicy::parse(POLICY).unwrap(),
            log: Some(LogOptions {
                path: Some(path.clone()),
                ..LogOptions::default()
            }),
            webhook: None,
        });
    })
    .await;
    let map = json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v"}});
    let agent = [("audit-id", "mine"), ("user-agent", "tester/1")];
    let (code, headers, _) = ask(&rig, admin(), ("POST", MAPS), &agent, map).await;
    assert_eq!((code, headers["audit-id"].to_str().unwrap()), (201, "mine"));
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    let secrets = "/api/v1/namespaces/default/secrets";
    let (_, headers, _) = ask(&rig, admin(), ("POST", secrets), &[], secret).await;
    assert_eq!(headers["audit-id"].len(), 36);
    let reader = UserInfo::new("reader", &["readers"]);
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({"data": {"k": "w"}});
    let place = format!("{MAPS}/a");
    ask(&rig, reader, ("PATCH", &place), &merge, patch).await;
    let watch = "/api/v1/pods?watch=1&timeoutSeconds=1";
    ask(&rig, admin(), ("GET", watch), &[], Value::Null).await;
    let all = events(&path);
    let of = |id: &str| -> Vec<&Value> {
        all.iter()
            .filter(|event| event["requestURI"].as_str().unwrap().contains(id))
            .collect()
    };
    let created = of("/configmaps");
    assert_eq!(created.len(), 2, "{created:?}");
    let event = created[0];
    for (pointer, expected) in [
        ("/kind", json!("Event")),
        ("/apiVersion", json!("audit.k8s.io/v1")),
        ("/level", json!("RequestResponse")),
        ("/auditID", json!("mine")),
        ("/stage", json!("ResponseComplete")),
        ("/verb", json!("create")),
        ("/user/username", json!("admin")),
        ("/user/groups", json!(["system:masters", "system:authenticated"])),
        ("/userAgent", json!("tester/1")),
        (
            "/objectRef",
            json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"}),
        ),
        ("/responseStatus", json!({"metadata": {}, "code": 201})),
        ("/requestObject/kind", json!("ConfigMap")),
        ("/requestObject/data/k", json!("v")),
        ("/responseObject/data/k", json!("v")),
        ("/annotations/authorization.k8s.io~1decision", json!("allow")),
        ("/annotations/authorization.k8s.io~1reason", json!("")),
    ] {
        assert_eq!(event.pointer(pointer), Some(&expected), "{pointer}: {event}");
    }
    assert!(event.pointer("/responseObject/metadata/uid").is_some());
    assert!(event.pointer("/responseObject/metadata/managedFields").is_none());
    // A refusal is told with its reason, and the patch as it was sent.
    let refused = created[1];
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!(refused["responseStatus"]["reason"], "Forbidden");
    assert_eq!(refused["responseStatus"]["code"], 403);
    let secret = of("/secrets");
    assert_eq!(secret.len(), 1);
    assert_eq!(secret[0]["requestObject"]["stringData"]["k"], "v");
    assert!(secret[0].get("responseObject").is_none());
    let stages: Vec<&str> = of("/pods")
        .iter()
        .map(|event| event["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    // Over the wire: where it came from, and who could not be recognized.
    rig.ok(
        &[
            "get",
            "namespaces",
            "--as",
            "somebody",
            "--as-group",
            "system:masters",
        ],
        "",
    )
    .await;
    rig.fails(
        &["get", "nodes", "--context", "reader", "--token", "nonsense"],
        "",
    )
    .await;
    let all = events(&path);
    let acted = all
        .iter()
        .find(|event| event["impersonatedUser"]["username"] == "somebody")
        .expect("an impersonated request");
    assert_eq!(acted["user"]["username"], "admin");
    assert_eq!(acted["sourceIPs"], json!(["127.0.0.1"]));
    let unknown = all
        .iter()
        .find(|event| event["responseStatus"]["code"] == 401)
        .expect("a request of nobody");
    let message = &unknown["responseStatus"]["message"];
    assert_eq!(message, "Authentication failed, attempted: bearer");
    assert_eq!(
        (&unknown["user"], unknown["stage"].as_str()),
        (&json!({}), Some("ResponseStarted"))
    );
    rig.stop().await;
}

/// A server that keeps what is posted to it, and refuses the first post.
async fn collector() -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let posts = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        while let Ok((stream, _)) = listener.accept().await {
            let (tell, posts) = (tell.clone(), posts.clone());
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let (tell, posts) = (tell.clone(), posts.clone());
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let first = posts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
                    if !first {
                        tell.send(serde_json::from_slice(&body).unwrap()).unwrap();
                    }
                    let response = http::Response::builder().status(if first { 500 } else { 200 });
                    Ok::<_, std::convert::Infallible>(response.body(Body::empty()).unwrap())
                }
            });
            tokio::spawn(async move {
                let io = hyper_util::rt::TokioIo::new(stream);
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(io, service)
                    .await;
            });
        }
    });
    (address, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn audit_events_reach_a_webhook_in_batches() {
    let (address, mut told) = collector().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhook.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: a, cluster: {{server: 'http://{address}/audit'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: a, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    );
    std::fs::write(&path, text).unwrap();
    let mut options = WebhookOptions::new(WebhookServer::read(&path).unwrap());
    options.batch_wait_max = Duration::from_millis(50);
    options.initial_backoff = Duration::from_millis(10);
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, verbs: [list], omitStages: [RequestReceived]}]";
    let rig = Rig::start_with(|config| {
        config.audit = Some(AuditOptions {
            policy: AuditPolicy::parse(policy).unwrap(),
            log: None,
            webhook: Some(options),
        });
    })
    .await;
    for _ in 0..3 {
        get(&rig, MAPS).await;
    }
    rig.stop().await;
    let mut seen = 0;
    while seen < 3 {
        let list = tokio::time::timeout(BOUND, told.recv())
            .await
            .expect("in time")
            .unwrap();
        assert_eq!(list["kind"], "EventList");
        let items = list["items"].as_array().unwrap();
        assert!(items.iter().all(|item| item["verb"] == "list"));
        seen += items.len();
    }
}

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
async fn secrets_are_sealed_in_the_store() {
    let config = |providers: &str| {
        Encryption::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- {{resources: [secrets], providers: [{providers}]}}"
        ))
        .unwrap()
    };
    let one = "{aescbc: {keys: [{name: one, secret: MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=}]}}";
    let two = "{secretbox: {keys: [{name: two, secret: ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=}]}}";
    let rig = Rig::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |name: &str| json!({"metadata": {"name": name}, "stringData": {"k": "hush-hush"}});
    ask(&rig, admin(), ("POST", secrets), &[], secret("plain")).await;
    let stored = async |name: &str| {
        let key = format!("/registry/secrets/default/{name}");
        let range = RangeRequest::new(KeyRange::Key(key.into_bytes().into()));
        let answer = rig.store.range(range).await.unwrap();
        String::from_utf8_lossy(&answer.kvs[0].value).into_owned()
    };
    let value = async |rig: &Rig, name: &str| {
        let (code, text) = get(rig, &format!("{secrets}/{name}")).await;
        assert_eq!(code, 200, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        object["data"]["k"].as_str().unwrap().to_owned()
    };
    assert!(stored("plain").await.contains("aHVzaC1odXNo"));
    let first = rig
        .beside_with(|other| other.encryption = Some(config(&format!("{one}, {{identity: {{}}}}"))))
        .await;
    ask(&first, admin(), ("POST", secrets), &[], secret("sealed")).await;
    assert!(stored("sealed").await.starts_with("k8s:enc:aescbc:v1:one:"));
    assert_eq!(value(&first, "sealed").await, "aHVzaC1odXNo");
    assert_eq!(value(&first, "plain").await, "aHVzaC1odXNo");
    // Writing what is there already seals it by the first key; once it is, it is no write.
    let again = async |rig: &Rig, name: &str| -> String {
        let place = format!("{secrets}/{name}");
        let (_, text) = get(rig, &place).await;
        let object: Value = serde_json::from_str(&text).unwrap();
        let (code, _, text) = ask(rig, admin(), ("PUT", &place), &[], object).await;
        assert_eq!(code, 200, "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    };
    let revision = again(&first, "plain").await;
    assert!(stored("plain").await.starts_with("k8s:enc:aescbc:v1:one:"));
    assert_eq!(again(&first, "plain").await, revision);
    let second = rig
        .beside_with(|other| other.encryption = Some(config(&format!("{two}, {one}"))))
        .await;
    assert_eq!(value(&second, "plain").await, "aHVzaC1odXNo");
    again(&second, "plain").await;
    assert!(stored("plain").await.starts_with("k8s:enc:secretbox:v1:two:"));
    assert_eq!(value(&second, "plain").await, "aHVzaC1odXNo");
    let (_, list) = get(&second, secrets).await;
    assert_eq!(list.matches("aHVzaC1odXNo").count(), 2);
    // Without the key nothing is shown, and a server does not start on what it cannot read.
    let blind = tokio::spawn({
        let store = rig.store.clone();
        async move { rig::starts(store, config("{identity: {}}")).await }
    });
    let refusal = blind.await.unwrap().unwrap_err().to_string();
    assert!(
        refusal.contains("/registry/secrets/default/plain cannot be decrypted"),
        "{refusal}"
    );
    second.api.shutdown().await;
    first.api.shutdown().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_check_by_check() {
    let rig = Rig::start_with(|config| config.limits.shutdown_delay = Duration::from_millis(1500)).await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/etcd", "/healthz/ping"] {
        assert_eq!(get(&rig, path).await, (200, "ok".to_owned()), "{path}");
    }
    assert_eq!(get(&rig, "/livez/nothing").await.0, 404);
    let (code, text) = get(&rig, "/readyz?verbose&exclude=etcd&exclude=odd").await;
    assert_eq!(code, 200);
    for line in [
        "[+]ping ok\n",
        "[+]etcd excluded: ok\n",
        "[+]informer-sync ok\n",
        "[+]shutdown ok\n",
        "warn: some health checks cannot be excluded: no matches for \"odd\"\nreadyz check passed\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (_, text) = get(&rig, "/livez?verbose").await;
    assert!(
        text.ends_with("livez check passed\n") && !text.contains("shutdown"),
        "{text}"
    );
    // While it stops it still serves, but says so.
    let mut service = rig.api.service(admin());
    let (stopping, looking) = tokio::join!(rig.api.shutdown(), async move {
        until("it is not ready", async || {
            let request = Request::get("/readyz").body(Body::empty()).unwrap();
            let response = service.call(request).await.unwrap();
            let code = response.status().as_u16();
            let body = response.into_body().collect(64 << 20).await.unwrap().unwrap();
            (code == 500).then(|| String::from_utf8_lossy(&body).into_owned())
        })
        .await
    });
    let () = stopping;
    assert!(
        looking.contains("[-]shutdown failed: reason withheld\n")
            && looking.ends_with("readyz check failed\n"),
        "{looking}"
    );
    rig.store.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_have_the_originals_names() {
    let rig = Rig::start().await;
    ask(
        &rig,
        admin(),
        ("POST", MAPS),
        &[],
        json!({"metadata": {"name": "a"}}),
    )
    .await;
    get(&rig, MAPS).await;
    get(&rig, &format!("{MAPS}/none")).await;
    get(&rig, "/api/v1/namespaces/default/oddities").await;
    get(&rig, &format!("{MAPS}?watch=1&timeoutSeconds=1")).await;
    let (_, text) = get(&rig, "/metrics").await;
    let place = "group=\"\",resource=\"configmaps\"";
    for row in [
        format!("apiserver_request_total{{code=\"201\",component=\"apiserver\",dry_run=\"\",{place},scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"}} 1"),
        format!("apiserver_request_total{{code=\"404\",component=\"apiserver\",dry_run=\"\",{place},scope=\"resource\",subresource=\"\",verb=\"GET\",version=\"v1\"}} 1"),
        format!("apiserver_request_duration_seconds_count{{component=\"apiserver\",dry_run=\"\",{place},scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"}} 1"),
        format!("apiserver_watch_events_total{{{place},version=\"v1\"}} 1"),
        "apiserver_storage_objects{resource=\"configmaps\"}".into(),
        format!("apiserver_resource_objects{{{place}}}"),
        format!("apiserver_longrunning_requests{{component=\"apiserver\",{place},scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}} 0"),
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"}".into(),
        "apiserver_admission_step_admission_duration_seconds_count{operation=\"CREATE\",rejected=\"false\",type=\"validate\"}".into(),
        "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"exempt\",priority_level=\"exempt\"}".into(),
        "process_resident_memory_bytes".into(),
    ] {
        assert!(text.contains(&row), "{row}\n{text}");
    }
    assert!(!text.contains("oddities"), "{text}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_have_their_bounds() {
    let rig = Rig::start_with(|config| config.limits.min_request_timeout = Duration::from_millis(300)).await;
    let (code, text) = get(&rig, &format!("{MAPS}?timeout=soon")).await;
    assert_eq!(code, 400);
    assert!(
        text.contains("invalid timeout specified in the request URL - time: invalid duration \\\"soon\\\""),
        "{text}"
    );
    // A body that does not end in time.
    let endless = Request::post(format!("{MAPS}?timeout=100ms"))
        .body(Body::stream(futures::stream::pending()))
        .unwrap();
    let response = rig.api.service(admin()).call(endless).await.unwrap();
    assert_eq!(response.status(), 504);
    let body = response.into_body().collect(64 << 20).await.unwrap().unwrap();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (status["reason"].as_str(), status["message"].as_str()),
        (
            Some("Timeout"),
            Some("Timeout: request did not complete within the allotted timeout")
        )
    );
    // One that is too long, and a watch that did not say how long.
    let large = json!({"metadata": {"name": "a"}, "data": {"k": "x".repeat(4 << 20)}});
    let (code, _, text) = ask(&rig, admin(), ("POST", MAPS), &[], large).await;
    assert_eq!(code, 413, "{text}");
    let started = Instant::now();
    let (code, text) = get(&rig, &format!("{MAPS}?watch=1")).await;
    assert_eq!((code, text.as_str()), (200, ""));
    assert!(started.elapsed() >= Duration::from_millis(300));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_is_described_in_every_form_that_clients_ask_for() {
    let rig = Rig::start().await;
    let v2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let v3 = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
    let asked = async |path: &str, accept: &str, held: &str| {
        let headers = [("accept", accept), ("if-none-match", held)];
        ask(&rig, admin(), ("GET", path), &headers, Value::Null).await
    };
    let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let (code, headers, text) = asked("/openapi/v2", old, "").await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, v2));
    assert!(text.contains("io.k8s.api.apps.v1.Deployment") && text.starts_with("\n\u{3}2.0"));
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(asked("/openapi/v2", old, &tag).await.0, 304);
    assert_eq!(asked("/openapi/v2", "text/html", "").await.0, 406);
    assert_eq!(
        asked("/openapi/v2", "application/json;q=0.5,*/*;q=0.1", "")
            .await
            .0,
        200
    );
    let (_, headers, index) = asked("/openapi/v3", "*/*", "").await;
    let tag = headers["etag"].to_str().unwrap().to_owned();
    assert_eq!(asked("/openapi/v3", "*/*", &tag).await.0, 304);
    let index: Value = serde_json::from_str(&index).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let (code, headers, text) = asked(&url, v3, "").await;
    assert_eq!((code, headers["content-type"].to_str().unwrap()), (200, v3));
    assert_eq!(headers["cache-control"], "public, immutable");
    assert!(headers["expires"].to_str().unwrap().ends_with(" GMT"));
    assert!(text.contains("x-kubernetes-group-version-kind"));
    let (code, headers, _) = asked("/openapi/v3/apis/apps/v1?hash=OLD", "*/*", "").await;
    assert_eq!((code, headers["location"].to_str().unwrap()), (301, url.as_str()));
    // A custom kind shows within seconds, in all of them.
    let definition = json!({
        "metadata": {"name": "gears.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "gears", "kind": "Gear"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "properties": {"spec": {"type": "object", "properties": {"teeth": {"type": "integer"}}}}}}}]},
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, _, text) = ask(&rig, admin(), ("POST", definitions), &[], definition).await;
    assert_eq!(code, 201, "{text}");
    until("the kind is described", async || {
        let (_, _, text) = asked("/openapi/v2", old, "").await;
        text.contains("teeth").then_some(())
    })
    .await;
    let (code, _, text) = asked("/openapi/v3/apis/example.com/v1", v3, "").await;
    assert!(code == 200 && text.contains("teeth"), "{code}");
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
