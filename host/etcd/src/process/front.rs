//! What each kind of listener answers: clients get gRPC and monitoring, monitors and peers their own part.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use capstan_store::LocalStore;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::Service;

use crate::face::Face;
use crate::health;

/// A service that listeners can serve.
pub(super) trait Front:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static
{
}

impl<S> Front for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static
{
}

type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// Health, version and metrics.
#[derive(Clone)]
pub(super) struct MonitorFront {
    store: Arc<LocalStore>,
}

impl MonitorFront {
    pub(super) fn new(store: Arc<LocalStore>) -> Self {
        Self { store }
    }
}

impl Service<Request<Incoming>> for MonitorFront {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        let store = self.store.clone();
        Box::pin(async move { Ok(health::answer(store, request).await) })
    }
}

/// The gRPC face, and what monitors see.
#[derive(Clone)]
pub(super) struct ClientFront {
    face: Face,
    monitor: MonitorFront,
}

impl ClientFront {
    pub(super) fn new(face: Face, monitor: MonitorFront) -> Self {
        Self { face, monitor }
    }
}

impl Service<Request<Incoming>> for ClientFront {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        if is_grpc(&request) {
            self.face.call(request)
        } else {
            self.monitor.call(request)
        }
    }
}

/// The members' service, and the version.
#[derive(Clone)]
pub(super) struct PeerFront<S> {
    peers: S,
}

impl<S> PeerFront<S> {
    pub(super) fn new(peers: S) -> Self {
        Self { peers }
    }
}

impl<S> Service<Request<Incoming>> for PeerFront<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Answer {
        if is_grpc(&request) {
            return Box::pin(self.peers.call(request));
        }
        let answer = match request.uri().path() {
            "/version" => health::reply(StatusCode::OK, "application/json", health::version()),
            _ => health::reply(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                "404 page not found\n".into(),
            ),
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}
