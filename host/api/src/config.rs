//! What the composition root tells the API server, and the way to the nodes that it gives it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::access::{Anonymous, OpenIdProvider, UserInfo};
use crate::audit::AuditOptions;
use crate::body::Body;
use crate::encryption::Encryption;
use crate::services::Cidr;

/// How an API server is set up.
pub struct Config {
    /// Where it listens: bound already, so that a busy port shows before anything else starts.
    pub listen: std::net::TcpListener,
    /// The server's certificate; client certificates optional and verified against the cluster's CA.
    pub tls: Arc<rustls::ServerConfig>,
    /// Cluster IPs of services are taken from here; its first address is the `kubernetes` service.
    pub service_cidr: Cidr,
    /// The address by which pods and the `kubernetes` EndpointSlice reach this server; the listening
    /// address where it is none.
    pub advertise: Option<IpAddr>,
    /// Bearer tokens known beforehand.
    pub tokens: Vec<StaticToken>,
    /// ECDSA P-256 private key in PKCS#8 DER, which signs service account tokens. Without it one is made at
    /// start, and tokens do not outlive the process.
    pub service_account_key: Option<Vec<u8>>,
    /// `iss` of service account tokens, for instance `https://kubernetes.default.svc.cluster.local`.
    pub service_account_issuer: String,
    /// OpenID Connect providers whose tokens are taken (`--oidc-*`, `--authentication-config`).
    pub openid_providers: Vec<OpenIdProvider>,
    /// Which requests without credentials are taken (`--anonymous-auth`, `--authentication-config`).
    pub anonymous: Anonymous,
    /// Built-in admission that is switched off, by the original's names (`--disable-admission-plugins`).
    pub disable_admission_plugins: Vec<String>,
    /// The way to the kubelets; without it, logs and proxied requests answer 503.
    pub kubelet: Option<Arc<dyn NodeProxy>>,
    /// Why pods are where they are, by namespace and name, at `/explain/namespaces/NAMESPACE/pods/NAME`.
    pub explanations: Option<Explanations>,
    /// What extension servers know this server by; without it they are asked without a certificate, and
    /// believe no header.
    pub front_proxy: Option<FrontProxy>,
    /// Who is told of requests, and of which.
    pub audit: Option<AuditOptions>,
    /// How objects are sealed in the store.
    pub encryption: Option<Encryption>,
    /// How much is answered at once, and how long.
    pub limits: Limits,
}

/// What the scheduler remembers of a pod's last decision.
pub type Explanations = Arc<dyn Fn(&str, &str) -> Option<serde_json::Value> + Send + Sync>;

/// The certificate that this server shows to extension servers, and what those need to check it; all PEM. The
/// authorities are published in the ConfigMap `kube-system/extension-apiserver-authentication`.
#[derive(Clone, Default)]
pub struct FrontProxy {
    /// The certificate, of the common name `front-proxy-client`.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that signed it, and nothing else.
    pub ca: String,
    /// The authority of the cluster's own clients.
    pub client_ca: String,
}

/// Bounds of requests, by the original's flags.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `--enable-priority-and-fairness`: seats are shared out by flow; otherwise the next two are plain limits.
    pub fairness: bool,
    /// `--max-requests-inflight`; 0 is none.
    pub max_requests_inflight: u32,
    /// `--max-mutating-requests-inflight`; 0 is none.
    pub max_mutating_requests_inflight: u32,
    /// `--request-timeout`: how long a request that does not stream may take.
    pub request_timeout: Duration,
    /// `--min-request-timeout`: how long a watch that does not say lasts at least; up to twice as long.
    pub min_request_timeout: Duration,
    /// `--shutdown-delay-duration`: how long it still serves, not ready, before it stops.
    pub shutdown_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fairness: true,
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            request_timeout: Duration::from_secs(60),
            min_request_timeout: Duration::from_secs(1800),
            shutdown_delay: Duration::ZERO,
        }
    }
}

impl Config {
    /// A configuration with the usual service range and nothing optional.
    pub fn new(listen: std::net::TcpListener, tls: Arc<rustls::ServerConfig>) -> Self {
        Self {
            listen,
            tls,
            service_cidr: Cidr {
                base: std::net::Ipv4Addr::new(10, 96, 0, 0),
                prefix_bits: 16,
            },
            advertise: None,
            tokens: Vec::new(),
            service_account_key: None,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            openid_providers: Vec::new(),
            anonymous: Anonymous::Always,
            disable_admission_plugins: Vec::new(),
            kubelet: None,
            explanations: None,
            front_proxy: None,
            audit: None,
            encryption: None,
            limits: Limits::default(),
        }
    }
}

/// A bearer token and whose it is.
#[derive(Clone)]
pub struct StaticToken {
    /// The secret.
    pub token: String,
    /// Its owner; `system:authenticated` is added.
    pub user: UserInfo,
}

/// The way from the API server to kubelets and pods: a direct call in one process, the wire otherwise.
#[async_trait]
pub trait NodeProxy: Send + Sync + 'static {
    /// A request to the kubelet's own API on a node. Its URI is the kubelet's path and query, such as
    /// `/containerLogs/NAMESPACE/POD/CONTAINER?follow=true&tailLines=5`; the answer may stream. Behind an answer
    /// of 101 is the connection, as hyper's upgrade or as a [`crate::Tunnel`] among the answer's extensions.
    async fn request(
        &self,
        node: &str,
        request: http::Request<Body>,
    ) -> std::io::Result<http::Response<Body>>;

    /// A request to a port of a pod (or of a service's endpoint). The default dials it by plain HTTP.
    async fn pod(
        &self,
        address: SocketAddr,
        request: http::Request<Body>,
    ) -> std::io::Result<http::Response<Body>> {
        crate::connect::dial(address, request).await
    }
}
