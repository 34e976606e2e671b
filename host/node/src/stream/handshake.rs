//! What a client wants to speak, and the answer that agrees to it. Pure.
//!
//! Refusals are those of the original: no upgrade at all, no subprotocol in common.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use sha1::{Digest, Sha1};

const PROTOCOL_VERSION: &str = "x-stream-protocol-version";
const ACCEPTED_VERSIONS: &str = "x-accepted-stream-protocol-versions";
const WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
const WEBSOCKET_KEY: &str = "sec-websocket-key";
const WEBSOCKET_VERSION: &str = "sec-websocket-version";
/// Of RFC 6455: what a server adds to a key to show that it understands.
const WEBSOCKET_SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const SPDY: &str = "SPDY/3.1";

/// The protocols on offer, the client's order of preference deciding.
pub(crate) struct Offer {
    /// Of WebSocket; the empty one is for clients that name none.
    pub(crate) websocket: &'static [&'static str],
    pub(crate) spdy: &'static [&'static str],
}

/// What was agreed on: the transport and its subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreed {
    WebSocket(&'static str),
    Spdy(&'static str),
}

/// Why there is no agreement, as a whole answer.
pub(crate) type Refusal = Box<Response<String>>;

/// Agrees with a client, or says why not; the answer is whole but for its body.
pub(crate) fn negotiate(headers: &HeaderMap, offer: &Offer) -> Result<(Agreed, Response<()>), Refusal> {
    let says = |name: http::HeaderName, wanted: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(wanted))
    };
    if !says(CONNECTION, "upgrade") {
        return Err(refusal(
            StatusCode::BAD_REQUEST,
            "Upgrade request required".into(),
        ));
    }
    if says(UPGRADE, "websocket") {
        return websocket(headers, offer.websocket);
    }
    let protocol = spdy_protocol(headers, offer.spdy)?;
    if !says(UPGRADE, SPDY) {
        let message = "unable to upgrade: missing upgrade headers in request";
        return Err(refusal(StatusCode::BAD_REQUEST, message.into()));
    }
    let mut answer = switching(SPDY);
    answer
        .headers_mut()
        .insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    Ok((Agreed::Spdy(protocol), answer))
}

fn websocket(headers: &HeaderMap, offer: &'static [&'static str]) -> Result<(Agreed, Response<()>), Refusal> {
    let key = headers.get(WEBSOCKET_KEY).filter(|key| !key.is_empty());
    let version = headers
        .get(WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let (Some(key), true) = (key, version) else {
        let message = "unable to upgrade: no WebSocket key, or a version other than 13";
        return Err(refusal(StatusCode::BAD_REQUEST, message.into()));
    };
    let asked = values(headers, WEBSOCKET_PROTOCOL);
    let agreed = match asked.is_empty() {
        true => offer.iter().find(|one| one.is_empty()),
        false => asked
            .iter()
            .find_map(|asked| offer.iter().find(|one| *one == asked)),
    };
    let Some(agreed) = agreed.copied() else {
        let message = format!(
            "requested protocol(s) are not supported: {}; supports {}",
            go(&asked),
            go(offer)
        );
        return Err(refusal(StatusCode::FORBIDDEN, message));
    };
    let mut answer = switching("websocket");
    let accepted = STANDARD.encode(
        Sha1::new()
            .chain_update(key)
            .chain_update(WEBSOCKET_SALT)
            .finalize(),
    );
    if let Ok(accepted) = HeaderValue::from_str(&accepted) {
        answer.headers_mut().insert("sec-websocket-accept", accepted);
    }
    if !agreed.is_empty() {
        answer
            .headers_mut()
            .insert(WEBSOCKET_PROTOCOL, HeaderValue::from_static(agreed));
    }
    Ok((Agreed::WebSocket(agreed), answer))
}

fn spdy_protocol(headers: &HeaderMap, offer: &'static [&'static str]) -> Result<&'static str, Refusal> {
    if !headers.contains_key(PROTOCOL_VERSION) {
        let message = format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {} headers",
            headers.keys_len()
        );
        return Err(refusal(StatusCode::BAD_REQUEST, message));
    }
    let asked = values(headers, PROTOCOL_VERSION);
    if asked.is_empty() {
        let message = "unable to upgrade: header X-Stream-Protocol-Version is empty";
        return Err(refusal(StatusCode::BAD_REQUEST, message.into()));
    }
    let agreed = asked
        .iter()
        .find_map(|asked| offer.iter().find(|one| *one == asked));
    agreed.copied().ok_or_else(|| {
        let message = format!(
            "unable to upgrade: unable to negotiate protocol: client supports {}, server accepts {}",
            go(&asked),
            go(offer)
        );
        let mut refusal = refusal(StatusCode::FORBIDDEN, message);
        for protocol in offer {
            let protocol = HeaderValue::from_static(protocol);
            refusal.headers_mut().append(ACCEPTED_VERSIONS, protocol);
        }
        refusal
    })
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let values = values.flat_map(|value| value.split(',')).map(str::trim);
    values.filter(|value| !value.is_empty()).collect()
}

/// As Go prints a list.
pub(crate) fn go<T: AsRef<str>>(list: &[T]) -> String {
    let words: Vec<&str> = list.iter().map(AsRef::as_ref).collect();
    format!("[{}]", words.join(" "))
}

fn switching(protocol: &'static str) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

/// An error as Go's `http.Error` writes it.
pub(crate) fn refusal(status: StatusCode, message: String) -> Refusal {
    let mut answer = Box::new(Response::new(message + "\n"));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        "content-type",
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer = Offer {
        websocket: &["", "v5.channel.k8s.io", "channel.k8s.io"],
        spdy: &["v4.channel.k8s.io", "channel.k8s.io"],
    };

    fn check(headers: &[(&'static str, &'static str)], expected: Result<Agreed, (u16, &str)>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        match (negotiate(&map, &OFFER), expected) {
            (Ok((agreed, _)), expected) => assert_eq!(Ok(agreed), expected, "{headers:?}"),
            (Err(answer), Err((code, words))) => {
                assert_eq!(answer.status(), code, "{headers:?}");
                assert!(answer.body().contains(words), "{}", answer.body());
            }
            (Err(answer), expected) => panic!("{} instead of {expected:?}", answer.body()),
        }
    }

    #[test]
    fn clients_and_server_agree() {
        let up = ("connection", "keep-alive, Upgrade");
        let ws = [
            up,
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        let and = |more: &'static str| [&ws[..], &[(WEBSOCKET_PROTOCOL, more)]].concat();
        check(&ws, Ok(Agreed::WebSocket("")));
        check(
            &and("v5.channel.k8s.io,channel.k8s.io"),
            Ok(Agreed::WebSocket("v5.channel.k8s.io")),
        );
        check(
            &and("v9.channel.k8s.io"),
            Err((
                403,
                "requested protocol(s) are not supported: [v9.channel.k8s.io]",
            )),
        );
        let spdy = [up, ("upgrade", "SPDY/3.1")];
        let and = |more: &'static str| [&spdy[..], &[(PROTOCOL_VERSION, more)]].concat();
        check(
            &and("v5.channel.k8s.io, v4.channel.k8s.io"),
            Ok(Agreed::Spdy("v4.channel.k8s.io")),
        );
        check(
            &and("v5.channel.k8s.io"),
            Err((
                403,
                "client supports [v5.channel.k8s.io], server accepts [v4.channel.k8s.io channel.k8s.io]",
            )),
        );
        check(&spdy, Err((400, "does not exist in request with 2 headers")));
        check(&[], Err((400, "Upgrade request required")));
        let mut headers = HeaderMap::new();
        ws.iter()
            .for_each(|(name, value)| drop(headers.insert(*name, HeaderValue::from_static(value))));
        let (_, answer) = negotiate(&headers, &OFFER).unwrap();
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "of RFC 6455"
        );
    }
}
