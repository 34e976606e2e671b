//! The admission chain: built-in entries first, then the plugins' seats, then what users wrote (policies in CEL,
//! webhooks), mutating before validating, and the quota after everything.
//!
//! Seats and hooks are pinned once for a request: a swap while it runs changes nothing for it. A plugin that
//! cannot answer is not a refusal: its seat's failure policy says whether the request fails (500) or goes on
//! with a warning. Plugin objects themselves are judged by no plugin, and configurations of admission by no
//! hook, so that a bad one can always be removed. Where a hook changed the object, the mutating part runs once
//! more for those that wish to see it again.

mod builtin;
mod connect;
mod hooks;
mod plugin;
mod quota;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use capstan_kinds::admission::exempt;
use capstan_points::Seats;
use capstan_points::admission::{Operation, Policy, Review};
use serde_json::Value;

pub(crate) use self::connect::connect;
use self::hooks::{Attempt, Hooks, Rounds};
pub(crate) use self::hooks::{Other, load, run};
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
    hooks: ArcSwap<Hooks>,
}

/// The seats and hooks that one request is judged by.
pub(crate) struct Pinned {
    seats: Row,
    hooks: Arc<Hooks>,
}

impl Chain {
    pub(crate) fn new(seats: Seats<dyn Policy>) -> Self {
        Self {
            seats,
            hooks: ArcSwap::default(),
        }
    }

    /// Puts other hooks in force.
    fn put_in_force(&self, hooks: Hooks) {
        self.hooks.store(Arc::new(hooks));
    }

    /// Pins the seats and hooks for one request.
    pub(crate) fn pin(&self) -> Pinned {
        Pinned {
            seats: self.seats.borrow().clone(),
            hooks: self.hooks.load_full(),
        }
    }
}

impl Pinned {
    /// Whether anybody but the server itself may change the object.
    pub(crate) fn is_plugged(&self) -> bool {
        self.seats.iter().any(|seat| seat.policy.mutates()) || self.hooks.mutate()
    }

    /// Whether hooks may change or refuse anything.
    pub(crate) fn is_hooked(&self) -> bool {
        self.hooks.mutate() || self.hooks.validate()
    }

    /// The object as the chain wants it.
    pub(crate) async fn mutate(
        &self,
        server: &Server,
        call: &mut Call,
        subject: &Subject,
        object: Value,
    ) -> Result<Value, Refusal> {
        let started = Instant::now();
        let judged = self.mutated(server, call, subject, object).await;
        let (operation, took) = (operation_name(subject.operation), started.elapsed());
        server
            .metrics
            .admission("admit", operation, judged.is_err(), took);
        judged
    }

    async fn mutated(
        &self,
        server: &Server,
        call: &mut Call,
        subject: &Subject,
        mut object: Value,
    ) -> Result<Value, Refusal> {
        builtin::mutate(server, call, subject, &mut object).await?;
        if self.judges(call) && self.seats.iter().any(|seat| seat.policy.mutates()) {
            let review = review(server, call, subject, Some(Arc::new(object)));
            object = plugin::mutate(&self.seats, call, review).await?;
        }
        if !self.hooks.mutate() || !hooked(call, subject) {
            return Ok(object);
        }
        let mut attempt = Attempt::new(server, call, subject, Some(Arc::new(object)));
        let mut rounds = Rounds::default();
        hooks::mutate(&self.hooks, call, &mut attempt, &mut rounds).await?;
        if rounds.again {
            let mut object = owned(attempt.object.take());
            builtin::mutate(server, call, subject, &mut object).await?;
            attempt.object = Some(Arc::new(object));
            rounds.round = 1;
            hooks::mutate(&self.hooks, call, &mut attempt, &mut rounds).await?;
        }
        Ok(owned(attempt.object))
    }

    /// Whether the chain lets the write happen; `object` is none for a deletion.
    pub(crate) async fn validate(
        &self,
        server: &Server,
        call: &mut Call,
        subject: &Subject,
        object: Option<Arc<Value>>,
    ) -> Result<(), Refusal> {
        let started = Instant::now();
        let mut judged = self.validated(server, call, subject, object.clone()).await;
        if judged.is_ok()
            && let Some(object) = &object
            && server.switches.on("ResourceQuota")
        {
            judged = quota::charge(server, call, subject, object).await;
        }
        let (operation, took) = (operation_name(subject.operation), started.elapsed());
        server
            .metrics
            .admission("validate", operation, judged.is_err(), took);
        judged
    }

    async fn validated(
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
        if self.judges(call) && self.seats.iter().any(|seat| seat.policy.validates()) {
            let review = Arc::new(review(server, call, subject, object.clone()));
            plugin::validate(&self.seats, call, review).await?;
        }
        let deletion = subject.operation == Operation::Delete && self.hooks.mutate();
        if !(self.hooks.validate() || deletion) || !hooked(call, subject) {
            return Ok(());
        }
        let mut attempt = Attempt::new(server, call, subject, object);
        if deletion {
            // Those that change objects see deletions too, though there is nothing to change.
            hooks::mutate(&self.hooks, call, &mut attempt, &mut Rounds::default()).await?;
        }
        hooks::validate(&self.hooks, call, &attempt).await
    }

    /// Hooks' part for a request whose object is of another kind than the resource: the options of a connection
    /// (exec, attach, port-forward, proxy), a binding, an eviction, a token request, a scale. Gives the object
    /// as they want it.
    pub(crate) async fn pass(
        &self,
        server: &Server,
        call: &mut Call,
        other: &Other,
        (object, old): (Value, Option<Value>),
    ) -> Result<Value, Refusal> {
        if !self.is_hooked() {
            return Ok(object);
        }
        let dry_run = call.dry_run()?;
        let (object, old) = (Some(Arc::new(object)), old.map(Arc::new));
        let mut attempt = Attempt::other(server, call, other, object, old, dry_run);
        let mut rounds = Rounds::default();
        hooks::mutate(&self.hooks, call, &mut attempt, &mut rounds).await?;
        if rounds.again {
            rounds.round = 1;
            hooks::mutate(&self.hooks, call, &mut attempt, &mut rounds).await?;
        }
        hooks::validate(&self.hooks, call, &attempt).await?;
        Ok(owned(attempt.object))
    }

    fn judges(&self, call: &Call) -> bool {
        !self.seats.is_empty() && call.resource.group != "plugins.capstan.dev"
    }
}

/// As a review and the metrics show it.
fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

/// Whether hooks see the write itself. What a binding, an eviction or a scale leads to they have seen by
/// [`Pinned::pass`] already, as the original does, and so they have a connection.
fn hooked(call: &Call, subject: &Subject) -> bool {
    let led = |name: &str| matches!(name, "binding" | "eviction" | "scale");
    !matches!(subject.operation, Operation::Connect)
        && !exempt(&call.resource)
        && !led(subject.subresource)
        && !led(&call.target.subresource)
}

fn owned(object: Option<Arc<Value>>) -> Value {
    let object = object.unwrap_or_default();
    Arc::try_unwrap(object).unwrap_or_else(|shared| (*shared).clone())
}

fn review(server: &Server, call: &Call, subject: &Subject, object: Option<Arc<Value>>) -> Review {
    let resource = &call.resource;
    let document = object.as_ref().or(subject.old.as_ref());
    let name = document
        .and_then(|document| document["metadata"]["name"].as_str())
        .unwrap_or(call.name());
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
