//! What the composition root tells the API server, and the way to the nodes that it gives it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;

use crate::access::{OpenIdProvider, UserInfo};
use crate::body::Body;
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
    /// Whether requests without credentials are taken, as of nobody (`--anonymous-auth`).
    pub anonymous: bool,
    /// Built-in admission that is switched off, by the original's names (`--disable-admission-plugins`).
    pub disable_admission_plugins: Vec<String>,
    /// The way to the kubelets; without it, logs and proxied requests answer 503.
    pub kubelet: Option<Arc<dyn NodeProxy>>,
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
            anonymous: true,
            disable_admission_plugins: Vec::new(),
            kubelet: None,
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
    /// `/containerLogs/NAMESPACE/POD/CONTAINER?follow=true&tailLines=5`; the answer may stream.
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
        crate::subresource::dial(address, request).await
    }
}
