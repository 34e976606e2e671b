//! The webhook sink: events in batches, posted as `EventList`s to the server of a kubeconfig file.
//!
//! Requests never wait for it: its queue is bounded, and what does not fit is dropped and counted. One batch
//! is under way at a time; a batch that the server does not take is tried again with growing pauses and then
//! dropped, so that a dead server costs no more than the queue.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::event::Event;

/// Times that a batch is sent.
const ATTEMPTS_MAX: u32 = 5;
/// A pause is so many times the one before.
const BACKOFF_FACTOR: f64 = 1.5;
/// How long one post may take, as in the original.
const POST_MAX: Duration = Duration::from_secs(30);

/// How events are sent.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Where, and how it is known: `--audit-webhook-config-file`.
    pub server: WebhookServer,
    /// `--audit-webhook-batch-buffer-size`: events that wait at most.
    pub buffer_events_max: usize,
    /// `--audit-webhook-batch-max-size`: events of one post.
    pub batch_events_max: usize,
    /// `--audit-webhook-batch-max-wait`: how long a post waits to be full.
    pub batch_wait_max: Duration,
    /// `--audit-webhook-initial-backoff`: the pause after the first failure.
    pub initial_backoff: Duration,
}

impl WebhookOptions {
    /// The original's defaults.
    pub fn new(server: WebhookServer) -> Self {
        Self {
            server,
            buffer_events_max: 10_000,
            batch_events_max: 400,
            batch_wait_max: Duration::from_secs(30),
            initial_backoff: Duration::from_secs(10),
        }
    }
}

/// A server of a kubeconfig file, with what its client shows.
#[derive(Clone)]
pub struct WebhookServer {
    url: http::Uri,
    tls: rustls::ClientConfig,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for WebhookServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebhookServer({})", self.url)
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Kubeconfig {
    clusters: Vec<Named>,
    users: Vec<Named>,
    contexts: Vec<Named>,
    current_context: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    cluster: Cluster,
    user: User,
    context: Context,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
    username: String,
    password: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

impl WebhookServer {
    /// Reads a kubeconfig file; files that it names are looked for beside it. The error says what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| shown(&error))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, folder).map_err(|error| shown(&error))
    }

    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let config: Kubeconfig = serde_norway::from_str(text).map_err(|error| error.to_string())?;
        let find = |list: Vec<Named>, name: &str| list.into_iter().find(|one| one.name == name);
        let context = find(config.contexts, &config.current_context)
            .ok_or("its current-context names none of its contexts")?
            .context;
        let cluster = find(config.clusters, &context.cluster)
            .ok_or("its context's cluster is missing")?
            .cluster;
        let user = find(config.users, &context.user).unwrap_or_default().user;
        let url: http::Uri = cluster
            .server
            .parse()
            .map_err(|error| format!("server {:?}: {error}", cluster.server))?;
        if url.host().is_none() {
            return Err(format!(
                "server {:?}: it must be a URL with a host",
                cluster.server
            ));
        }
        let bytes = |data: &str, file: &str| bytes_of(folder, data, file);
        let mut roots = rustls::RootCertStore::empty();
        let authority = bytes(
            &cluster.certificate_authority_data,
            &cluster.certificate_authority,
        )?;
        for one in certificates(&authority)? {
            roots.add(one).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let own = bytes(&user.client_certificate_data, &user.client_certificate)?;
        let tls = if own.is_empty() {
            tls.with_no_client_auth()
        } else {
            let key = bytes(&user.client_key_data, &user.client_key)?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| error.to_string())?;
            tls.with_client_auth_cert(certificates(&own)?, key)
                .map_err(|error| error.to_string())?
        };
        Ok(Self {
            url,
            tls,
            authorization: authorization(&user)?,
        })
    }
}

fn authorization(user: &User) -> Result<Option<HeaderValue>, String> {
    let text = if !user.token.is_empty() {
        format!("Bearer {}", user.token)
    } else if !user.username.is_empty() {
        let pair = format!("{}:{}", user.username, user.password);
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    } else {
        return Ok(None);
    };
    let mut value = HeaderValue::try_from(text).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn bytes_of(folder: &Path, data: &str, file: &str) -> Result<Vec<u8>, String> {
    if !data.is_empty() {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data.trim());
        return decoded.map_err(|error| error.to_string());
    }
    if file.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::read(folder.join(file)).map_err(|error| format!("{file}: {error}"))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// What became of events that were not sent.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Events that the sink did not take or could not deliver.
    pub errors: AtomicU64,
}

/// See the module.
pub(super) struct Webhook {
    queue: mpsc::Sender<Event>,
}

impl Webhook {
    /// Starts the sender; it goes on until the sink is dropped and what waits is sent.
    pub(super) fn start(options: WebhookOptions, losses: Arc<Losses>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(options.buffer_events_max.max(1));
        let task = tokio::spawn(send_all(options, waiting, losses));
        (Self { queue }, task)
    }

    /// Whether the event will be sent.
    pub(super) fn offer(&self, event: Event) -> bool {
        self.queue.try_send(event).is_ok()
    }
}

async fn send_all(options: WebhookOptions, mut waiting: mpsc::Receiver<Event>, losses: Arc<Losses>) {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(options.server.tls.clone())
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<HttpsConnector<HttpConnector>, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build(connector);
    while let Some(first) = waiting.recv().await {
        let mut batch = vec![first];
        let full = async {
            while batch.len() < options.batch_events_max {
                match waiting.recv().await {
                    Some(event) => batch.push(event),
                    None => return,
                }
            }
        };
        // Whether it is full or the time is up makes no difference.
        let _ = tokio::time::timeout(options.batch_wait_max, full).await;
        let count = batch.len() as u64;
        let list = serde_json::json!({
            "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": batch,
        });
        if let Err(error) = deliver(&client, &options, list.to_string().into()).await {
            losses.errors.fetch_add(count, Ordering::Relaxed);
            tracing::error!(error, events = count, "audit events were not delivered");
        }
    }
}

async fn deliver(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    options: &WebhookOptions,
    body: Bytes,
) -> Result<(), String> {
    let mut pause = options.initial_backoff;
    let mut attempt = 1;
    loop {
        let post = tokio::time::timeout(POST_MAX, post(client, &options.server, body.clone())).await;
        match post.unwrap_or_else(|_| Err("no answer in time".into())) {
            Ok(()) => return Ok(()),
            Err(error) if attempt == ATTEMPTS_MAX => return Err(error),
            Err(_) => {}
        }
        attempt += 1;
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(BACKOFF_FACTOR);
    }
}

async fn post(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: &WebhookServer,
    body: Bytes,
) -> Result<(), String> {
    let mut request = http::Request::post(server.url.clone()).header(CONTENT_TYPE, "application/json");
    if let Some(value) = &server.authorization {
        request = request.header(AUTHORIZATION, value);
    }
    let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
    let response = client.request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    // Read to its end, so that the connection can be used again.
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| error.to_string())?;
    }
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("the server answered {status}"))
    }
}
