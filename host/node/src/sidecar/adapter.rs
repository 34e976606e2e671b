//! Serves a workload's pages in another form on the pod's own address, as an adapter sidecar would.
//!
//! Invariants: a swap changes who translates and never closes a port that both revisions serve; connections,
//! page size and time are bounded. Works where the pod's address is on this machine; where it is not, an
//! event on the pod says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capstan_points::sidecar::{Endpoint, Page, Sidecar, StreamContext};
use capstan_points::{FailurePolicy, Seat, Seats};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::events::Recorder;
use crate::probe::http::{Get, get};

/// Largest page of a workload; the WIT package promises it.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait for the workload and the translation.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Connections to one port at once.
const CONNECTIONS_MAX: usize = 32;
/// Pages of one pod.
const ENDPOINTS_MAX: usize = 32;

/// Who serves which path of which port.
type Routes = HashMap<(u16, String), (Seat<dyn Sidecar>, Endpoint)>;

/// One pod's adapter.
pub(crate) struct Adapter {
    pub(crate) pod: Arc<Pod>,
    pub(crate) address: String,
    pub(crate) context: StreamContext,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) seats: Seats<dyn Sidecar>,
    pub(crate) recorder: Recorder,
}

impl Adapter {
    /// Runs until it is aborted.
    pub(crate) async fn run(mut self) {
        let (routes, _) = watch::channel(Arc::new(Routes::new()));
        let mut ports: HashMap<u16, JoinSet<()>> = HashMap::new();
        loop {
            let row = Arc::clone(&self.seats.borrow_and_update());
            let fresh = self.routes(&row).await;
            let wanted: BTreeSet<u16> = fresh.keys().map(|(port, _)| *port).collect();
            routes.send_replace(Arc::new(fresh));
            ports.retain(|port, _| wanted.contains(port));
            for port in wanted {
                if ports.contains_key(&port) {
                    continue;
                }
                match TcpListener::bind((self.address.as_str(), port)).await {
                    Ok(listener) => {
                        let mut serving = JoinSet::new();
                        serving.spawn(serve(
                            listener,
                            port,
                            self.address.clone(),
                            self.context.clone(),
                            routes.subscribe(),
                        ));
                        ports.insert(port, serving);
                    }
                    Err(error) => {
                        let message = format!("sidecar cannot serve on {}:{port}: {error}", self.address);
                        self.recorder
                            .pod(&self.pod, None, true, "SidecarAdapterFailed", message);
                    }
                }
            }
            if self.seats.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn routes(&self, row: &[Seat<dyn Sidecar>]) -> Routes {
        let mut routes = Routes::new();
        for seat in row
            .iter()
            .filter(|seat| seat.policy.selects(&self.context.namespace, &self.labels))
        {
            let policy = Arc::clone(&seat.policy);
            let endpoints = match tokio::task::spawn_blocking(move || policy.endpoints()).await {
                Ok(Ok(endpoints)) => endpoints,
                Ok(Err(fault)) => {
                    tracing::warn!(plugin = seat.plugin, %fault, "sidecar named no endpoints");
                    continue;
                }
                Err(error) => {
                    tracing::error!(plugin = seat.plugin, %error, "asking for endpoints failed");
                    continue;
                }
            };
            for endpoint in endpoints.into_iter().take(ENDPOINTS_MAX) {
                let key = (endpoint.listen_port, endpoint.listen_path.clone());
                routes.entry(key).or_insert((seat.clone(), endpoint));
            }
        }
        routes
    }
}

async fn serve(
    listener: TcpListener,
    port: u16,
    address: String,
    context: StreamContext,
    routes: watch::Receiver<Arc<Routes>>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (routes, address, context) = (routes.clone(), address.clone(), context.clone());
        connections.spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let routes = Arc::clone(&routes.borrow());
                let (address, context) = (address.clone(), context.clone());
                async move {
                    Ok::<_, Infallible>(answer(&routes, port, &address, context, request.uri().path()).await)
                }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ANSWER_MAX)
                .serve_connection(TokioIo::new(stream), answer)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "adapter connection ended");
            }
            drop(place);
        });
    }
}

async fn answer(
    routes: &Routes,
    port: u16,
    address: &str,
    context: StreamContext,
    path: &str,
) -> Response<Full<Bytes>> {
    let Some((seat, endpoint)) = routes.get(&(port, path.to_owned())) else {
        return respond(
            StatusCode::NOT_FOUND,
            "text/plain",
            format!("no sidecar serves {path} here"),
        );
    };
    let page = translated(seat, endpoint, address, context);
    match tokio::time::timeout(ANSWER_MAX, page).await {
        Ok(Ok(page)) => respond(StatusCode::OK, &page.content_type, page.body),
        Ok(Err(message)) => respond(StatusCode::BAD_GATEWAY, "text/plain", message),
        Err(_) => respond(
            StatusCode::GATEWAY_TIMEOUT,
            "text/plain",
            format!("no page within {ANSWER_MAX:?}"),
        ),
    }
}

async fn translated(
    seat: &Seat<dyn Sidecar>,
    endpoint: &Endpoint,
    address: &str,
    context: StreamContext,
) -> Result<Page, String> {
    let request = Get {
        host: address.to_owned(),
        port: endpoint.upstream_port,
        path: endpoint.upstream_path.clone(),
        tls: false,
        headers: HeaderMap::new(),
        body_bytes_max: PAGE_BYTES_MAX,
    };
    let upstream = get(&request).await?;
    if !upstream.status.is_success() {
        return Err(format!("the workload answered {}", upstream.status));
    }
    let content_type = upstream
        .headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let page = Page {
        content_type: content_type.unwrap_or("text/plain").to_owned(),
        body: String::from_utf8_lossy(&upstream.body).into_owned(),
    };
    let (policy, asked) = (Arc::clone(&seat.policy), page.clone());
    let translated = tokio::task::spawn_blocking(move || policy.translate(&context, asked)).await;
    match translated {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(_)) if seat.failure_policy == FailurePolicy::Ignore => Ok(page),
        Ok(Err(fault)) => Err(format!("plugin {}: {fault}", seat.plugin)),
        Err(error) => Err(error.to_string()),
    }
}

fn respond(status: StatusCode, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}
