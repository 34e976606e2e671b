//! A whole API server on a store in a temporary folder, with certificates and a kubeconfig; shared by the
//! tests and the `serve` example.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used
)]

pub mod ask;
pub mod webhook;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use capstan_api::{ApiServer, Body, Config, FrontProxy, NodeProxy, StaticToken, Store, Tunnel, UserInfo};
use capstan_points::Seating;
use capstan_points::admission::Policy;
use capstan_store::{LocalStore, Options};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

pub struct Rig {
    pub folder: tempfile::TempDir,
    pub store: Arc<LocalStore>,
    pub api: ApiServer,
    pub seating: Seating<dyn Policy>,
    pub kubeconfig: PathBuf,
    /// PEM of the authority by which extension servers know the API server.
    pub front_proxy_ca: String,
}

/// A kubelet that answers every request with the request itself, and gives back what comes over an upgrade.
struct EchoKubelet;

#[async_trait]
impl NodeProxy for EchoKubelet {
    async fn request(
        &self,
        node: &str,
        request: http::Request<Body>,
    ) -> std::io::Result<http::Response<Body>> {
        if request.headers().contains_key("upgrade") {
            let (ours, theirs) = tokio::io::duplex(1024);
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(ours);
                tokio::io::copy(&mut read, &mut write).await
            });
            let mut response = http::Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert("connection", "Upgrade".parse().unwrap());
            headers.insert("upgrade", request.headers()["upgrade"].clone());
            headers.insert("x-asked", format!("{node} {}", request.uri()).parse().unwrap());
            response.extensions_mut().insert(Tunnel::new(theirs));
            return Ok(response);
        }
        Ok(http::Response::new(Body::from(format!(
            "{node} {}\n",
            request.uri()
        ))))
    }
}

impl Rig {
    /// Without the admission that counts on controllers, of which none run here.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// As [`Rig::start`], with a configuration that the test has its say in.
    pub async fn start_with(configure: impl FnOnce(&mut Config)) -> Self {
        Self::start_without_but(&["ServiceAccount", "StorageObjectInUseProtection"], configure).await
    }

    /// With all admission but the named.
    pub async fn start_without(admission: &[&str]) -> Self {
        Self::start_without_but(admission, |_| {}).await
    }

    async fn start_without_but(admission: &[&str], configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            space_reserve_bytes: 0,
            ..Options::new(folder.path().join("store"))
        };
        let store = Arc::new(LocalStore::open(options).await.unwrap());
        Self::on(folder, store, admission, configure).await
    }

    /// On a store that was written before.
    pub async fn resume(store: Arc<LocalStore>) -> Self {
        Self::on(tempfile::tempdir().unwrap(), store, &[], |_| {}).await
    }

    /// One more API server on the same store.
    pub async fn beside(&self) -> Self {
        self.beside_with(|_| {}).await
    }

    /// One more, otherwise configured.
    pub async fn beside_with(&self, configure: impl FnOnce(&mut Config)) -> Self {
        Self::on(tempfile::tempdir().unwrap(), self.store.clone(), &[], configure).await
    }

    async fn on(
        folder: tempfile::TempDir,
        store: Arc<LocalStore>,
        without: &[&str],
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, ca, client, key) = certificates();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{address}"), "certificate-authority-data": base64(&ca)}}],
            "users": [{"name": "test", "user": {
                "client-certificate-data": base64(&client), "client-key-data": base64(&key)}},
                {"name": "reader", "user": {"token": "reader-token"}}, {"name": "nobody", "user": {"username": "nobody", "password": "x"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}},
                {"name": "reader", "context": {"cluster": "test", "user": "reader"}}],
        });
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let seating: Seating<dyn Policy> = Seating::default();
        let mut config = Config::new(listener, Arc::new(tls));
        config.kubelet = Some(Arc::new(EchoKubelet));
        let front_proxy = front_proxy();
        let front_proxy_ca = front_proxy.ca.clone();
        config.front_proxy = Some(front_proxy);
        config.disable_admission_plugins = without.iter().map(|name| (*name).to_owned()).collect();
        config.tokens = vec![StaticToken {
            token: "reader-token".into(),
            user: UserInfo::new("reader", &["readers"]),
        }];
        configure(&mut config);
        let shared: Arc<dyn Store> = store.clone();
        let api = ApiServer::start(shared, seating.seats(), config).await.unwrap();
        api.serve();
        Self {
            folder,
            store,
            api,
            seating,
            kubeconfig,
            front_proxy_ca,
        }
    }

    pub async fn stop(self) {
        self.api.shutdown().await;
        self.store.shutdown().await;
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".into()));
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .env("HOME", self.folder.path())
            .env("KUBECACHEDIR", self.folder.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    /// Runs kubectl; gives success, stdout and stderr.
    pub async fn kubectl(&self, arguments: &[&str], input: &str) -> (bool, String, String) {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = input.to_owned();
        let output: Output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("kubectl must be installed");
            use std::io::Write;
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Runs kubectl, which must succeed without a word on stderr.
    pub async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let started = Instant::now();
        let (success, out, err) = self.kubectl(arguments, input).await;
        assert!(success && err.is_empty(), "kubectl {arguments:?}: {out}\n{err}");
        assert!(started.elapsed() < Duration::from_secs(60));
        out
    }

    /// Runs kubectl, which must fail; gives stderr.
    pub async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let (success, out, err) = self.kubectl(arguments, input).await;
        assert!(!success, "kubectl {arguments:?} must fail: {out}\n{err}");
        err
    }
}

/// Whether one more server starts on the store, with this encryption.
pub async fn starts(
    store: Arc<LocalStore>,
    encryption: capstan_api::Encryption,
) -> Result<ApiServer, capstan_api::Error> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = Config::new(listener, Arc::new(certificates().0));
    config.encryption = Some(encryption);
    let seating: Seating<dyn Policy> = Seating::default();
    ApiServer::start(store, seating.seats(), config).await
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A certificate for extension servers to know the API server by, of an authority of its own.
fn front_proxy() -> FrontProxy {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "front-proxy-ca");
    let ca = params.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "front-proxy-client");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    FrontProxy {
        certificate,
        key: key.serialize_pem(),
        ca,
        client_ca: String::new(),
    }
}

/// Server configuration, and PEM of the CA, the admin's certificate and key.
fn certificates() -> (rustls::ServerConfig, String, String, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test-ca");
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let server_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = params.signed_by(&server_key, &issuer).unwrap();
    let client_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "admin");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = params.signed_by(&client_key, &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (tls, ca.pem(), client.pem(), client_key.serialize_pem())
}
