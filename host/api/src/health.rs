//! `/livez`, `/readyz` and `/healthz`: the checks, one by one or all together.
//!
//! The words are the original's; why a check failed is told to the log alone, as anybody may ask. Ready is a
//! server whose caches are filled and whose first objects stand, until it begins to stop.

use http::Response;
use http::header::{HeaderName, HeaderValue};

use crate::answer::{self, Answer};
use crate::body::Body;
use crate::request::Query;
use crate::server::{Phase, Server};
use capstan_kinds::status::Status;

/// What each endpoint checks, in order.
const LIVE: &[&str] = &[
    "ping",
    "log",
    "etcd",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/bootstrap-controller",
];
const READY: &[&str] = &["etcd-readiness", "informer-sync", "shutdown"];

/// Answers a health path: the whole endpoint, or one of its checks.
pub(crate) async fn answer(server: &Server, path: &str, query: &Query) -> Answer {
    let (endpoint, one) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, one)) => (endpoint, Some(one)),
        None => (path.trim_start_matches('/'), None),
    };
    let ready = if endpoint == "readyz" { READY } else { &[] };
    let encryption = server.registry.encryption();
    let services = encryption
        .map(|encryption| encryption.checks())
        .unwrap_or_default();
    let names = LIVE.iter().chain(ready).copied();
    let names = names.chain(services.iter().map(String::as_str));
    if let Some(one) = one {
        let Some(name) = names.clone().find(|name| *name == one) else {
            return Err(Status::not_found_path().into());
        };
        return Ok(match check(server, name).await {
            None => plain(200, "ok".into()),
            Some(problem) => plain(500, format!("internal server error: {problem}\n")),
        });
    }
    let excluded: Vec<&str> = query
        .pairs()
        .filter(|(name, value)| *name == "exclude" && !value.is_empty())
        .map(|(_, value)| value)
        .collect();
    let mut text = String::new();
    let mut failed = Vec::new();
    for name in names.clone() {
        if excluded.contains(&name) {
            text.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if let Some(problem) = check(server, name).await {
            text.push_str(&format!("[-]{name} failed: reason withheld\n"));
            tracing::debug!(check = name, problem, "a health check failed");
            failed.push(name);
        } else {
            text.push_str(&format!("[+]{name} ok\n"));
        }
    }
    let mut unknown: Vec<String> = excluded
        .iter()
        .filter(|one| !names.clone().any(|name| name == **one))
        .map(|one| format!("{one:?}"))
        .collect();
    if !unknown.is_empty() {
        unknown.sort();
        unknown.dedup();
        text.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(", ")
        ));
    }
    if !failed.is_empty() {
        return Ok(plain(500, format!("{text}{endpoint} check failed\n")));
    }
    if !query.pairs().any(|(name, _)| name == "verbose") {
        return Ok(plain(200, "ok".into()));
    }
    Ok(plain(200, format!("{text}{endpoint} check passed\n")))
}

/// What is wrong, if anything.
async fn check(server: &Server, name: &str) -> Option<String> {
    match name {
        "etcd" | "etcd-readiness" => server
            .registry
            .store
            .status()
            .await
            .err()
            .map(|error| error.to_string()),
        "shutdown" => (server.phase() == Phase::Stopping).then(|| "process is shutting down".to_owned()),
        "informer-sync" | "poststarthook/bootstrap-controller" => {
            (server.phase() == Phase::Starting).then(|| "not finished".to_owned())
        }
        // The others were done before anything is answered.
        name => server.registry.encryption()?.problem(name),
    }
}

fn plain(code: u16, text: String) -> Response<Body> {
    let mut response = answer::text(code, text);
    response.headers_mut().insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}
