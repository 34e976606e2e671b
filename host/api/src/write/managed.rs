//! Who writes: the manager's name in a request, and the tracking of every write that is no apply.
//!
//! The rules are `capstan_kinds::apply`'s; here is what they need of a request, and what the chain of
//! admission may not do to `metadata.managedFields`.

use capstan_kinds::apply::{self, Reset, Writer};
use capstan_kinds::status::Status;
use http::header::USER_AGENT;
use serde_json::Value;

use crate::call::Call;
use crate::refusal::Refusal;
use crate::time;

/// What a write means for the managers of the object's fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Track {
    /// What it changes is the writer's, through the subresource of the request.
    #[default]
    Write,
    /// As before, through another subresource than the one whose rules it follows.
    Through(&'static str),
    /// It is the server's own: managers stay as they are.
    Nothing,
    /// They are in the object already, by apply.
    Applied,
}

/// Checks the options that every write has; `kind` such as `CreateOptions`.
pub(super) fn check_options(call: &Call, kind: &str) -> Result<(), Refusal> {
    match apply::name_problem(call.query.get("fieldManager").unwrap_or_default()) {
        Ok(()) => Ok(()),
        Err(problem) => Err(invalid_option(kind, &format!("fieldManager: {problem}"))),
    }
}

pub(super) fn invalid_option(kind: &str, problem: &str) -> Refusal {
    Status::failure(
        422,
        "Invalid",
        format!("{kind}.meta.k8s.io \"\" is invalid: {problem}"),
    )
    .into()
}

/// The manager that the request names, or else the client's program.
pub(super) fn manager(call: &Call) -> String {
    match call.query.get("fieldManager") {
        Some(name) => name.to_owned(),
        None => {
            let agent = call.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
            apply::name_of_agent(agent.unwrap_or_default())
        }
    }
}

/// Records what the write changes as the writer's.
pub(super) fn track(call: &Call, subresource: &str, live: Option<&Value>, new: &mut Value) {
    let resource = &*call.resource;
    let (manager, api_version, now) = (manager(call), resource.api_version(), time::now());
    let reset = Reset::of(resource, subresource);
    let writer = Writer {
        manager: &manager,
        api_version: &api_version,
        subresource,
        now: &now,
        reset: &reset,
    };
    apply::update(resource, &writer, live, new);
}

/// The list of managers before the chain of admission, which may not spoil it.
pub(super) struct Guard(Option<Value>);

impl Guard {
    /// Remembers the list where somebody may change it.
    pub(super) fn new(may_change: bool, object: &Value) -> Self {
        Self(may_change.then(|| object["metadata"]["managedFields"].clone()))
    }

    /// Puts the list back where it makes no sense any more.
    pub(super) fn check(self, call: &mut Call, object: &mut Value) {
        let Some(before) = self.0 else { return };
        let Some(problem) = apply::problem(object.pointer("/metadata/managedFields")) else {
            return;
        };
        call.warn(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
             mutating admission controller; please fix your requests: {problem}"
        ));
        if let Some(metadata) = object["metadata"].as_object_mut() {
            match before {
                Value::Null => metadata.remove("managedFields"),
                before => metadata.insert("managedFields".to_owned(), before),
            };
        }
    }
}
