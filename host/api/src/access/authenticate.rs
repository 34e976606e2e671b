//! Authentication of a request from the wire.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use capstan_kinds::status::Status;
use http::HeaderMap;
use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};

use super::UserInfo;
use crate::refusal::Refusal;
use crate::server::Server;

/// Subprotocol by which a browser, which cannot set headers, hands over its token.
const WEBSOCKET_BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// Which requests without credentials are taken, as of nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    /// None.
    Never,
    /// All.
    Always,
    /// Those for just these paths.
    On(Vec<String>),
}

impl Anonymous {
    fn takes(&self, path: &str) -> bool {
        match self {
            Anonymous::Never => false,
            Anonymous::Always => true,
            Anonymous::On(paths) => paths.iter().any(|one| one == path),
        }
    }
}

/// The user of a request: of its certificate, else of its bearer token, else nobody.
pub(crate) async fn authenticate(
    server: &Server,
    certificate: Option<Arc<UserInfo>>,
    headers: &HeaderMap,
    path: &str,
) -> Result<Arc<UserInfo>, Refusal> {
    let user = match (certificate, bearer(headers)) {
        (Some(user), _) => user,
        (None, Some(token)) => match server.tokens.user(server, &token, &[]).await {
            Ok((user, _)) => Arc::new(user),
            Err(why) => {
                tracing::debug!(why, "a bearer token is refused");
                return Err(Status::unauthorized().into());
            }
        },
        (None, None) if server.anonymous.takes(path) => Arc::new(UserInfo::anonymous()),
        (None, None) => return Err(Status::unauthorized().into()),
    };
    Ok(user)
}

/// The token of the `Authorization` header; of a browser's WebSocket, that of its subprotocol.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((scheme, token)) = header.and_then(|value| value.trim().split_once(' '))
        && scheme.eq_ignore_ascii_case("bearer")
        && !token.trim().is_empty()
    {
        return Some(token.trim().to_owned());
    }
    let all = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let protocols = all.filter_map(|value| value.to_str().ok());
    let encoded = protocols
        .flat_map(|list| list.split(','))
        .find_map(|one| one.trim().strip_prefix(WEBSOCKET_BEARER))?;
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}
