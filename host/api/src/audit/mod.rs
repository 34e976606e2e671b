//! Audit: who asked for what, when, and what came of it, told to the sinks by policy.
//!
//! The router begins a [`Trail`] for each request once its user is known; without a policy and a sink there
//! is none and nothing is paid. Every answer names its request by the `Audit-ID` header, which a client may
//! choose. Sinks: a log file and a webhook. Left out: the legacy log format, truncation of events by size,
//! and latency annotations.

mod event;
mod log;
mod policy;
mod trail;
mod webhook;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderValue, Request};
use jiff::Timestamp;

use self::event::{Event, ObjectReference};
use self::log::Log;
use self::webhook::{Losses, Webhook};
use crate::access::{Attributes, UserInfo};
use crate::body::Body;

pub use log::LogOptions;
pub use policy::Policy as AuditPolicy;
pub(crate) use policy::{Level, Stage};
pub(crate) use trail::Trail;
pub use webhook::{WebhookOptions, WebhookServer};

/// The header that names a request.
pub(crate) const AUDIT_ID: &str = "audit-id";
/// Bytes of a user agent that are kept.
const USER_AGENT_BYTES_MAX: usize = 1024;
/// How long the last events may take to be sent at the end.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// What is told and to whom.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// `--audit-policy-file`.
    pub policy: AuditPolicy,
    /// `--audit-log-path` and what goes with it.
    pub log: Option<LogOptions>,
    /// `--audit-webhook-config-file` and what goes with it.
    pub webhook: Option<WebhookOptions>,
}

/// See the module.
pub(crate) struct Auditor {
    policy: AuditPolicy,
    log: Option<Log>,
    /// Taken at the end, so that its task sends what waits and stops.
    webhook: Mutex<Option<Webhook>>,
    sender: Mutex<Option<tokio::task::JoinHandle<()>>>,
    losses: Arc<Losses>,
    told: AtomicU64,
    /// Requests by the level that the policy gave them.
    levels: [AtomicU64; 4],
}

/// The address of a connection's other end, kept with its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub std::net::IpAddr);

impl Auditor {
    /// None where there is nobody to tell.
    pub(crate) fn start(options: Option<AuditOptions>) -> std::io::Result<Option<Arc<Self>>> {
        let Some(options) = options else { return Ok(None) };
        if options.log.is_none() && options.webhook.is_none() {
            return Ok(None);
        }
        let losses = Arc::new(Losses::default());
        let (webhook, sender) = options
            .webhook
            .map(|options| Webhook::start(options, losses.clone()))
            .unzip();
        Ok(Some(Arc::new(Self {
            policy: options.policy,
            log: options.log.map(Log::open).transpose()?,
            webhook: Mutex::new(webhook),
            sender: Mutex::new(sender),
            losses,
            told: AtomicU64::new(0),
            levels: Default::default(),
        })))
    }

    /// The trail of a request that has just come; none where the policy does not want it told.
    pub(crate) fn begin(
        self: &Arc<Self>,
        audit_id: &str,
        user: &UserInfo,
        asked: &Attributes,
        version: &str,
        request: &Request<Body>,
    ) -> Option<Arc<Trail>> {
        let judgement = self.policy.judge(user, asked);
        self.levels[judgement.level as usize].fetch_add(1, Ordering::Relaxed);
        if judgement.level == Level::None {
            return None;
        }
        let mut event = Event::new(judgement.level, audit_id.into(), Timestamp::now(), user);
        event.verb.clone_from(&asked.verb);
        event.request_uri = request
            .uri()
            .path_and_query()
            .map_or_else(|| request.uri().path().to_owned(), |uri| uri.as_str().to_owned());
        event.user_agent = user_agent(request);
        event.source_ips = source_addresses(request);
        if asked.path.is_empty() {
            Trail::place(&mut event, ObjectReference::of(asked, version));
        }
        let trail = Arc::new(Trail::new(self.clone(), judgement, event));
        trail.tell(Stage::RequestReceived);
        Some(trail)
    }

    fn send(&self, event: &Event) {
        if let Some(log) = &self.log
            && let Err(error) = log.write(&event.line())
        {
            self.losses.errors.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "an audit event was not written");
        }
        let webhook = self.webhook.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(webhook) = webhook.as_ref()
            && !webhook.offer(event.clone())
        {
            self.losses.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what waits, for a bounded time.
    pub(crate) async fn flush(&self) {
        drop(self.webhook.lock().unwrap_or_else(PoisonError::into_inner).take());
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let abort = sender.abort_handle();
            if tokio::time::timeout(FLUSH_MAX, sender).await.is_err() {
                abort.abort();
                tracing::warn!("some audit events were not sent");
            }
        }
    }

    /// Events that were told, events that were lost, and requests by level.
    pub(crate) fn counts(&self) -> (u64, u64, [(&'static str, u64); 4]) {
        let levels = ["None", "Metadata", "Request", "RequestResponse"];
        let mut at = 0;
        let levels = levels.map(|level| {
            at += 1;
            (level, self.levels[at - 1].load(Ordering::Relaxed))
        });
        (
            self.told.load(Ordering::Relaxed),
            self.losses.errors.load(Ordering::Relaxed),
            levels,
        )
    }
}

/// The request's name: its client's, or a new one.
pub(crate) fn audit_id(request: &Request<Body>) -> HeaderValue {
    match request.headers().get(AUDIT_ID) {
        Some(given) if !given.is_empty() => given.clone(),
        _ => {
            let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
            let mut text = uuid::Uuid::encode_buffer();
            HeaderValue::from_str(id.hyphenated().encode_lower(&mut text))
                .unwrap_or(HeaderValue::from_static("none"))
        }
    }
}

fn user_agent(request: &Request<Body>) -> String {
    let agent = request.headers().get(http::header::USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.len() > USER_AGENT_BYTES_MAX {
        // A header that reads as text is ASCII.
        format!("{}...TRUNCATED", &agent[..USER_AGENT_BYTES_MAX])
    } else {
        agent.to_owned()
    }
}

/// The addresses that a request came through, as it and the connection say; the connection's last.
fn source_addresses(request: &Request<Body>) -> Vec<String> {
    let mut addresses: Vec<std::net::IpAddr> = Vec::new();
    let header = |name: &str| {
        let value = request.headers().get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    let forwarded = header("x-forwarded-for").split(',');
    addresses.extend(forwarded.filter_map(|one| one.trim().parse::<std::net::IpAddr>().ok()));
    if let Ok(real) = header("x-real-ip").trim().parse()
        && !addresses.contains(&real)
    {
        addresses.push(real);
    }
    if let Some(Peer(peer)) = request.extensions().get::<Peer>()
        && addresses.last() != Some(peer)
    {
        addresses.push(*peer);
    }
    addresses.iter().map(ToString::to_string).collect()
}
