//! Requests in process.

use std::time::{Duration, Instant};

use capstan_api::{Body, UserInfo};
use serde_json::Value;
use tower::ServiceExt;

use super::Rig;

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Reply {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub document: Value,
}

impl Reply {
    pub fn message(&self) -> &str {
        self.document["message"].as_str().unwrap_or_default()
    }
}

impl Rig {
    /// A request as an administrator.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Reply {
        self.ask_as(UserInfo::admin("test"), method, path, body).await
    }

    /// Server-side apply.
    pub async fn apply(&self, path: &str, config: Value) -> Reply {
        self.send(
            UserInfo::admin("test"),
            "PATCH",
            path,
            "application/apply-patch+yaml",
            config,
        )
        .await
    }

    pub async fn ask_as(&self, user: UserInfo, method: &str, path: &str, body: Value) -> Reply {
        let media = match method {
            "PATCH" if body.is_array() => "application/json-patch+json",
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        self.send(user, method, path, media, body).await
    }

    async fn send(&self, user: UserInfo, method: &str, path: &str, media: &str, body: Value) -> Reply {
        self.send_with(user, method, path, &[("content-type", media)], body)
            .await
    }

    /// A request with just these headers.
    pub async fn send_with(
        &self,
        user: UserInfo,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Reply {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.send_text(user, method, path, headers, body).await
    }

    /// A request with just this body.
    pub async fn send_text(
        &self,
        user: UserInfo,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Reply {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).unwrap();
        let response = self.api.service(user).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect(64 << 20).await.unwrap().unwrap();
        let document = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Reply {
            code: parts.status.as_u16(),
            headers: parts.headers,
            document,
        }
    }

    /// As [`Rig::ask`]; must succeed.
    pub async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.ask(method, path, body).await;
        assert!(reply.code < 300, "{method} {path}: {}", reply.document);
        reply.document
    }

    /// Asks until the reply is as wanted, which must be soon.
    pub async fn until(
        &self,
        method: &str,
        path: &str,
        body: Value,
        wanted: impl Fn(&Reply) -> bool,
    ) -> Reply {
        let started = Instant::now();
        loop {
            let reply = self.ask(method, path, body.clone()).await;
            if wanted(&reply) {
                return reply;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{method} {path}: {} {}",
                reply.code,
                reply.document
            );
            tokio::task::yield_now().await;
        }
    }
}
