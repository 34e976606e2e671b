//! Requests to extension servers: sent on as they are, with headers that say who the user is.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Remote, reach};
use crate::access::UserInfo;
use crate::answer::Answer;
use crate::body::Body;
use crate::connect::{backend, is_upgrade, join};
use crate::server::Server;

/// What may not stand in a header's name.
const EXTRA_KEY: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'%')
    .add(b'"')
    .add(b'(')
    .add(b')')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'{')
    .add(b'}');

/// Answers a request by the extension server that serves it.
pub(crate) async fn forward(
    server: &Arc<Server>,
    remote: &Remote,
    user: &UserInfo,
    mut request: Request<Body>,
) -> Answer {
    if !remote.is_available {
        return Ok(unavailable("service unavailable"));
    }
    let upgrades = is_upgrade(request.headers());
    let client = hyper::upgrade::on(&mut request);
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let Ok(uri) = path.parse() else {
        return Ok(unavailable("the request's path cannot be sent on"));
    };
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_11;
    let headers = request.headers_mut();
    backend::strip_hop(headers, upgrades);
    identify(headers, user);
    let host = format!("{}.{}.svc", remote.service, remote.namespace);
    if let Ok(host) = HeaderValue::from_str(&host) {
        headers.insert(HOST, host);
    }
    match reach::send(server, remote, request).await {
        Ok(mut response) => {
            let switches = upgrades && response.status() == StatusCode::SWITCHING_PROTOCOLS;
            backend::strip_hop(response.headers_mut(), switches);
            Ok(join(server, client, response))
        }
        Err(reach::ReachError::Io(error)) => {
            Ok(unavailable(&format!("error trying to reach service: {error}")))
        }
        Err(error) => {
            tracing::debug!(%error, group = remote.group, "an extension server is out of reach");
            Ok(unavailable("service unavailable"))
        }
    }
}

/// Says who the user is, and nothing that the client said of it.
pub(crate) fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let claims: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name == "authorization" || name.starts_with("x-remote-") || name.starts_with("impersonate-")
        })
        .cloned()
        .collect();
    for name in claims {
        headers.remove(name);
    }
    let mut say = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    say("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        say("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        say("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", utf8_percent_encode(key, EXTRA_KEY));
        for value in values {
            say(&name, value);
        }
    }
}

/// As the original answers for an extension server that does not.
fn unavailable(message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{message}\n")));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_we_say_who_the_user_is() {
        let mut headers = HeaderMap::new();
        for name in [
            "authorization",
            "x-remote-user",
            "x-remote-extra-a",
            "impersonate-user",
        ] {
            headers.insert(name, HeaderValue::from_static("forged"));
        }
        let mut user = UserInfo::new("u", &["g", "h"]);
        user.extra = vec![("example.com/k".into(), vec!["v".into()])];
        identify(&mut headers, &user);
        let mut said: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
            .collect();
        said.sort();
        assert_eq!(
            said,
            [
                "x-remote-extra-example.com%2fk=v",
                "x-remote-group=g",
                "x-remote-group=h",
                "x-remote-user=u"
            ]
        );
    }
}
