//! Calling webhooks: one JSON document by POST over TLS, one back.
//!
//! Admission and the conversion of custom kinds call by it. A caller is made once for each place and bundle of
//! roots and keeps its connections; calls share them and wait for nothing else. A webhook behind a service is
//! reached at one of the service's ready endpoints, or at its cluster IP where it has none that are listed,
//! and must show a certificate for `NAME.NAMESPACE.svc`. Left out: client certificates, HTTP/2 (as in the
//! original, so that calls are spread over endpoints).

mod connect;
mod failure;
mod resolve;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use capstan_kinds::admission::{ClientConfig, Place};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

use self::connect::Connector;
pub(crate) use self::failure::{Failure, UNAVAILABLE};
use self::resolve::Target;
use crate::registry::Registry;

/// Callers that are kept, as in the original; over it all are made anew.
const CALLERS_MAX: usize = 200;
/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Idle connections that are kept to one place.
const IDLE_CONNECTIONS_MAX: usize = 25;
/// How long an idle connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// See the module.
pub(crate) struct Callers {
    registry: Weak<Registry>,
    known: Mutex<HashMap<ClientConfig, Arc<Caller>>>,
}

impl Callers {
    pub(crate) fn new(registry: Weak<Registry>) -> Self {
        Self {
            registry,
            known: Mutex::default(),
        }
    }

    /// The caller of a webhook.
    pub(crate) fn to(&self, config: &ClientConfig) -> Result<Arc<Caller>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = known.get(config) {
            return Ok(caller.clone());
        }
        let caller = Arc::new(Caller::new(config, self.registry.clone())?);
        if known.len() >= CALLERS_MAX {
            known.clear();
        }
        known.insert(config.clone(), caller.clone());
        Ok(caller)
    }
}

/// The way to one webhook.
pub(crate) struct Caller {
    client: Client<Connector, Full<Bytes>>,
    url: String,
}

impl Caller {
    fn new(config: &ClientConfig, registry: Weak<Registry>) -> Result<Self, String> {
        let (url, target) = match &config.place {
            Place::Url(url) => (url.clone(), Target::Host),
            Place::Service {
                namespace,
                name,
                path,
                port,
            } => {
                let path = path.trim_start_matches('/');
                let url = format!("https://{name}.{namespace}.svc:{port}/{path}");
                let target = Target::Service {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    port: *port,
                };
                (url, target)
            }
        };
        let connector = Connector::new(&config.ca_bundle, target, registry)?;
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Ok(Self { client, url })
    }

    /// Sends a document and gives the one that comes back, within `timeout`.
    pub(crate) async fn post(&self, document: &Value, timeout: Option<Duration>) -> Result<Value, Failure> {
        let mut url = self.url.clone();
        if let Some(timeout) = timeout {
            let seconds = timeout.as_millis().div_ceil(1000);
            url.push_str(&format!("?timeout={seconds}s"));
        }
        let call = self.call(&url, document);
        let answered = match timeout {
            Some(timeout) => tokio::time::timeout(timeout, call)
                .await
                .unwrap_or_else(|_| Err(Failure::unreached(&url, "context deadline exceeded"))),
            None => call.await,
        };
        let (code, body) = answered?;
        if !(200..300).contains(&code) {
            return Err(Failure::answered(code, &body));
        }
        serde_json::from_slice(&body).map_err(|error| Failure::garbled(&error))
    }

    async fn call(&self, url: &str, document: &Value) -> Result<(u16, Bytes), Failure> {
        let body = serde_json::to_vec(document).map_err(|error| Failure::garbled(&error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(header::USER_AGENT, "kube-apiserver-admission")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Failure::unreached(url, &error.to_string()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| Failure::unreached(url, &failure::told(&error)))?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| Failure::unreached(url, &error.to_string()))?;
        Ok((code, body.to_bytes()))
    }
}
