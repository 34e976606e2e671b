//! The API server of a cluster under test, by plain requests: what a client sends to the letter, and all that comes
//! back. Called by the checks beside it. No retries and no types, since both would hide what is looked for.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt};
use http::{HeaderMap, Method, Request, StatusCode};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

/// How long one request may take, and a condition may be waited for.
const BOUND: Duration = Duration::from_secs(20);
/// Bytes that are asked of a watch at most.
const WATCH_LINES_MAX: usize = 10_000;

/// A client.
#[derive(Clone)]
pub struct Api {
    client: Client,
    headers: Vec<(String, String)>,
    kubeconfig: std::path::PathBuf,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The request, for a message.
    pub asked: String,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub bytes: Vec<u8>,
    /// The body as JSON, where it is some.
    pub body: Value,
}

impl Answer {
    /// This answer, where it has this status.
    ///
    /// # Errors
    /// When it has another one.
    pub fn expect(self, status: u16) -> anyhow::Result<Self> {
        ensure!(
            self.status.as_u16() == status,
            "{}: {} where {status} is due: {}",
            self.asked,
            self.status.as_u16(),
            self.text().chars().take(600).collect::<String>()
        );
        Ok(self)
    }

    /// A refusal: a `v1` Status of this code and reason.
    ///
    /// # Errors
    /// When it is another answer.
    pub fn refused(self, code: u16, reason: &str) -> anyhow::Result<Self> {
        let this = self.expect(code)?;
        let (kind, said) = (&this.body["kind"], &this.body["reason"]);
        ensure!(
            kind == "Status" && said == reason && this.body["code"] == code,
            "{}: no Status of {code} {reason}: {}",
            this.asked,
            this.text()
        );
        Ok(this)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The object's resource version.
    pub fn version(&self) -> String {
        text(&self.body["metadata"]["resourceVersion"])
    }
}

/// How a large answer came.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// Bytes of its body.
    pub bytes: usize,
    /// Until the first of them.
    pub first: Duration,
    /// Until the last.
    pub whole: Duration,
}

/// A string in a document; empty where there is none.
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Api {
    /// The administrator's client of a kubeconfig.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub async fn open(kubeconfig: &Path) -> anyhow::Result<Self> {
        Self::with(kubeconfig, |_| {}).await
    }

    async fn with(path: &Path, change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(path)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        config.default_retry = false;
        change(&mut config);
        Ok(Self {
            client: Client::try_from(config)?,
            headers: Vec::new(),
            kubeconfig: path.to_path_buf(),
        })
    }

    /// A client of any server by TLS, whoever that is.
    ///
    /// # Errors
    /// When the address is none.
    pub fn anywhere(address: &str) -> anyhow::Result<Self> {
        let mut config = Config::new(address.parse()?);
        config.accept_invalid_certs = true;
        Ok(Self {
            client: Client::try_from(config)?,
            headers: Vec::new(),
            kubeconfig: std::path::PathBuf::new(),
        })
    }

    /// A client of the same server without credentials, or with a bearer token.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn stranger(&self, token: Option<&str>) -> anyhow::Result<Self> {
        Self::with(&self.kubeconfig, |config| {
            config.auth_info = kube::config::AuthInfo::default();
            config.auth_info.token = token.map(|token| token.to_owned().into());
        })
        .await
    }

    /// The same client, with one more header on each request.
    pub fn header(&self, name: &str, value: &str) -> Self {
        let mut this = self.clone();
        this.headers.push((name.to_owned(), value.to_owned()));
        this
    }

    /// The same client, asking for this form of answer.
    pub fn accept(&self, accept: &str) -> Self {
        self.header("accept", accept)
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Request<Body>> {
        let mut request = Request::builder().method(method).uri(path);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Body::from(body))?)
    }

    /// Sends a request with a body of this type.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let asked = format!("{method} {path}");
        let request = self.request(&method, path, kind, body)?;
        let exchange = async {
            let answer = self.client.send(request).await?;
            let (head, body) = answer.into_parts();
            anyhow::Ok((head, body.collect_bytes().await?))
        };
        let (head, bytes) = tokio::time::timeout(BOUND, exchange)
            .await
            .with_context(|| format!("{asked}: no answer in {BOUND:?}"))?
            .with_context(|| asked.clone())?;
        Ok(Answer {
            asked,
            status: head.status,
            headers: head.headers,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
            bytes: bytes.to_vec(),
        })
    }

    /// GET.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, "", Vec::new()).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, "application/json", body.to_string().into())
            .await
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::PUT, path, "application/json", body.to_string().into())
            .await
    }

    /// PATCH in one of the four forms: `json`, `merge`, `strategic` or `apply`.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn patch(&self, form: &str, path: &str, body: &Value) -> anyhow::Result<Answer> {
        let kind = match form {
            "json" => "application/json-patch+json",
            "merge" => "application/merge-patch+json",
            "strategic" => "application/strategic-merge-patch+json",
            _ => "application/apply-patch+yaml",
        };
        self.send(Method::PATCH, path, kind, body.to_string().into())
            .await
    }

    /// DELETE, with options or without.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn delete(&self, path: &str, options: &Value) -> anyhow::Result<Answer> {
        let (kind, body) = if options.is_null() {
            ("", Vec::new())
        } else {
            ("application/json", options.to_string().into())
        };
        self.send(Method::DELETE, path, kind, body).await
    }

    /// The events of a watch until `enough` says so of what has come.
    ///
    /// # Errors
    /// When the watch is refused or ends, or what is waited for does not come.
    pub async fn watch(&self, path: &str, enough: impl Fn(&[Value]) -> bool) -> anyhow::Result<Vec<Value>> {
        let request = self.request(&Method::GET, path, "", Vec::new())?;
        let mut events = Vec::new();
        let read = async {
            let answer = self.client.send(request).await?;
            ensure!(
                answer.status().is_success(),
                "GET {path}: {}: {}",
                answer.status(),
                String::from_utf8_lossy(&answer.into_body().collect_bytes().await?)
            );
            let body = http_body_util::BodyExt::into_data_stream(answer.into_body());
            let mut lines = body.map_err(std::io::Error::other).into_async_read().lines();
            while !enough(&events) && events.len() < WATCH_LINES_MAX {
                let line = lines.next().await.context("the watch ended")??;
                events.push(serde_json::from_str(&line)?);
            }
            Ok(())
        };
        match tokio::time::timeout(BOUND, read).await {
            Ok(Ok(())) => Ok(events),
            Ok(Err(error)) => Err(error.context(format!("watch {path} after {} events", events.len()))),
            Err(_) => anyhow::bail!(
                "watch {path}: only {} events in {BOUND:?}: {}",
                events.len(),
                json!(events)
            ),
        }
    }

    /// Reads a large answer and keeps nothing of it.
    ///
    /// # Errors
    /// When it is no success, or does not come whole.
    pub async fn read(&self, path: &str) -> anyhow::Result<Read> {
        let request = self.request(&Method::GET, path, "", Vec::new())?;
        let started = Instant::now();
        let answer = self.client.send(request).await?;
        ensure!(answer.status().is_success(), "GET {path}: {}", answer.status());
        let mut stream = http_body_util::BodyExt::into_data_stream(answer.into_body());
        let (mut bytes, mut first) = (0, None);
        while let Some(part) = stream.next().await {
            first.get_or_insert_with(|| started.elapsed());
            bytes += part?.len();
        }
        let whole = started.elapsed();
        Ok(Read {
            bytes,
            first: first.unwrap_or(whole),
            whole,
        })
    }

    /// Reads `path` until `holds` says so of the answer.
    ///
    /// # Errors
    /// When it does not in time; with the last answer.
    pub async fn until(&self, path: &str, holds: impl Fn(&Answer) -> bool) -> anyhow::Result<Answer> {
        let started = Instant::now();
        loop {
            let answer = self.get(path).await?;
            if holds(&answer) {
                return Ok(answer);
            }
            ensure!(
                started.elapsed() < BOUND,
                "GET {path} does not become what is waited for: {} {}",
                answer.status,
                answer.text().chars().take(600).collect::<String>()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
