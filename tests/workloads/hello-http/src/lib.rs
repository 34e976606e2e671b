//! The demonstration's workload: a `wasi:http` server that answers with the name of its pod.
//!
//! `/` greets, `/healthz` says ok, `/stats` is a small metrics page (`name value` lines, on purpose not in the
//! Prometheus form: a sidecar component translates it), `/env` shows the environment, `/spin` never returns
//! and `/trap` dies (for the tests of limits). One line goes to stdout for each request.

// Its exports have names that only Wasm knows; elsewhere it is empty, so that the workspace builds.
#![cfg(target_arch = "wasm32")]
// The bindings call into the host through pointers.
#![allow(unsafe_code, missing_docs, unreachable_pub)]

use std::sync::atomic::{AtomicU64, Ordering};

wit_bindgen::generate!({ world: "hello-http", path: "wit", generate_all });

use exports::wasi::http::incoming_handler::Guest;
use wasi::cli::{environment::get_environment, stdout::get_stdout};
use wasi::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// What one blocking write may carry at most, by the contract of `wasi:io`.
const WRITE_BYTES_MAX: usize = 4096;

static REQUESTS: AtomicU64 = AtomicU64::new(0);
static NOT_FOUND: AtomicU64 = AtomicU64::new(0);

struct Server;

impl Guest for Server {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        let target = request.path_with_query().unwrap_or_else(|| "/".into());
        let path = target.split('?').next().unwrap_or("/");
        let (status, text) = answer(path);
        write_log(&format!("{} {target} {status}\n", method_name(&request.method())));
        respond(out, status, text.as_bytes());
    }
}

fn answer(path: &str) -> (u16, String) {
    match path {
        "/" => (200, format!("Hello from {}\n", pod_name())),
        "/healthz" => (200, "ok\n".into()),
        "/stats" => {
            let requests = REQUESTS.load(Ordering::Relaxed);
            let not_found = NOT_FOUND.load(Ordering::Relaxed);
            (200, format!("requests {requests}\nnot-found {not_found}\n"))
        }
        "/env" => (
            200,
            get_environment()
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"))
                .collect(),
        ),
        "/spin" => loop {
            std::hint::black_box(());
        },
        "/trap" => panic!("asked to trap"),
        _ => {
            NOT_FOUND.fetch_add(1, Ordering::Relaxed);
            (404, format!("{path} is not here; try /, /stats or /healthz\n"))
        }
    }
}

fn pod_name() -> String {
    let environment = get_environment();
    let value = |wanted: &str| {
        environment
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.clone())
    };
    value("POD_NAME")
        .or_else(|| value("HOSTNAME"))
        .unwrap_or_else(|| "a pod without a name".into())
}

fn method_name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

fn write_log(line: &str) {
    let stdout = get_stdout();
    for part in line.as_bytes().chunks(WRITE_BYTES_MAX) {
        if stdout.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
}

/// A client that went away is no fault of ours: a failed write ends the response.
fn respond(out: ResponseOutparam, status: u16, text: &[u8]) {
    let headers = [("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("a valid header"));
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the stream is taken once");
    for part in text.chunks(WRITE_BYTES_MAX) {
        if stream.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

export!(Server);
