//! Certificate requests: approves those of kubelets, signs what is approved for Kubernetes' own signers, and
//! clears away what is done.
//!
//! Keyed by request. The plan is pure; whether a requester may have their request approved is asked of the API
//! server (SubjectAccessReview). Not here: signers of others.

mod authority;
mod der;
mod request;

use std::time::Duration;

use futures::stream::BoxStream;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition as Condition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

pub use self::authority::Authority;
use self::request::{KUBELET_CLIENT, Parsed};
use crate::error::{Error, Tolerate};
use crate::informers::Informers;
use crate::work::{Key, Reconcile, keys_of, wakes};

/// How long requests are kept, as in the original: those that were decided, and those that nobody decided.
const DECIDED_SECONDS: i64 = 3600;
const PENDING_SECONDS: i64 = 24 * 3600;

pub(crate) struct Certificates {
    client: Client,
    informers: Informers,
    authority: Option<Authority>,
}

/// A permission that lets a kubelet's request be approved without anybody looking.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Leave {
    subresource: &'static str,
    message: &'static str,
}

#[derive(Debug, PartialEq)]
enum Plan {
    /// Ask for these in order; the first that is had approves.
    Approve(Vec<Leave>),
    Sign,
    Fail(&'static str, String),
    Delete,
    /// Nothing before so many seconds are over.
    Wait(i64),
}

fn condition<'a>(request: &'a CertificateSigningRequest, kind: &str) -> Option<&'a Condition> {
    let status = request.status.as_ref()?;
    status.conditions.iter().flatten().find(|one| one.type_ == kind)
}

fn certificate(request: &CertificateSigningRequest) -> &[u8] {
    let status = request.status.as_ref();
    let bytes = status.and_then(|status| status.certificate.as_ref());
    bytes.map_or(&[], |bytes| bytes.0.as_slice())
}

/// What to do with a request.
fn plan(request: &CertificateSigningRequest, signs: bool, now: Timestamp) -> Plan {
    let age = |time: Option<&Time>| time.map_or(0, |time| now.as_second() - time.0.as_second());
    let of = |kind: &str| condition(request, kind);
    let issued = !certificate(request).is_empty();
    let decided = of("Denied")
        .or(of("Failed"))
        .or(of("Approved").filter(|_| issued));
    if let Some(decided) = decided {
        return match DECIDED_SECONDS - age(decided.last_update_time.as_ref()) {
            left if left <= 0 => Plan::Delete,
            left => Plan::Wait(left),
        };
    }
    if of("Approved").is_some() {
        return match signs {
            true => judge(request),
            false => Plan::Wait(PENDING_SECONDS),
        };
    }
    let left = PENDING_SECONDS - age(request.metadata.creation_timestamp.as_ref());
    if left <= 0 {
        return Plan::Delete;
    }
    match leaves(request) {
        none if none.is_empty() => Plan::Wait(left),
        some => Plan::Approve(some),
    }
}

/// Whether an approved request is one that its signer signs.
fn judge(request: &CertificateSigningRequest) -> Plan {
    let spec = &request.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    match Parsed::read(&spec.request.0) {
        _ if !request::SIGNERS.contains(&spec.signer_name.as_str()) => Plan::Wait(PENDING_SECONDS),
        Err(why) => Plan::Fail("SignerValidationFailure", why),
        Ok(parsed) => match parsed.suits(&spec.signer_name, usages) {
            Ok(()) => Plan::Sign,
            Err(why) => Plan::Fail("SignerValidationFailure", why),
        },
    }
}

/// The permissions by which a kubelet's request for its client certificate is approved.
fn leaves(request: &CertificateSigningRequest) -> Vec<Leave> {
    let spec = &request.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    let parsed = match Parsed::read(&spec.request.0) {
        Ok(parsed) if spec.signer_name == KUBELET_CLIENT => parsed,
        _ => return Vec::new(),
    };
    if parsed.suits(KUBELET_CLIENT, usages).is_err() {
        return Vec::new();
    }
    let own = Leave {
        subresource: "selfnodeclient",
        message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    };
    let any = Leave {
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    };
    match spec.username.as_deref() == Some(parsed.common_name.as_str()) {
        true => vec![own, any],
        false => vec![any],
    }
}

impl Certificates {
    pub(crate) fn new(client: Client, informers: &Informers, authority: Option<Authority>) -> Self {
        Self {
            client,
            informers: informers.clone(),
            authority,
        }
    }

    pub(crate) fn wakes(&self) -> Vec<BoxStream<'static, Key>> {
        let requests = &self.informers.certificate_requests;
        vec![wakes(
            requests,
            |request| vec![Key::of(request)],
            keys_of(requests),
        )]
    }

    async fn may(&self, request: &CertificateSigningRequest, leave: Leave) -> Result<bool, Error> {
        let spec = &request.spec;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: spec.username.clone(),
                uid: spec.uid.clone(),
                groups: spec.groups.clone(),
                extra: spec.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    group: Some("certificates.k8s.io".to_owned()),
                    resource: Some("certificatesigningrequests".to_owned()),
                    verb: Some("create".to_owned()),
                    subresource: Some(leave.subresource.to_owned()),
                    version: Some("*".to_owned()),
                    ..Default::default()
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = reviews.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    fn requests(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.client.clone())
    }

    async fn conclude(
        &self,
        mut request: CertificateSigningRequest,
        kind: &str,
        reason: &str,
        message: String,
    ) -> Result<(), Error> {
        let now = Time(Timestamp::now());
        let status = request.status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(Condition {
            type_: kind.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_update_time: Some(now.clone()),
            last_transition_time: Some(now),
        });
        let name = request.metadata.name.clone().unwrap_or_default();
        let (requests, params) = (self.requests(), PostParams::default());
        match kind {
            "Approved" => requests
                .replace_subresource("approval", &name, &params, &request)
                .await
                .or_gone()?,
            _ => requests
                .replace_status(&name, &params, &request)
                .await
                .or_gone()?,
        };
        Ok(())
    }

    async fn sign(&self, mut request: CertificateSigningRequest) -> Result<(), Error> {
        let Some(authority) = &self.authority else {
            return Ok(());
        };
        let signed = authority.sign(&request.spec, Timestamp::now());
        let pem = match signed {
            Ok(pem) => pem,
            Err(why) => return self.conclude(request, "Failed", "SigningFailure", why).await,
        };
        request.status.get_or_insert_default().certificate = Some(ByteString(pem.into_bytes()));
        let name = request.metadata.name.clone().unwrap_or_default();
        let requests = self.requests();
        requests
            .replace_status(&name, &PostParams::default(), &request)
            .await
            .or_gone()?;
        Ok(())
    }
}

impl Reconcile for Certificates {
    type Key = Key;
    const NAME: &'static str = "certificate";

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(request) = self.requests().get_opt(&key.name).await? else {
            return Ok(None);
        };
        match plan(&request, self.authority.is_some(), Timestamp::now()) {
            Plan::Wait(seconds) => {
                return Ok(Some(Duration::from_secs(seconds.unsigned_abs())));
            }
            Plan::Approve(leaves) => {
                for leave in leaves {
                    if self.may(&request, leave).await? {
                        self.conclude(request, "Approved", "AutoApproved", leave.message.to_owned())
                            .await?;
                        return Ok(None);
                    }
                }
                return Ok(Some(Duration::from_secs(DECIDED_SECONDS.unsigned_abs())));
            }
            Plan::Sign => self.sign(request).await?,
            Plan::Fail(reason, why) => self.conclude(request, "Failed", reason, why).await?,
            Plan::Delete => {
                self.requests()
                    .delete(&key.name, &DeleteParams::default())
                    .await
                    .or_gone()?;
            }
        }
        Ok(None)
    }
}
