//! Where to connect: scheme, host and port out of a URL, as etcd's clients read their endpoints.

use std::fmt;

use http::Uri;
use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};

/// The port where a URL names none.
const PORT: u16 = 2379;

/// Why a URL is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{url}\" is not an endpoint: {reason}; write http://HOST:PORT or https://HOST:PORT")]
pub struct AddressError {
    url: String,
    reason: String,
}

/// A scheme, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    authority: Authority,
    host: String,
    port: u16,
    is_https: bool,
}

impl Address {
    /// Reads `http://host:port`, `https://host:port` or `host:port` (which is without TLS).
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let error = |reason: &str| AddressError {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let with_scheme = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let uri: Uri = with_scheme
            .parse()
            .map_err(|reason: InvalidUri| error(&reason.to_string()))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(error("the scheme must be http or https")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(error("it must not have a path"));
        }
        let authority = uri.authority().ok_or_else(|| error("it has no host"))?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(error("it has no plain host"));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            authority: authority.clone(),
            host,
            port: authority.port_u16().unwrap_or(PORT),
            is_https,
        })
    }

    /// The host, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is spoken.
    pub(crate) fn is_https(&self) -> bool {
        self.is_https
    }

    /// The URI of a path below it.
    pub(crate) fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        let scheme = if self.is_https {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        };
        let path: PathAndQuery = path.parse()?;
        Uri::builder()
            .scheme(scheme)
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, expected) in [
            ("http://127.0.0.1:2379", Some(("127.0.0.1", 2379, false))),
            ("https://etcd.example:4001", Some(("etcd.example", 4001, true))),
            ("etcd.example:4001", Some(("etcd.example", 4001, false))),
            ("https://[::1]:2379/", Some(("::1", 2379, true))),
            ("http://etcd.example", Some(("etcd.example", 2379, false))),
            ("unix:///run/etcd", None),
            ("http://etcd.example/v3", None),
            ("http://", None),
            ("", None),
            ("http://a b", None),
        ] {
            let read = Address::parse(url).ok();
            let parts = read.as_ref().map(|one| (one.host(), one.port(), one.is_https()));
            assert_eq!(parts, expected, "{url}");
        }
    }
}
