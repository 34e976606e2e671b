//! The audit log and webhook: what is told of which request, by the policy.

use std::path::Path;
use std::time::Duration;

use capstan_api::{AuditOptions, AuditPolicy, Body, LogOptions, UserInfo, WebhookOptions, WebhookServer};
use http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::rig::Rig;
use crate::{BOUND, MAPS, admin, ask, get};

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
- {level: None, verbs: [watch], users: ["system:serviceaccount:kube-system:shared-informers"]}
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
    // With its defaults, as the request means it.
    let meant = &secret[0]["requestObject"];
    assert_eq!(
        (&meant["data"]["k"], &meant["type"]),
        (&json!("dg=="), &json!("Opaque"))
    );
    assert_eq!(meant["stringData"], Value::Null);
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
