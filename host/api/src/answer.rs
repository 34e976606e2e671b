//! Building HTTP answers: documents, statuses, warnings; and what is done to all of them at the end: the
//! form of documents, line breaks for people, gzip for large ones.

use std::io::Write;

use bytes::Bytes;
use capstan_kinds::status::Status;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, VARY, WARNING, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::{Body, BoxError};
use crate::negotiate::{Form, Format, JSON, Wishes, YAML};
use crate::present::to_bytes;
use crate::pretty::Indenter;
use crate::protobuf::{self, PROTOBUF};
use crate::refusal::Refusal;

/// What every handler returns.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

/// Warnings sent with one answer at most, and bytes of each.
const WARNINGS_MAX: usize = 32;
const WARNING_BYTES_MAX: usize = 1024;
/// Answers above so many bytes are compressed for those who can read it, as in the original.
const GZIP_BYTES_MIN: usize = 128 << 10;
/// Bytes compressed at once.
const GZIP_STEP_BYTES: usize = 64 << 10;

pub(crate) fn with_type(code: u16, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = HeaderValue::from_str(content_type).unwrap_or(HeaderValue::from_static(JSON));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
        .headers_mut()
        .insert("cache-control", HeaderValue::from_static("no-cache, private"));
    response
}

/// Marks an answer that is a whole document in JSON, to be written in the form that the client prefers.
#[derive(Debug, Clone, Copy)]
struct Document;

pub(crate) fn json(code: u16, document: &Value) -> Response<Body> {
    let mut response = with_type(code, JSON, to_bytes(document).into());
    response.extensions_mut().insert(Document);
    response
}

pub(crate) fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", Body::from(text.into()))
}

/// 404 of a path that nothing here answers: as in the original, no Status but a line of text.
pub(crate) fn no_page() -> Response<Body> {
    let mut response = text(404, "404 page not found\n");
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// JSON bytes in the asked format.
pub(crate) fn bytes(code: u16, form: Form, content_type: &str, json: Bytes) -> Response<Body> {
    match form.format {
        Format::Json => with_type(code, content_type, json.into()),
        Format::Protobuf => match protobuf::body(&json) {
            Some(body) => with_type(code, content_type, body.into()),
            None => status(&Status::internal("the object cannot be written as protobuf")),
        },
        Format::Yaml => {
            let document: Value = serde_json::from_slice(&json).unwrap_or_default();
            match serde_norway::to_string(&document) {
                Ok(text) => with_type(code, YAML, text.into()),
                Err(error) => status(&Status::internal(error)),
            }
        }
    }
}

/// The last step of every answer.
pub(crate) fn finish(mut response: Response<Body>, wishes: Wishes) -> Response<Body> {
    if response.extensions_mut().remove::<Document>().is_some() && wishes.document != Format::Json {
        response = reform(response, wishes.document);
    }
    let is_json = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|media| media == JSON);
    if wishes.pretty && is_json {
        response = response.map(|body| match body.into_slices() {
            Ok(slices) => {
                let mut indenter = Indenter::default();
                let mut slices: Vec<Bytes> =
                    slices.iter().map(|slice| indenter.indent(slice).into()).collect();
                slices.push(Bytes::from_static(b"\n"));
                Body::slices(slices)
            }
            Err(stream) => stream,
        });
    }
    let large = response
        .body()
        .ready_bytes()
        .is_some_and(|bytes| bytes > GZIP_BYTES_MIN);
    if wishes.gzip && large && !response.headers().contains_key(CONTENT_ENCODING) {
        let headers = response.headers_mut();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        response = response.map(compress);
    }
    response
}

/// A JSON document in another format, if its kind has it.
fn reform(response: Response<Body>, format: Format) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let slices = match body.into_slices() {
        Ok(slices) => slices,
        Err(stream) => return Response::from_parts(parts, stream),
    };
    let json: Vec<u8> = slices.iter().flatten().copied().collect();
    let (media, bytes): (_, Option<Bytes>) = match format {
        Format::Json => (JSON, None),
        Format::Protobuf => (PROTOBUF, protobuf::body(&json)),
        Format::Yaml => {
            let document: Option<Value> = serde_json::from_slice(&json).ok();
            let text = document.and_then(|document| serde_norway::to_string(&document).ok());
            (YAML, text.map(Bytes::from))
        }
    };
    let Some(bytes) = bytes else {
        return Response::from_parts(parts, json.into());
    };
    parts
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(media));
    Response::from_parts(parts, bytes.into())
}

/// Slices of a body, each compressed when it is sent.
fn compress(body: Body) -> Body {
    let slices = match body.into_slices() {
        Ok(slices) => slices,
        Err(stream) => return stream,
    };
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let state = (slices, Some(encoder));
    Body::stream(futures::stream::unfold(
        state,
        |(mut slices, mut encoder)| async move {
            let mut open = encoder.take()?;
            loop {
                // Writing to memory does not fail.
                let Some(slice) = slices.pop_front() else {
                    let last = open.finish().map(Bytes::from).map_err(BoxError::from);
                    return Some((last, (slices, None)));
                };
                let (now, later) = slice.split_at(slice.len().min(GZIP_STEP_BYTES));
                if !later.is_empty() {
                    slices.push_front(slice.slice(now.len()..));
                }
                if let Err(error) = open.write_all(now) {
                    return Some((Err(error.into()), (slices, None)));
                }
                if !open.get_ref().is_empty() {
                    let made = Bytes::from(std::mem::take(open.get_mut()));
                    return Some((Ok(made), (slices, Some(open))));
                }
            }
        },
    ))
}

pub(crate) fn status(status: &Status) -> Response<Body> {
    let mut response = json(status.code, &status.to_value());
    if let Some(seconds) = status
        .details
        .as_ref()
        .map(|d| d.retry_after_seconds)
        .filter(|s| *s > 0)
    {
        response
            .headers_mut()
            .insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning` headers as RFC 7234 and the original write them.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for text in warnings.iter().take(WARNINGS_MAX) {
        let mut shown = String::with_capacity(text.len() + 10);
        for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
            if shown.len() >= WARNING_BYTES_MAX {
                break;
            }
            if matches!(c, '"' | '\\') {
                shown.push('\\');
            }
            shown.push(c);
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{shown}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
