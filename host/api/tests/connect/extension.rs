//! Aggregation: an extension server in this process, reached by TLS, that believes our front proxy alone.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capstan_api::{Body, UserInfo};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::rig::Rig;
use super::{Wire, ask, ask_as, echo, service, until};

/// An extension server: discovery of one kind, and otherwise what it was asked, for whom it knows only.
async fn extension(front_proxy_ca: &str) -> (SocketAddr, String, tokio_util::sync::CancellationToken) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["wardle.extension.svc".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(front_proxy_ca.as_bytes()).unwrap())
        .unwrap();
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(stopped.run_until_cancelled_owned(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(flunders))
                    .with_upgrades();
                let _ = served.await;
            });
        }
    }));
    (address, certificate.pem(), stop)
}

async fn flunders(
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Body>, std::convert::Infallible> {
    if request.uri().path() == "/apis/wardle.example.com/v1alpha1" {
        let list = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [{ "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list", "create"] }] });
        let mut response = http::Response::new(Body::from(list.to_string()));
        response
            .headers_mut()
            .insert("content-type", "application/json".parse().unwrap());
        return Ok(response);
    }
    echo(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extension_server_serves_its_group() {
    let rig = Rig::start().await;
    let (address, ca, stop) = extension(&rig.front_proxy_ca).await;
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "extension" } });
    assert_eq!(ask(&rig, "POST", "/api/v1/namespaces", namespace).await.0, 201);
    let object = json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": { "name": "v1alpha1.wardle.example.com" },
        "spec": { "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": { "name": "wardle", "namespace": "extension", "port": 7443 }, "caBundle": STANDARD.encode(&ca) } });
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (code, said) = ask(&rig, "POST", services, object).await;
    assert_eq!(code, 201, "{said}");
    let available = async |status: &str, reason: &str| {
        until(reason, async || {
            let (_, object) = ask(
                &rig,
                "GET",
                &format!("{services}/v1alpha1.wardle.example.com"),
                Value::Null,
            )
            .await;
            let condition = &object["status"]["conditions"][0];
            match condition["status"] == status && condition["reason"] == reason {
                true => Ok(condition["message"].as_str().unwrap().to_owned()),
                false => Err(object["status"].to_string()),
            }
        })
        .await
    };
    assert_eq!(
        available("False", "ServiceNotFound").await,
        "service/wardle in \"extension\" is not present"
    );
    let flunders = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
    until("503 while it is not there", async || {
        match ask(&rig, "GET", flunders, Value::Null).await {
            (503, said) if said == "service unavailable\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    service(&rig, "extension", "wardle", 7443, address).await;
    assert_eq!(available("True", "Passed").await, "all checks passed");
    // Discovery in both forms, and through kubectl.
    let (_, groups) = ask(&rig, "GET", "/apis", Value::Null).await;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|group| group["name"].as_str())
        .collect();
    assert!(
        names.contains(&"wardle.example.com") && names.contains(&"apps"),
        "{names:?}"
    );
    let (code, group) = ask(&rig, "GET", "/apis/wardle.example.com", Value::Null).await;
    assert_eq!(
        (code, &group["preferredVersion"]["version"]),
        (200, &json!("v1alpha1"))
    );
    let kinds = rig
        .ok(
            &["api-resources", "--api-group=wardle.example.com", "--no-headers"],
            "",
        )
        .await;
    assert!(kinds.contains("flunders") && kinds.contains("Flunder"), "{kinds}");
    let (_, index) = ask(&rig, "GET", "/openapi/v3", Value::Null).await;
    let own = "/openapi/v3/apis/wardle.example.com/v1alpha1";
    assert_eq!(
        index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"],
        own
    );
    assert_eq!(ask(&rig, "GET", own, Value::Null).await.1["uri"], own);
    // The request as it is, with who asks and without how they showed it.
    let mut user = UserInfo::new("jane", &["system:masters", "devs"]);
    user.extra = vec![("scopes".into(), vec!["a".into(), "b".into()])];
    let (code, said) = ask_as(
        &rig,
        user,
        "POST",
        &format!("{flunders}?dryRun=All"),
        json!({ "kind": "Flunder" }),
    )
    .await;
    assert_eq!(
        (code, said["uri"].as_str().unwrap()),
        (200, format!("{flunders}?dryRun=All").as_str())
    );
    let headers = &said["headers"];
    assert_eq!(
        (
            &headers["x-remote-user"],
            &headers["x-remote-extra-scopes"],
            &headers["host"]
        ),
        (&json!("jane"), &json!("a,b"), &json!("wardle.extension.svc"))
    );
    assert_eq!(
        headers["x-remote-group"],
        "system:masters,devs,system:authenticated"
    );
    assert_eq!(said["body"], "{\"kind\":\"Flunder\"}");
    let mut wire = Wire::open(&rig, false).await;
    let forged = "authorization: Bearer reader-token\r\nx-remote-user: admin\r\n";
    assert_eq!(
        wire.send(&format!("GET {flunders}"), forged).await.0,
        403,
        "authorized here, before it goes on"
    );
    // Extension servers find out whom to believe.
    let (_, map) = ask(
        &rig,
        "GET",
        "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication",
        Value::Null,
    )
    .await;
    assert_eq!(
        map["data"]["requestheader-client-ca-file"],
        rig.front_proxy_ca.as_str()
    );
    // It goes down: 503 where it is asked, stale in discovery once that is found out; and goes with its object.
    stop.cancel();
    until("503 after it went down", async || {
        match ask(&rig, "GET", flunders, Value::Null).await {
            (503, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(
        ask(
            &rig,
            "DELETE",
            &format!("{services}/v1alpha1.wardle.example.com"),
            Value::Null
        )
        .await
        .0,
        200
    );
    until("the group is gone", async || {
        match ask(&rig, "GET", flunders, Value::Null).await {
            (404, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_here_is_listed_as_local() {
    let rig = Rig::start().await;
    let listed = rig.ok(&["get", "apiservices", "--no-headers"], "").await;
    for (name, service) in [
        ("v1.", "Local"),
        ("v1.apps", "Local"),
        ("v2.autoscaling", "Local"),
    ] {
        let line = listed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        let line: Vec<&str> = line
            .unwrap_or_else(|| panic!("{name}: {listed}"))
            .split_whitespace()
            .collect();
        assert_eq!(line[1..3], [service, "True"], "{listed}");
    }
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    let (_, apps) = ask(&rig, "GET", &format!("{services}/v1.apps"), Value::Null).await;
    assert_eq!(
        apps["metadata"]["labels"],
        json!({ "kube-aggregator.kubernetes.io/automanaged": "onstart" })
    );
    assert_eq!(
        apps["spec"],
        json!({ "group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15 })
    );
    // Those of custom kinds come, come back, and go.
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let version = |name: &str, storage: bool| json!({ "name": name, "served": true, "storage": storage, "schema": { "openAPIV3Schema": { "type": "object" } } });
    let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": "drums.cap.example.com" },
        "spec": { "group": "cap.example.com", "scope": "Namespaced", "names": { "plural": "drums", "kind": "Drum" },
            "versions": [version("v1", true), version("v2", false)] } });
    let (code, said) = ask(&rig, "POST", definitions, definition).await;
    assert_eq!(code, 201, "{said}");
    let names = async || -> Vec<String> {
        let (_, all) = ask(&rig, "GET", services, Value::Null).await;
        let names = all["items"].as_array().into_iter().flatten();
        let names = names.filter_map(|one| one["metadata"]["name"].as_str().map(str::to_owned));
        names.filter(|name| name.ends_with("cap.example.com")).collect()
    };
    let both = ["v1.cap.example.com", "v2.cap.example.com"];
    let are = async |wanted: &[&str]| {
        until("the APIServices follow", async || {
            let names = names().await;
            if names == wanted {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        })
        .await;
    };
    are(&both).await;
    let (_, object) = ask(
        &rig,
        "GET",
        &format!("{services}/v2.cap.example.com"),
        Value::Null,
    )
    .await;
    assert_eq!(
        (
            &object["spec"]["groupPriorityMinimum"],
            &object["spec"]["versionPriority"]
        ),
        (&json!(1000), &json!(100))
    );
    assert_eq!(object["status"]["conditions"][0]["reason"], "Local");
    ask(
        &rig,
        "DELETE",
        &format!("{services}/v2.cap.example.com"),
        Value::Null,
    )
    .await;
    are(&both).await;
    ask(
        &rig,
        "DELETE",
        &format!("{definitions}/drums.cap.example.com"),
        Value::Null,
    )
    .await;
    are(&[]).await;
    rig.stop().await;
}
