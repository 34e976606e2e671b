//! How pods reach Services without root: a proxy in user space, and the cluster's DNS.
//!
//! Invariants: what is listened on follows from Services and EndpointSlices alone (`plan` is pure); one port
//! that cannot be opened stops no other; connections are bounded. Called by the composition root. Not here:
//! pod addresses (the runtime gives them), cluster IP allocation (the API server's).

mod balance;
mod dns;
mod event;
mod plan;
mod proxy;
mod tcp;
mod udp;

pub use dns::{Dns, DnsOptions};
pub use proxy::{Proxy, ProxyOptions};

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Services or EndpointSlices could not be listed.
    #[error("{0}")]
    Sync(#[from] capstan_client::NotSynced),
    /// No address for DNS could be opened.
    #[error("dns: cannot listen on {address}: {source}")]
    Listen {
        /// The last address that was tried.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}
