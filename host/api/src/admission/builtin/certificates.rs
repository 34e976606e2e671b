//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and sign for a
//! signer, and what the signer of clients never signs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capstan_points::admission::Operation;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Asked, text};
use crate::access::{Attributes, MASTERS};
use crate::refusal::Refusal;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) fn approval(asked: &Asked<'_>, request: &Value) -> Result<(), Refusal> {
    if !asked.is(GROUP, REQUESTS, Operation::Update, "approval") {
        return Ok(());
    }
    // The old object's signer counts: the new one may lie.
    let signer = signer(asked);
    if may(asked, "approve", &signer) {
        return Ok(());
    }
    let why = format!("user not permitted to approve requests with signerName {signer:?}");
    Err(asked.forbid(request, &why))
}

pub(super) fn signing(asked: &Asked<'_>, request: &Value) -> Result<(), Refusal> {
    if !asked.is(GROUP, REQUESTS, Operation::Update, "status") {
        return Ok(());
    }
    let old = asked.subject.old.as_deref().unwrap_or(&Value::Null);
    let same = |field: &str| old["status"][field] == request["status"][field];
    if same("certificate") && same("conditions") {
        return Ok(());
    }
    let signer = signer(asked);
    if may(asked, "sign", &signer) {
        return Ok(());
    }
    let why = format!("user not permitted to sign requests with signerName {signer:?}");
    Err(asked.forbid(request, &why))
}

pub(super) fn subject(asked: &Asked<'_>, request: &Value) -> Result<(), Refusal> {
    if !asked.creates(GROUP, REQUESTS) || request["spec"]["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let Some(subject) = Subject::of(request) else {
        let why = "failed to parse CSR: PEM block type must be CERTIFICATE REQUEST";
        return Err(asked.forbid(request, why));
    };
    if subject.organizations.iter().any(|group| group == MASTERS) {
        let why = format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed");
        return Err(asked.forbid(request, &why));
    }
    Ok(())
}

fn signer(asked: &Asked<'_>) -> String {
    let old = asked.subject.old.as_deref().unwrap_or(&Value::Null);
    text(&old["spec"]["signerName"]).to_owned()
}

/// Whether the user may for the signer, by its name or for its whole domain.
fn may(asked: &Asked<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer.to_owned(), format!("{domain}/*")]
        .into_iter()
        .any(|name| {
            let question = Attributes {
                verb: verb.to_owned(),
                group: GROUP.to_owned(),
                resource: "signers".to_owned(),
                name,
                ..Attributes::default()
            };
            asked.server.decide(&asked.call.user, &question).allowed
        })
}

/// Whom a certificate is asked for.
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
}

impl Subject {
    /// None where the request is no certificate request in PEM.
    pub(super) fn of(request: &Value) -> Option<Self> {
        let pem = STANDARD.decode(text(&request["spec"]["request"])).ok()?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
        let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
        let subject = &parsed.certification_request_info.subject;
        let read =
            |part: &x509_parser::x509::AttributeTypeAndValue<'_>| part.as_str().ok().map(str::to_owned);
        Some(Self {
            common_name: subject.iter_common_name().find_map(read).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(read).collect(),
        })
    }
}
