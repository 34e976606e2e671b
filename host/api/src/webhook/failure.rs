//! Why a call gave nothing, in the words of the original's client.

use std::error::Error;

use rustls::CertificateError;

/// Bytes of an answer that are shown.
const SHOWN_BYTES_MAX: usize = 2048;
/// The code of a webhook that gave no answer, or none that can be read.
pub(crate) const UNAVAILABLE: u16 = 503;

/// A failed call.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub message: String,
    /// As it is counted: of the webhook's answer, or that it is unavailable.
    pub code: u16,
}

impl Failure {
    /// The webhook was not reached, or not in time.
    pub(super) fn unreached(url: &str, why: &str) -> Self {
        Self {
            message: format!("Post \"{url}\": {why}"),
            code: UNAVAILABLE,
        }
    }

    /// It answered with an error.
    pub(super) fn answered(code: u16, body: &[u8]) -> Self {
        let status: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let told = status
            .filter(|status| status["kind"] == "Status")
            .and_then(|status| status["message"].as_str().map(str::to_owned))
            .filter(|message| !message.is_empty());
        if let Some(message) = told {
            return Self { message, code };
        }
        let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
        let shown = shown.trim();
        let message = match code {
            400 => "the server rejected our request for an unknown reason".to_owned(),
            401 => "the server has asked for the client to provide credentials".to_owned(),
            403 => format!("unknown: {shown}").trim_end_matches(": ").to_owned(),
            404 => "the server could not find the requested resource".to_owned(),
            405 => "the server does not allow this method on the requested resource".to_owned(),
            406 => "the server was unable to respond with a content type that the client supports".to_owned(),
            409 => "the server reported a conflict".to_owned(),
            415 => "the body of the request was in an unknown format - accepted media types include: ".to_owned(),
            422 => "the server rejected our request due to an error in our request".to_owned(),
            429 => "the server has received too many requests and has asked us to try again later".to_owned(),
            503 => "the server is currently unable to handle the request".to_owned(),
            504 => "the server was unable to return a response in the time allotted, but may still be processing the request".to_owned(),
            500.. => format!("an error on the server ({shown:?}) has prevented the request from succeeding"),
            _ => format!("the server responded with the status code {code} but did not return more information"),
        };
        Self { message, code }
    }

    /// It answered something else than a document.
    pub(super) fn garbled(error: &serde_json::Error) -> Self {
        Self {
            message: format!("couldn't get version/kind; json parse error: {error}"),
            code: UNAVAILABLE,
        }
    }
}

/// The cause at the bottom of a client's error.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    loop {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return of_tls(tls);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
        {
            cause = inner;
            continue;
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return cause.to_string(),
        }
    }
}

fn of_tls(error: &rustls::Error) -> String {
    let why = match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "certificate signed by unknown authority",
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "certificate has expired or is not yet valid",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "certificate is not valid for the requested name",
        other => return format!("remote error: tls: {other}"),
    };
    format!("tls: failed to verify certificate: x509: {why}")
}
