//! A webhook over TLS on the loopback, which answers by a function and remembers what it was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

pub struct Hook {
    pub port: u16,
    /// Base64 of PEM, as `caBundle` wants it.
    pub bundle: String,
    pub asked: Arc<Mutex<Vec<Value>>>,
    /// Connections that were made.
    pub connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hook {
    /// `answer` gets the path and the document, and gives the document that is sent back; null for never.
    pub async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tls, bundle) = certificates();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = connections.clone();
        let (answer, notes) = (Arc::new(answer), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let (acceptor, answer, notes) = (acceptor.clone(), answer.clone(), notes.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
                        let (answer, notes) = (answer.clone(), notes.clone());
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await?.to_bytes();
                            let document: Value = serde_json::from_slice(&body).unwrap();
                            notes.lock().unwrap().push(document.clone());
                            let answer = answer(&path, &document);
                            if answer.is_null() {
                                std::future::pending::<()>().await;
                            }
                            let body = Full::new(Bytes::from(answer.to_string()));
                            Ok::<_, hyper::Error>(http::Response::new(body))
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            port,
            bundle,
            asked,
            connections,
            task,
        }
    }

    /// `clientConfig` by URL.
    pub fn client(&self, path: &str) -> Value {
        json!({ "url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": self.bundle })
    }
}

/// An answer that allows, with more fields.
pub fn allowed(review: &Value, more: Value) -> Value {
    let mut response = json!({ "uid": review["request"]["uid"], "allowed": true });
    for (field, value) in more.as_object().into_iter().flatten() {
        response[field] = value.clone();
    }
    json!({ "kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response })
}

/// An answer with a JSON patch.
pub fn patched(review: &Value, patch: Value) -> Value {
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    allowed(review, json!({ "patch": patch, "patchType": "JSONPatch" }))
}

fn certificates() -> (rustls::ServerConfig, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["127.0.0.1".to_owned(), "hook.default.svc".to_owned()];
    let own = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let bundle = base64::engine::general_purpose::STANDARD.encode(ca.pem());
    (tls, bundle)
}
