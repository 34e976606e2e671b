//! Building HTTP answers: documents, statuses, warnings.

use bytes::Bytes;
use capstan_kinds::status::Status;
use http::header::{CONTENT_TYPE, HeaderValue, WARNING};
use http::{Response, StatusCode};
use serde_json::Value;

use crate::body::Body;
use crate::negotiate::{Form, Format, JSON, YAML};
use crate::present::to_bytes;
use crate::refusal::Refusal;

/// What every handler returns.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

/// Warnings sent with one answer at most, and bytes of each.
const WARNINGS_MAX: usize = 32;
const WARNING_BYTES_MAX: usize = 1024;

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

pub(crate) fn json(code: u16, document: &Value) -> Response<Body> {
    with_type(code, JSON, to_bytes(document).into())
}

pub(crate) fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", Body::from(text.into()))
}

/// JSON bytes in the asked format.
pub(crate) fn bytes(code: u16, form: Form, content_type: &str, json: Bytes) -> Response<Body> {
    match form.format {
        Format::Json => with_type(code, content_type, json.into()),
        Format::Yaml => {
            let document: Value = serde_json::from_slice(&json).unwrap_or_default();
            match serde_norway::to_string(&document) {
                Ok(text) => with_type(code, YAML, text.into()),
                Err(error) => status(&Status::internal(error)),
            }
        }
    }
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
