//! Who the members are by DNS: SRV records of `_etcd-server-ssl._tcp` (https) and `_etcd-server._tcp` (http),
//! read as etcd reads them.
//!
//! A record whose target and port are this member's is its own; the others are named by numbers until they
//! tell their names. Called for the first start of a member; what its flags say is not looked at here.

mod dns;

use std::net::{IpAddr, SocketAddr};

use crate::link::Address;
use dns::Resolver;

/// Members that the DNS may name.
const MEMBERS_MAX: usize = 64;

/// Why the DNS gives no members.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// No server answered.
    #[error("error querying DNS SRV records for {name}: {reason}")]
    Query {
        /// The name that was asked for.
        name: String,
        /// What went wrong.
        reason: String,
    },
    /// There are no records.
    #[error("error querying DNS SRV records for _etcd-server: no such records for {domain}")]
    None {
        /// The domain.
        domain: String,
    },
    /// There is no way to ask.
    #[error("no DNS server: {0}")]
    NoServer(String),
    /// A record of this member has another scheme than its URL.
    #[error("DNS names this member {url}, but it advertises {advertised}")]
    Scheme {
        /// By the record.
        url: String,
        /// By the flags.
        advertised: String,
    },
}

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) domain: &'a str,
    pub(crate) suffix: Option<&'a str>,
    pub(crate) server: Option<SocketAddr>,
}

/// Names and peer URLs of all members.
pub(crate) async fn members(
    question: &Question<'_>,
    name: &str,
    peer_urls: &[String],
) -> Result<Vec<(String, String)>, DiscoveryError> {
    let resolver = Resolver::new(question.server)?;
    let suffix = question
        .suffix
        .map(|suffix| format!("-{suffix}"))
        .unwrap_or_default();
    let own = own_addresses(&resolver, peer_urls).await;
    let mut members = Vec::new();
    let mut failed = None;
    let mut number = 0;
    for (service, scheme) in [("etcd-server-ssl", "https"), ("etcd-server", "http")] {
        let asked = format!(
            "_{service}{suffix}._tcp.{}",
            question.domain.trim_end_matches('.')
        );
        let targets = match resolver.services(&asked).await {
            Ok(targets) => targets,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        for (host, port) in targets.into_iter().take(MEMBERS_MAX) {
            let url = format!("{scheme}://{host}:{port}");
            let found = resolver.addresses(&host).await;
            let mine = own.iter().find(|(address, own_port, _)| {
                *own_port == port && (address.is_some_and(|address| found.contains(&address)))
            });
            let by_name = peer_urls.iter().find(|own| is_at(own, &host, port));
            let advertised = by_name.or(mine.map(|(_, _, url)| url));
            if let Some(advertised) = advertised {
                if !advertised.starts_with(&format!("{scheme}://")) {
                    let advertised = advertised.clone();
                    return Err(DiscoveryError::Scheme { url, advertised });
                }
                members.push((name.to_owned(), advertised.clone()));
            } else {
                members.push((number.to_string(), url));
                number += 1;
            }
        }
    }
    match (members.is_empty(), failed) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(DiscoveryError::None {
            domain: question.domain.to_owned(),
        }),
        (false, _) => Ok(members),
    }
}

fn is_at(url: &str, host: &str, port: u16) -> bool {
    Address::parse(url).is_ok_and(|address| address.host() == host && address.port() == port)
}

/// Addresses and ports of this member's peer URLs.
async fn own_addresses(resolver: &Resolver, peer_urls: &[String]) -> Vec<(Option<IpAddr>, u16, String)> {
    let mut own = Vec::new();
    for url in peer_urls {
        let Ok(address) = Address::parse(url) else {
            continue;
        };
        for found in resolver.addresses(address.host()).await {
            own.push((Some(found), address.port(), url.clone()));
        }
    }
    own
}
