//! `wasi:http` servers: the host listens on the pod's address and hands each request to an instance.
//!
//! An instance serves one request at a time and is kept for the next, newest first; one that traps is
//! dropped. Instances are bounded, and so are connections: beyond, the kernel's backlog waits. When a client
//! goes away its request's call is dropped. A stop closes the listeners, lets requests finish, and kills at
//! the deadline.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::body::Body;
use super::command::trapped;
use super::engine::Machine;
use super::guest::{Guest, GuestPlan};
use super::limits::Metered;
use crate::logs::Stream;
use crate::task::{self, EXIT_KILLED, Exit, Running, Signal};
use crate::{Error, Result};

/// Where a server listens whose container declares no port.
const PORT_DEFAULT: u16 = 8080;
/// Instances of a container, and so requests at once.
const INSTANCES_MAX: usize = 64;
/// Idle instances kept.
const IDLE_MAX: usize = 8;
/// Connections of a container; more wait in the kernel.
const CONNECTIONS_MAX: usize = 1024;
const STREAMS_MAX: u32 = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

struct Server {
    machine: Arc<Machine>,
    pre: ProxyPre<Guest>,
    plan: Arc<GuestPlan>,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Instance>>,
    /// Cancelled to let connections end after the request that they have.
    drain: CancellationToken,
    /// Cancelled to end every call now.
    kill: CancellationToken,
}

struct Instance {
    store: Store<Guest>,
    proxy: Proxy,
}

/// Binds the container's ports and starts serving on the guests' threads.
pub(crate) async fn start(
    machine: Arc<Machine>,
    pre: ProxyPre<Guest>,
    plan: Arc<GuestPlan>,
    signals: watch::Receiver<Signal>,
) -> Result<Running> {
    let server = Arc::new(Server {
        machine: Arc::clone(&machine),
        pre,
        plan,
        slots: Arc::new(Semaphore::new(INSTANCES_MAX)),
        idle: Mutex::new(Vec::new()),
        drain: CancellationToken::new(),
        kill: CancellationToken::new(),
    });
    let listeners = super::started(machine.spawn(Arc::clone(&server).open())).await?;
    let serving = machine.spawn(server.serve(listeners, signals));
    Ok(Box::pin(async move {
        let _machine = machine;
        serving
            .await
            .unwrap_or_else(|error| Exit::failed(1, format!("the host failed: {error}")))
    }))
}

impl Server {
    /// Proves that the component starts, and binds its ports.
    async fn open(self: Arc<Self>) -> Result<Vec<TcpListener>> {
        let first = self.instantiate().await.map_err(Error::Container)?;
        self.keep(first);
        let own = &self.plan.process.ports;
        let ports = if own.is_empty() {
            vec![PORT_DEFAULT]
        } else {
            own.clone()
        };
        let mut listeners = Vec::new();
        for port in ports {
            let address = SocketAddr::new(self.plan.address, port);
            let bound = TcpListener::bind(address).await;
            listeners
                .push(bound.map_err(|error| Error::Container(format!("listening on {address}: {error}")))?);
        }
        Ok(listeners)
    }

    async fn serve(
        self: Arc<Self>,
        listeners: Vec<TcpListener>,
        mut signals: watch::Receiver<Signal>,
    ) -> Exit {
        let connections = TaskTracker::new();
        let accepting: Vec<_> = listeners
            .into_iter()
            .map(|listener| tokio::spawn(Arc::clone(&self).accept(listener, connections.clone())))
            .collect();
        let asked = task::asked(&mut signals, Signal::Terminate).await;
        for accept in accepting {
            accept.abort();
            // Joined, so that the ports are free when we say that we ended.
            let _ = accept.await;
        }
        connections.close();
        self.drain.cancel();
        let was_killed = asked == Signal::Kill
            || tokio::select! {
                () = connections.wait() => false,
                _ = task::asked(&mut signals, Signal::Kill) => true,
            };
        self.kill.cancel();
        connections.wait().await;
        Exit::with_code(if was_killed { EXIT_KILLED } else { 0 })
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, connections: TaskTracker) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(Arc::clone(&self).connection(stream, permit));
                }
                // Out of descriptors, or the client is gone already; either passes.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, _permit: OwnedSemaphorePermit) {
        let _ = stream.set_nodelay(true);
        let own = stream.local_addr().ok();
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, std::convert::Infallible>(server.answer(request, own).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // A client that breaks off is no fault of ours.
            _ = connection.as_mut() => return,
            () = self.drain.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            () = self.kill.cancelled() => {}
            _ = connection => {}
        }
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        own: Option<SocketAddr>,
    ) -> Response<Body> {
        if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
            let host = own
                .map(|own| own.to_string())
                .and_then(|own| HeaderValue::from_str(&own).ok());
            request.headers_mut().insert(
                header::HOST,
                host.unwrap_or(HeaderValue::from_static("localhost")),
            );
        }
        let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping");
        };
        let cancel = self.kill.child_token();
        let guard = cancel.clone().drop_guard();
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(Arc::clone(&self).call(request, sender, cancel, slot));
        match receiver.await {
            Ok(Ok(response)) => response.map(|body| Body::guarded(body, guard)),
            Ok(Err(code)) => refuse(StatusCode::BAD_GATEWAY, &format!("the workload failed: {code:?}")),
            Err(_) => refuse(
                StatusCode::BAD_GATEWAY,
                "the workload ended without an answer; its log says why",
            ),
        }
    }

    /// One request on one instance, to the end of the guest's call.
    async fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        sender: oneshot::Sender<Result<Response<HyperOutgoingBody>, ErrorCode>>,
        cancel: CancellationToken,
        _slot: OwnedSemaphorePermit,
    ) {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let instance = match kept {
            Some(instance) => Ok(instance),
            None => self.instantiate().await,
        };
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(message) => return self.plan.log.stream(Stream::Stderr).note(&message),
        };
        let _ticking = self.machine.ticking();
        let call = Metered::new(instance.handle(request, sender), Arc::clone(&self.plan.allowance));
        let handled = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            handled = call => handled,
        };
        match handled {
            Ok(()) => self.keep(instance),
            Err(error) => drop(trapped(&error, &self.plan)),
        }
    }

    async fn instantiate(&self) -> Result<Instance, String> {
        let mut store = self
            .plan
            .store(&self.machine)
            .map_err(|error| error.to_string())?;
        let _ticking = self.machine.ticking();
        let call = Metered::new(
            self.pre.instantiate_async(&mut store),
            Arc::clone(&self.plan.allowance),
        );
        let proxy = call
            .await
            .map_err(|error| format!("the component does not start: {error:#}"))?;
        Ok(Instance { store, proxy })
    }

    fn keep(&self, instance: Instance) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(instance);
        }
    }
}

impl Instance {
    async fn handle(
        &mut self,
        request: Request<Incoming>,
        sender: oneshot::Sender<Result<Response<HyperOutgoingBody>, ErrorCode>>,
    ) -> wasmtime::Result<()> {
        self.store.set_epoch_deadline(1);
        let request = self
            .store
            .data_mut()
            .http()
            .new_incoming_request(Scheme::Http, request)?;
        let response = self.store.data_mut().http().new_response_outparam(sender)?;
        self.proxy
            .wasi_http_incoming_handler()
            .call_handle(&mut self.store, request, response)
            .await
    }
}

fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{why}\n")))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut response = Response::new(Body::plain(body));
    *response.status_mut() = status;
    response
}
