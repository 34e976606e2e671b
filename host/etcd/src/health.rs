//! What is answered over plain HTTP: health in etcd's JSON, probes, version and metrics.
//!
//! Called by the listeners for every request that is not gRPC. Anything else is not found; etcd's JSON
//! gateway is not here.

use std::sync::Arc;
use std::time::Duration;

use capstan_store::{AlarmKind, LocalStore, RangeRequest, Store};
use http::header::CONTENT_TYPE;
use http::{Method, Request, Response, StatusCode};
use tonic::body::Body;

use crate::face::ETCD_VERSION;

/// How long a read may take before the member counts as sick.
const READ_BOUND: Duration = Duration::from_secs(5);
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a request of a monitor.
pub(crate) async fn answer<B>(store: Arc<LocalStore>, request: Request<B>) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return reply(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "Method Not Allowed\n".into(),
        );
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    match request.uri().path() {
        "/health" => health(&store, &query).await,
        "/livez" => probe(&store, &query, &[Check::SerializableRead]).await,
        "/readyz" => {
            let checks = [
                Check::DataCorruption,
                Check::SerializableRead,
                Check::LinearizableRead,
            ];
            probe(&store, &query, &checks).await
        }
        "/version" => reply(StatusCode::OK, JSON, version()),
        "/metrics" => reply(StatusCode::OK, OPEN_METRICS, store.metrics().text()),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".into()),
    }
}

/// The version in etcd's JSON.
pub(crate) fn version() -> String {
    let cluster = ETCD_VERSION
        .rsplit_once('.')
        .map_or(ETCD_VERSION, |(minor, _)| minor);
    format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{cluster}.0","storage":"{cluster}.0"}}"#)
}

pub(crate) fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn health(store: &LocalStore, query: &str) -> Response<Body> {
    let excluded = values(query, "exclude");
    let serializable = values(query, "serializable").contains(&"true");
    let sick = match alarm(store, &excluded).await {
        Some(reason) => Some(reason),
        None if !serializable && store.raft().leader == 0 => Some("RAFT NO LEADER".into()),
        None => read(store, serializable)
            .await
            .err()
            .map(|error| format!("RANGE ERROR:{error}")),
    };
    let (status, health) = match sick {
        None => (StatusCode::OK, "true"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "false"),
    };
    let reason = sick.unwrap_or_default();
    let text = serde_json::json!({ "health": health, "reason": reason });
    reply(status, JSON, text.to_string())
}

async fn alarm(store: &LocalStore, excluded: &[&str]) -> Option<String> {
    let alarms = store.alarms().await.ok()?;
    let names = alarms.iter().map(|alarm| match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    });
    let mut counted = names.filter(|name| !excluded.contains(name));
    counted.next().map(|name| format!("ALARM {name}"))
}

async fn read(store: &LocalStore, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        serializable,
        limit: 1,
        keys_only: true,
        ..RangeRequest::key("health")
    };
    match tokio::time::timeout(READ_BOUND, store.range(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("context deadline exceeded".into()),
    }
}

#[derive(Debug, Clone, Copy)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
        }
    }

    async fn run(self, store: &LocalStore) -> Result<(), String> {
        match self {
            Self::DataCorruption => match alarm(store, &["NOSPACE"]).await {
                Some(reason) => Err(reason),
                None => Ok(()),
            },
            Self::SerializableRead => read(store, true).await,
            Self::LinearizableRead => read(store, false).await,
        }
    }
}

/// Kubernetes' way of probing: "ok", or which check failed.
async fn probe(store: &LocalStore, query: &str, checks: &[Check]) -> Response<Body> {
    let excluded = values(query, "exclude");
    let mut lines = String::new();
    let mut is_well = true;
    for check in checks.iter().filter(|check| !excluded.contains(&check.name())) {
        match check.run(store).await {
            Ok(()) => lines.push_str(&format!("[+]{} ok\n", check.name())),
            Err(reason) => {
                is_well = false;
                lines.push_str(&format!("[-]{} failed: {reason}\n", check.name()));
            }
        }
    }
    let is_verbose = query
        .split('&')
        .any(|part| part.split('=').next() == Some("verbose"));
    match (is_well, is_verbose) {
        (true, true) => reply(StatusCode::OK, TEXT, lines + "ok\n"),
        (true, false) => reply(StatusCode::OK, TEXT, "ok\n".into()),
        (false, _) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, lines + "not ok\n"),
    }
}

/// All values of a query's parameter.
fn values<'q>(query: &'q str, name: &str) -> Vec<&'q str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .collect()
}
