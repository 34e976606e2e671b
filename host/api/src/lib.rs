//! The Kubernetes API server, as a library: a TLS front and an in-process service over one [`Store`].
//!
//! Requests pass layers that each stand in a module: http → authentication → authorization (`access`) →
//! routing (`server`) → reads from the watch caches (`read`, `registry`) or the write path (`write`,
//! `admission`). Every kind takes the same path by table; what is special about a kind is in
//! `capstan-kinds`. The composition root starts it; clients reach it by TLS or by [`ApiServer::service`].
//!

mod access;
mod admission;
mod aggregate;
mod answer;
mod audit;
mod body;
mod bootstrap;
mod call;
mod config;
mod connect;
mod conversion;
mod custom;
mod discovery;
mod encryption;
mod evaluation;
mod fairness;
mod front;
mod health;
mod http;
mod metrics;
mod negotiate;
mod openapi;
mod present;
mod pretty;
mod probes;
mod protobuf;
mod read;
mod refusal;
mod registry;
mod request;
mod server;
mod services;
mod subresource;
mod time;
mod webhook;
mod write;

pub use self::http::{ApiServer, Local};
pub use access::{Anonymous, AuthenticationConfiguration, ConfigurationError, OpenIdProvider, UserInfo};
pub use audit::{AuditOptions, AuditPolicy, LogOptions, WebhookOptions, WebhookServer};
pub use body::{Body, BoxError};
pub use capstan_store::Store;
pub use config::{Config, Explanations, FrontProxy, Limits, NodeProxy, StaticToken};
pub use connect::Tunnel;
pub use encryption::Encryption;
pub use front::go_duration;
pub use services::Cidr;

/// Why the API server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listening socket is unusable.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store could not be read.
    #[error("cannot read the store: {0}")]
    ReadStore(#[source] capstan_store::Error),
    /// The audit log's file cannot be written.
    #[error("cannot open the audit log: {0}")]
    OpenAuditLog(#[source] std::io::Error),
    /// The service account key is no ECDSA P-256 key in PKCS#8.
    #[error("the service account key is unusable: {0}")]
    ServiceAccountKey(String),
    /// An OpenID Connect provider cannot be used.
    #[error("the OpenID Connect provider {0} cannot be used: {1}")]
    OpenIdProvider(String, String),
    /// The certificate for extension servers is unusable.
    #[error("{0}")]
    FrontProxy(String),
    /// A built-in object could not be written.
    #[error("cannot create {object}: {message}")]
    Bootstrap {
        /// Which.
        object: String,
        /// Why.
        message: String,
    },
}

/// What this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;
