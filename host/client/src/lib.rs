//! How the cluster's own parts reach the Kubernetes API: a `kube::Client` over any tower service (the API
//! server in this process, or TLS), and [`Informer`]s shared by all readers of a kind.
//!
//! Controllers, scheduler, node, network and plugin host stand on this and on nothing nearer to the API
//! server. Not here: what any of them does with what they see.

mod accounts;
mod elect;
mod feed;
mod informer;
mod objects;
mod omit;
mod shared;
mod slim;

pub use accounts::Accounts;
pub use elect::{Election, ElectionError, Leadership};
pub use feed::Changes;
pub use informer::{Change, Informer, NotSynced};
pub use shared::Shared;

/// The error of a client that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig could not be read or makes no sense.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The client could not be built from it.
    #[error("client: {0}")]
    Client(#[from] kube::Error),
}

/// A client of the API server that `service` reaches, in this process or elsewhere.
pub fn over<S, B>(service: S) -> kube::Client
where
    S: tower::Service<http::Request<kube::client::Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    kube::Client::new(service, "default")
}

/// A client from a kubeconfig file's current context.
pub async fn from_kubeconfig(path: &std::path::Path) -> Result<kube::Client, Error> {
    let broken = |source| Error::Kubeconfig {
        path: path.display().to_string(),
        source: Box::new(source),
    };
    let file = kube::config::Kubeconfig::read_from(path).map_err(broken)?;
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default())
        .await
        .map_err(broken)?;
    Ok(kube::Client::try_from(config)?)
}
