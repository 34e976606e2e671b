//! What the plugin host of a node says of its plugins, beside the kubelet's own API and on the same way: the API
//! server's node proxy.
//!
//! `/metrics/plugins`, `/plugins/{name}/decisions` and `/plugins/{name}/logs` with `?after=NUMBER`, as JSON lists. Who
//! may reach the kubelet's API may read them.

use bytes::Bytes;
use capstan_api::Body;
use capstan_plugin::Host;
use http::{Method, Request, Response, header};
use http_body_util::Full;

/// The answer, where the path is one of these.
pub(crate) fn answer<B>(host: &Host, request: &Request<B>) -> Option<Response<Body>> {
    if request.method() != Method::GET {
        return None;
    }
    let path = request.uri().path().trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let after = || {
        let query = request.uri().query().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut numbers = pairs.filter(|(key, _)| *key == "after").map(|(_, number)| number.parse());
        numbers.next().and_then(Result::ok).unwrap_or(0)
    };
    let (kind, text) = match parts.as_slice() {
        ["metrics", "plugins"] => ("text/plain; version=0.0.4", host.metrics_text()),
        ["plugins", name, "decisions"] => ("application/json", json(&host.decisions(name, after()))),
        ["plugins", name, "logs"] => ("application/json", json(&host.log_lines(name, after()))),
        _ => return None,
    };
    let body = Body::wrap(Full::new(Bytes::from(text)));
    Response::builder().header(header::CONTENT_TYPE, kind).body(body).ok()
}

fn json<T: serde::Serialize>(entries: &T) -> String {
    serde_json::to_string(entries).unwrap_or_else(|_| "[]".into())
}
