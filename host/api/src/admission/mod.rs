//! The admission chain: built-in entries first, then the plugins' seats, mutating before validating, and the
//! quota after everything.
//!
//! Seats are pinned once for a request: a swap while it runs changes nothing for it. A policy that cannot
//! answer is not a refusal: its seat's failure policy says whether the request fails (500) or goes on with
//! a warning. Plugin objects themselves are judged by no plugin, so that a bad policy can always be removed.

mod builtin;
mod plugin;
mod quota;

use std::sync::Arc;

use capstan_points::Seats;
use capstan_points::admission::{Operation, Policy, Review};
use serde_json::Value;

use crate::access;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::time;

pub(crate) use builtin::Switches;
pub(crate) use quota::{Charge, Places, refund};

/// A TokenRequest is judged by one entry alone.
pub(crate) fn token_request(server: &Server, call: &Call, request: &Value) -> Result<(), Refusal> {
    match server.switches.on("NodeRestriction") {
        true => builtin::token_request(server, call, request),
        false => Ok(()),
    }
}

/// What is judged, besides the object.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub operation: Operation,
    pub subresource: &'static str,
    pub old: Option<Arc<Value>>,
    pub dry_run: bool,
}

type Row = Arc<[capstan_points::Seat<dyn Policy>]>;

/// See the module.
pub(crate) struct Chain {
    seats: Seats<dyn Policy>,
}

/// The seats that one request is judged by.
pub(crate) struct Pinned(Row);

impl Chain {
    pub(crate) fn new(seats: Seats<dyn Policy>) -> Self {
        Self { seats }
    }

    /// Pins the seats for one request.
    pub(crate) fn pin(&self) -> Pinned {
        Pinned(self.seats.borrow().clone())
    }
}

impl Pinned {
    /// Whether anybody but the server itself may change the object.
    pub(crate) fn is_plugged(&self) -> bool {
        !self.0.is_empty()
    }

    /// The object as the chain wants it.
    pub(crate) async fn mutate(
        &self,
        server: &Server,
        call: &mut Call,
        subject: &Subject,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        builtin::mutate(server, call, subject, &mut object).await?;
        if !self.judges(call) || !self.0.iter().any(|seat| seat.policy.mutates()) {
            return Ok(object);
        }
        let review = review(server, call, subject, Some(Arc::new(object)));
        plugin::mutate(&self.0, call, review).await
    }

    /// Whether the chain lets the write happen; `object` is none for a deletion.
    pub(crate) async fn validate(
        &self,
        server: &Server,
        call: &mut Call,
        subject: &Subject,
        object: Option<Arc<Value>>,
    ) -> Result<(), Refusal> {
        builtin::validate(server, call, subject, object.as_deref())?;
        if let Some(object) = &object {
            access::escalation::check(server, call, object, subject.old.as_deref())?;
        }
        if self.judges(call) && self.0.iter().any(|seat| seat.policy.validates()) {
            let review = Arc::new(review(server, call, subject, object.clone()));
            plugin::validate(&self.0, call, review).await?;
        }
        match object {
            Some(object) if server.switches.on("ResourceQuota") => {
                quota::charge(server, call, subject, &object).await
            }
            _ => Ok(()),
        }
    }

    fn judges(&self, call: &Call) -> bool {
        !self.0.is_empty() && call.resource.group != "plugins.capstan.dev"
    }
}

fn review(server: &Server, call: &Call, subject: &Subject, object: Option<Arc<Value>>) -> Review {
    let resource = &call.resource;
    let document = object.as_ref().or(subject.old.as_ref());
    let name = document
        .and_then(|document| document["metadata"]["name"].as_str())
        .unwrap_or_default();
    let namespace = if resource.is("", "Namespace") {
        name
    } else {
        call.namespace()
    };
    Review {
        uid: uuid::Uuid::new_v4().to_string(),
        operation: subject.operation,
        group: resource.group.clone(),
        version: resource.version.clone(),
        resource: resource.plural.clone(),
        subresource: subject.subresource.to_owned(),
        kind: resource.kind.clone(),
        namespace: if resource.namespaced {
            namespace.to_owned()
        } else {
            String::new()
        },
        namespace_labels: server.namespace_labels(namespace),
        name: name.to_owned(),
        user: call.user.name.clone(),
        groups: call.user.groups.clone(),
        dry_run: subject.dry_run,
        now_ms: time::now_ms(),
        object,
        old: subject.old.clone(),
    }
}
