//! What is connected through the API server: exec and its relatives to a kubelet, proxy to pods, services and
//! nodes, aggregated APIs to an extension server; and pods' ephemeral containers and resources. Over TLS, as
//! clients come.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod extension;
#[path = "../rig/mod.rs"]
mod rig;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capstan_api::{Body, UserInfo};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rig::Rig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tower::ServiceExt;

const WAIT_MAX: Duration = Duration::from_secs(20);

async fn ask(rig: &Rig, method: &str, path: &str, body: Value) -> (u16, Value) {
    ask_as(rig, UserInfo::admin("test"), method, path, body).await
}

async fn ask_as(rig: &Rig, user: UserInfo, method: &str, path: &str, body: Value) -> (u16, Value) {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let media = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media);
    let request = request.body(Body::from(text)).unwrap();
    let response = rig.api.service(user).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect(16 << 20).await.unwrap().unwrap();
    let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
    (
        parts.status.as_u16(),
        serde_json::from_slice(&bytes).unwrap_or_else(|_| text()),
    )
}

/// Looks until it holds.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = std::time::Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(started.elapsed() < WAIT_MAX, "{what}: {seen}"),
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An HTTP/1.1 connection over TLS, as the administrator or, with a token, as another.
struct Wire(tokio_rustls::client::TlsStream<tokio::net::TcpStream>);

impl Wire {
    async fn open(rig: &Rig, admin: bool) -> Self {
        let kubeconfig: Value = serde_json::from_slice(&std::fs::read(&rig.kubeconfig).unwrap()).unwrap();
        let data = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let ca = data(&kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]);
        roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let user = &kubeconfig["users"][0]["user"];
        let config = match admin {
            true => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(&data(&user["client-certificate-data"])).unwrap()],
                    PrivateKeyDer::from_pem_slice(&data(&user["client-key-data"])).unwrap(),
                )
                .unwrap(),
            false => builder.with_no_client_auth(),
        };
        let tcp = tokio::net::TcpStream::connect(rig.api.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Self(
            tokio_rustls::TlsConnector::from(Arc::new(config))
                .connect(name, tcp)
                .await
                .unwrap(),
        )
    }

    /// Sends a request's head; the answer's head and what came with it.
    async fn send(&mut self, line: &str, headers: &str) -> (u16, String) {
        let head = format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        self.0.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(
                tokio::time::timeout(WAIT_MAX, self.0.read_u8())
                    .await
                    .unwrap()
                    .unwrap(),
            );
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }

    async fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        tokio::time::timeout(WAIT_MAX, self.0.read_exact(&mut read))
            .await
            .unwrap()
            .unwrap();
        read
    }
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

async fn pod(rig: &Rig, name: &str, node: &str, ports: Value) {
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": {
        "nodeName": node, "containers": [{ "name": "main", "image": "i", "ports": ports,
            "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "cpu": "2" } } }] } });
    let (code, said) = ask(rig, "POST", "/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{said}");
}

async fn address(rig: &Rig, name: &str) {
    let status = json!({ "status": { "podIP": "127.0.0.1", "podIPs": [{ "ip": "127.0.0.1" }] } });
    let path = format!("/api/v1/namespaces/default/pods/{name}/status");
    let (code, said) = ask(rig, "PATCH", &path, status).await;
    assert_eq!(code, 200, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_reach_the_kubelet_of_the_pods_node() {
    let rig = Rig::start().await;
    pod(&rig, "p", "n1", json!([])).await;
    pod(&rig, "adrift", "", json!([])).await;
    let base = "/api/v1/namespaces/default/pods";
    // The options as the kubelet reads them, and bytes both ways.
    for (path, asked) in [
        (
            "p/exec?command=a&command=b%20c&stdin=true&stdout=1&stderr=false&tty",
            "n1 /exec/default/p/main?command=a&command=b+c&input=1&output=1&tty=1",
        ),
        (
            "p/attach?container=main&stdout=true",
            "n1 /attach/default/p/main?output=1",
        ),
        (
            "p/portforward?ports=80&ports=443",
            "n1 /portforward/default/p?port=80%2c443",
        ),
        ("p/portforward", "n1 /portforward/default/p?"),
    ] {
        for method in ["GET", "POST"] {
            let mut wire = Wire::open(&rig, true).await;
            let (code, head) = wire.send(&format!("{method} {base}/{path}"), UPGRADE).await;
            assert_eq!(code, 101, "{head}");
            assert!(
                head.contains("upgrade: websocket") && head.contains(&format!("x-asked: {asked}\r\n")),
                "{head}"
            );
            wire.0.write_all(b"through and back").await.unwrap();
            assert_eq!(wire.read(16).await, b"through and back");
        }
    }
    for (path, code, words) in [
        ("p/exec?command=a", 400, "Upgrade request required"),
        ("p/exec?container=x", 400, "container x is not valid for pod p"),
        ("adrift/exec", 400, "pod adrift does not have a host assigned"),
        ("none/exec", 404, "pods \"none\" not found"),
        ("p/portforward?ports=x", 400, "parsing \"x\": invalid syntax"),
    ] {
        let (said, status) = ask(&rig, "GET", &format!("{base}/{path}"), Value::Null).await;
        assert_eq!(said, code, "{path}: {status}");
        assert!(status["message"].as_str().unwrap().contains(words), "{status}");
    }
    // Who may only get may not: a WebSocket is a GET, and creates a session all the same.
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "r" },
        "rules": [{ "apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"] }] });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": "r" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader" }] });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    assert_eq!(ask(&rig, "POST", &format!("{rbac}/roles"), role).await.0, 201);
    assert_eq!(
        ask(&rig, "POST", &format!("{rbac}/rolebindings"), binding)
            .await
            .0,
        201
    );
    let reader = format!("authorization: Bearer reader-token\r\n{UPGRADE}");
    let mut wire = Wire::open(&rig, false).await;
    assert_eq!(
        wire.send(&format!("GET {base}/p/exec?command=a"), &reader)
            .await
            .0,
        403
    );
    // A log as messages: an empty one, the text, the close.
    let mut wire = Wire::open(&rig, true).await;
    let (code, head) = wire
        .send(
            &format!("GET {base}/p/log?tailLines=3"),
            &format!("{UPGRADE}sec-websocket-protocol: binary.k8s.io\r\n"),
        )
        .await;
    assert!(
        code == 101 && head.contains("sec-websocket-protocol: binary.k8s.io"),
        "{head}"
    );
    let text = b"n1 /containerLogs/default/p/main?tailLines=3\n";
    let mut expected = vec![0x82, 0, 0x82, text.len() as u8];
    expected.extend_from_slice(text);
    expected.extend_from_slice(&[0x88, 2, 0x03, 0xe8]);
    assert_eq!(wire.read(expected.len()).await, expected);
    rig.stop().await;
}

/// A server that says what it was asked, sends elsewhere from `/moved`, and echoes bytes of an upgrade.
async fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(echo))
                .with_upgrades();
            tokio::spawn(served);
        }
    });
    address
}

async fn echo(
    mut request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Body>, std::convert::Infallible> {
    let headers: serde_json::Map<String, Value> = request
        .headers()
        .keys()
        .map(|name| {
            let values: Vec<_> = request
                .headers()
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect();
            (name.to_string(), json!(values.join(",")))
        })
        .collect();
    let mut response = http::Response::new(Body::empty());
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            tokio::io::copy(&mut read, &mut write).await
        });
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        response
            .headers_mut()
            .insert("connection", "Upgrade".parse().unwrap());
        response
            .headers_mut()
            .insert("upgrade", "websocket".parse().unwrap());
        return Ok(response);
    }
    if request.uri().path() == "/moved" {
        *response.status_mut() = http::StatusCode::FOUND;
        response
            .headers_mut()
            .insert("location", "http://elsewhere/".parse().unwrap());
        return Ok(response);
    }
    let (parts, body) = request.into_parts();
    let body = Body::wrap(body).collect(1 << 20).await.unwrap().unwrap();
    let said = json!({ "method": parts.method.as_str(), "uri": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body) });
    response
        .headers_mut()
        .insert("access-control-allow-origin", "*".parse().unwrap());
    Ok(response.map(|_| Body::from(said.to_string())))
}

async fn service(rig: &Rig, namespace: &str, name: &str, port: u16, target: SocketAddr) {
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "ports": [{ "name": "web", "port": port, "targetPort": target.port() }] } });
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "endpoints": [{ "addresses": [target.ip().to_string()], "conditions": { "ready": true } }],
        "ports": [{ "name": "web", "port": target.port(), "protocol": "TCP" }] });
    let services = format!("/api/v1/namespaces/{namespace}/services");
    let (code, said) = ask(rig, "POST", &services, service).await;
    assert_eq!(code, 201, "{said}");
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let (code, said) = ask(rig, "POST", &slices, slice).await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxied_requests_go_through_as_they_are() {
    let rig = Rig::start().await;
    let backend = backend().await;
    pod(
        &rig,
        "p",
        "n1",
        json!([{ "name": "web", "containerPort": backend.port() }]),
    )
    .await;
    address(&rig, "p").await;
    service(&rig, "default", "s", 8080, backend).await;
    let base = "/api/v1/namespaces/default";
    for place in [
        "pods/p",
        "pods/http:p:",
        &format!("pods/p:{}", backend.port()),
        "services/s:web",
        "services/s:8080",
        "services/http:s:web",
    ] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let path = format!("{base}/{place}/proxy/a%2Fb/c/?x=1&y=%20");
            let body = if method == "GET" {
                Value::Null
            } else {
                json!({ "k": 1 })
            };
            let (code, said) = ask(&rig, method, &path, body).await;
            assert_eq!(
                (code, said["method"].as_str(), said["uri"].as_str()),
                (200, Some(method), Some("/a%2Fb/c/?x=1&y=%20")),
                "{place} {said}"
            );
            assert_eq!(said["body"], if method == "GET" { "" } else { "{\"k\":1}" });
        }
    }
    assert_eq!(
        ask(&rig, "GET", &format!("{base}/pods/p/proxy/moved"), Value::Null)
            .await
            .0,
        302
    );
    let (code, said) = ask(
        &rig,
        "GET",
        "/api/v1/nodes/n1/proxy/stats/summary?only=cpu",
        Value::Null,
    )
    .await;
    assert_eq!((code, said), (200, json!("n1 /stats/summary?only=cpu\n")));
    for (path, code, words) in [
        (
            "services/s/proxy/",
            503,
            "no endpoints available for service \"s\"",
        ),
        (
            "services/s:81/proxy/",
            503,
            "no service port 81 found for service \"s\"",
        ),
        (
            "pods/p:1/proxy/",
            503,
            "error trying to reach service: dial tcp 127.0.0.1:1: connect: connection refused",
        ),
        ("pods/a:b:c:d/proxy/", 400, "invalid pod request \"a:b:c:d\""),
        ("pods/none/proxy/", 404, "pods \"none\" not found"),
    ] {
        let (said, status) = ask(&rig, "GET", &format!("{base}/{path}"), Value::Null).await;
        assert_eq!((said, status["message"].as_str()), (code, Some(words)), "{path}");
    }
    // The root ends in a slash; credentials stay here; an upgrade goes through.
    let mut wire = Wire::open(&rig, true).await;
    let (code, head) = wire.send(&format!("GET {base}/pods/p/proxy?q=1"), "").await;
    assert!(
        code == 301 && head.contains(&format!("location: {base}/pods/p/proxy/?q=1\r\n")),
        "{head}"
    );
    let mut wire = Wire::open(&rig, true).await;
    let (code, _) = wire.send(&format!("GET {base}/pods/p/proxy/ws"), UPGRADE).await;
    assert_eq!(code, 101);
    wire.0.write_all(b"any bytes").await.unwrap();
    assert_eq!(wire.read(9).await, b"any bytes");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_ephemeral_containers_and_new_resources() {
    let rig = Rig::start().await;
    pod(&rig, "p", "n1", json!([])).await;
    let path = "/api/v1/namespaces/default/pods/p";
    let debug = json!({ "metadata": { "labels": { "no": "no" } }, "spec": { "nodeName": "other",
        "ephemeralContainers": [{ "name": "debug", "image": "i", "targetContainerName": "main" }] } });
    let (code, pod) = ask(&rig, "PATCH", &format!("{path}/ephemeralcontainers"), debug).await;
    assert_eq!(code, 200, "{pod}");
    assert_eq!(
        (&pod["spec"]["nodeName"], &pod["metadata"]["generation"]),
        (&json!("n1"), &json!(2))
    );
    assert_eq!(
        pod["spec"]["ephemeralContainers"][0]["terminationMessagePath"],
        "/dev/termination-log"
    );
    assert_eq!(pod["metadata"]["labels"], Value::Null);
    let (code, got) = ask(&rig, "GET", &format!("{path}/ephemeralcontainers"), Value::Null).await;
    assert_eq!((code, &got["kind"]), (200, &json!("Pod")));
    let gone = json!({ "spec": { "ephemeralContainers": [{ "name": "main", "image": "i", "ports": [{ "containerPort": 1 }] }] } });
    let (code, status) = ask(&rig, "PATCH", &format!("{path}/ephemeralcontainers"), gone).await;
    let said = status["message"].as_str().unwrap();
    assert!(
        code == 422
            && said.contains("existing ephemeral containers \"debug\" may not be removed")
            && said.contains("Duplicate value: \"main\""),
        "{said}"
    );
    let resize = |resources: Value| json!({ "spec": { "containers": [{ "name": "main", "image": "i", "resources": resources }] } });
    let more = json!({ "requests": { "cpu": "1500m", "memory": "2Gi" }, "limits": { "cpu": "3" } });
    let (code, pod) = ask(&rig, "PATCH", &format!("{path}/resize"), resize(more.clone())).await;
    assert_eq!(
        (code, &pod["spec"]["containers"][0]["resources"]),
        (200, &more),
        "{pod}"
    );
    assert_eq!(pod["metadata"]["generation"], 3);
    let less = json!({ "requests": { "cpu": "1" }, "limits": { "cpu": "1" } });
    let (code, status) = ask(&rig, "PATCH", &format!("{path}/resize"), resize(less)).await;
    assert!(
        code == 422
            && status["message"]
                .as_str()
                .unwrap()
                .contains("resource requests cannot be removed"),
        "{status}"
    );
    // On the main path both are fixed.
    let (code, _) = ask(&rig, "PATCH", path, resize(json!({ "requests": { "cpu": "2" } }))).await;
    assert_eq!(code, 422);
    rig.ok(
        &[
            "patch",
            "pod",
            "p",
            "--subresource",
            "resize",
            "-p",
            r#"{"spec":{"containers":[{"name":"main","resources":{"limits":{"cpu":"4"}}}]}}"#,
        ],
        "",
    )
    .await;
    rig.stop().await;
}
