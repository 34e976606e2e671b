//! What an operator sees and sets: audit, fairness, encryption at rest, health, metrics, limits.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod bounds;
mod described;
mod fairness;
mod kms;
mod probes;
#[path = "../rig/mod.rs"]
mod rig;
mod sealing;

use std::time::{Duration, Instant};

use capstan_api::UserInfo;
use http::HeaderMap;
use rig::Rig;
use serde_json::Value;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long a condition may take.
const BOUND: Duration = Duration::from_secs(20);

fn admin() -> UserInfo {
    UserInfo::admin("admin")
}

/// A request as a user; JSON where no other type is said.
async fn ask(
    rig: &Rig,
    user: UserInfo,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: Value,
) -> (u16, HeaderMap, String) {
    let mut headers = headers.to_vec();
    if !body.is_null() && !headers.iter().any(|(name, _)| *name == "content-type") {
        headers.push(("content-type", "application/json"));
    }
    let reply = rig.send_with(user, method, path, &headers, body).await;
    let text = match reply.document {
        Value::String(text) => text,
        document => document.to_string(),
    };
    (reply.code, reply.headers, text)
}

async fn get(rig: &Rig, path: &str) -> (u16, String) {
    let (code, _, text) = ask(rig, admin(), ("GET", path), &[], Value::Null).await;
    (code, text)
}

/// Waits until something is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < BOUND, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
