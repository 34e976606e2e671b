//! The way to an extension server: an address of its service, TLS as its APIService asks for, and our own
//! certificate, by which it believes what the headers say of the user.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response};
use rustls::client::WebPkiServerVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::Remote;
use crate::body::Body;
use crate::config::FrontProxy;
use crate::connect::{backend, place};
use crate::server::Server;

/// Why an extension server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReachError {
    #[error("service/{name} in \"{namespace}\" is not present")]
    NoService { namespace: String, name: String },
    #[error("service/{name} in \"{namespace}\" is not listening on port {port}")]
    NoPort {
        namespace: String,
        name: String,
        port: u16,
    },
    #[error(
        "endpointslices for service/{name} in \"{namespace}\" have no addresses with port name \"{port}\""
    )]
    NoEndpoint {
        namespace: String,
        name: String,
        port: String,
    },
    #[error("unable to load root certificates: {0}")]
    Authorities(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl ReachError {
    /// The reason of an Available condition that is False.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::NoService { .. } => "ServiceNotFound",
            Self::NoPort { .. } => "ServicePortError",
            Self::NoEndpoint { .. } => "MissingEndpoints",
            Self::Authorities(_) | Self::Io(_) => "FailedDiscoveryCheck",
        }
    }
}

/// Our certificate, if we have one.
#[derive(Default)]
pub(crate) struct Identity(Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>);

impl Identity {
    pub(crate) fn read(front_proxy: &FrontProxy) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(front_proxy.certificate.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("the front proxy's certificate: {error}"))?;
        let key = PrivateKeyDer::from_pem_slice(front_proxy.key.as_bytes())
            .map_err(|error| format!("the front proxy's key: {error}"))?;
        Ok(Self(Some((chain, key))))
    }

    /// How one extension server is spoken to.
    fn tls(&self, remote: &Remote) -> Result<Arc<ClientConfig>, ReachError> {
        let failed = |error: &dyn std::fmt::Display| ReachError::Authorities(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = backend::config(provider.clone()).dangerous();
        let builder = if remote.insecure {
            builder.with_custom_certificate_verifier(capstan_tls::AnyCertificate::new(provider))
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(remote.ca.as_deref().unwrap_or_default()) {
                let certificate = certificate.map_err(|error| failed(&error))?;
                roots.add(certificate).map_err(|error| failed(&error))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_custom_certificate_verifier(verifier.build().map_err(|error| failed(&error))?)
        };
        let config = match &self.0 {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| failed(&error))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

/// The CA bundle of an APIService.
pub(crate) fn ca(spec: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(spec["caBundle"].as_str()?).ok()
}

/// Sends a request to one of the server's endpoints.
pub(crate) async fn send(
    server: &Server,
    remote: &Remote,
    request: Request<Body>,
) -> Result<Response<Body>, ReachError> {
    let address = address(server, remote).await?;
    let config = server.aggregator.identity.tls(remote)?;
    let name = format!("{}.{}.svc", remote.service, remote.namespace);
    Ok(backend::dial_tls(address, &name, config, request).await?)
}

async fn address(server: &Server, remote: &Remote) -> Result<SocketAddr, ReachError> {
    let Remote {
        namespace,
        service: name,
        port,
        ..
    } = remote;
    let (namespace, name) = (namespace.clone(), name.clone());
    let Some(service) = place::service(server, &namespace, &name) else {
        return Err(ReachError::NoService { namespace, name });
    };
    if service["spec"]["type"] == "ExternalName" {
        let host = service["spec"]["externalName"].as_str().unwrap_or_default();
        let found = tokio::net::lookup_host((host, *port)).await?.next();
        return found.ok_or_else(|| std::io::Error::other(format!("no address of {host}")).into());
    }
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(found) = ports.into_iter().find(|one| one["port"] == *port) else {
        let port = *port;
        return Err(ReachError::NoPort {
            namespace,
            name,
            port,
        });
    };
    let port_name = found["name"].as_str().unwrap_or_default().to_owned();
    let chosen = place::ready(&server.registry, &namespace, &name, &port_name);
    chosen.ok_or(ReachError::NoEndpoint {
        namespace,
        name,
        port: port_name,
    })
}
