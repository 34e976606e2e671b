//! The built-in entries: what the original's admission plugins that are on by default do, a module for each.
//!
//! Mechanism alone stands here (lives of namespaces, identities, bookkeeping, defaults that other parts rely
//! on); matters of opinion are components. Names are the original's, and each entry can be switched off by its
//! name, as with `--disable-admission-plugins`. Order is the original's. Called by the chain. Not here: the
//! quota, which comes after everything else.

mod certificates;
mod classes;
mod limit_range;
mod namespace;
mod node_restriction;
mod pod_defaults;
mod priority;
mod runtime_class;
mod service_account;
mod storage;

use std::collections::HashSet;

use capstan_kinds::status::Status;
use capstan_points::admission::Operation;
use serde_json::Value;

use super::Subject;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;

pub(super) use node_restriction::token_request;

/// Which entries are switched off.
#[derive(Debug, Default)]
pub(crate) struct Switches(HashSet<String>);

impl Switches {
    pub(crate) fn new(off: Vec<String>) -> Self {
        Self(off.into_iter().collect())
    }

    pub(crate) fn on(&self, name: &str) -> bool {
        !self.0.contains(name)
    }
}

/// What one entry is asked about.
struct Asked<'a> {
    server: &'a Server,
    call: &'a Call,
    subject: &'a Subject,
}

impl Asked<'_> {
    fn is(&self, group: &str, plural: &str, operation: Operation, subresource: &str) -> bool {
        let resource = &self.call.resource;
        resource.group == group
            && resource.plural == plural
            && self.subject.operation == operation
            && self.subject.subresource == subresource
    }

    fn creates(&self, group: &str, plural: &str) -> bool {
        self.is(group, plural, Operation::Create, "")
    }

    fn updates(&self, group: &str, plural: &str) -> bool {
        self.is(group, plural, Operation::Update, "")
    }

    /// The entry's refusal, about the object.
    fn forbid(&self, object: &Value, why: &str) -> Refusal {
        forbidden(self.call, object, why)
    }
}

/// An admission entry's refusal: about the request's object, or the one that is made under a name to come.
pub(super) fn forbidden(call: &Call, object: &Value, why: &str) -> Refusal {
    let metadata = &object["metadata"];
    let own = [&metadata["name"], &metadata["generateName"]];
    let mut names = std::iter::once(call.name()).chain(own.into_iter().filter_map(Value::as_str));
    let name = names.find(|name| !name.is_empty()).unwrap_or("Unknown");
    Status::forbidden(&call.resource, name, why).into()
}

/// What an object's field says, or nothing.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list's elements; none where it is no list.
fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(super) async fn mutate(
    server: &Server,
    call: &Call,
    subject: &Subject,
    object: &mut Value,
) -> Result<(), Refusal> {
    let asked = Asked {
        server,
        call,
        subject,
    };
    let on = |name: &str| server.switches.on(name);
    if on("NamespaceLifecycle") {
        namespace::lives(&asked, object).await?;
    }
    if on("LimitRanger") {
        limit_range::default(&asked, object);
    }
    if on("ServiceAccount") {
        service_account::admit(&asked, object).await?;
    }
    if on("TaintNodesByCondition") && asked.creates("", "nodes") {
        pod_defaults::taint(object);
    }
    if on("Priority") {
        priority::admit(&asked, object)?;
    }
    if on("DefaultTolerationSeconds") {
        pod_defaults::tolerations(&asked, object);
    }
    if on("DefaultStorageClass") {
        classes::storage(&asked, object);
    }
    if on("StorageObjectInUseProtection") {
        storage::protect(&asked, object);
    }
    if on("RuntimeClass") {
        runtime_class::admit(&asked, object)?;
    }
    if on("DefaultIngressClass") {
        classes::ingress(&asked, object);
    }
    Ok(())
}

type ObjectCheck = fn(&Asked<'_>, &Value) -> Result<(), Refusal>;

/// What looks at an object that is to be written, in the order in which it does.
const OBJECT_CHECKS: [(&str, ObjectCheck); 7] = [
    ("LimitRanger", limit_range::validate),
    ("Priority", priority::validate),
    ("PersistentVolumeClaimResize", storage::resize),
    ("RuntimeClass", runtime_class::validate),
    ("CertificateApproval", certificates::approval),
    ("CertificateSigning", certificates::signing),
    ("CertificateSubjectRestriction", certificates::subject),
];

/// `object` is none for a deletion.
pub(super) fn validate(
    server: &Server,
    call: &Call,
    subject: &Subject,
    object: Option<&Value>,
) -> Result<(), Refusal> {
    let asked = Asked {
        server,
        call,
        subject,
    };
    let on = |name: &str| server.switches.on(name);
    if on("NamespaceLifecycle") {
        namespace::stays(&asked)?;
    }
    if on("NodeRestriction") {
        node_restriction::validate(&asked, object)?;
    }
    let Some(object) = object else {
        return Ok(());
    };
    for (name, check) in OBJECT_CHECKS {
        if on(name) {
            check(&asked, object)?;
        }
    }
    Ok(())
}
