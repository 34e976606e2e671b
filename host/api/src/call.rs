//! One request to a resource as the handlers see it: parsed, identified, its body read.

use std::sync::Arc;

use bytes::Bytes;
use capstan_kinds::resource::Resource;
use capstan_kinds::validate::FieldError;
use http::{HeaderMap, Method};

use crate::UserInfo;
use crate::admission::Charge;
use crate::audit::Trail;
use crate::negotiate::{Form, Offer};
use crate::present::Presenter;
use crate::protobuf;
use crate::read;
use crate::refusal::Refusal;
use crate::request::{Query, Target};

/// See the module.
pub(crate) struct Call {
    pub method: Method,
    pub headers: HeaderMap,
    pub user: Arc<UserInfo>,
    pub target: Target,
    pub query: Query,
    pub resource: Arc<Resource>,
    pub body: Bytes,
    /// Shown to the client whatever the outcome.
    pub warnings: Vec<String>,
    /// What the audit is told, where it is.
    pub trail: Option<Arc<Trail>>,
    /// What the write has taken from quotas so far.
    pub charges: Vec<Charge>,
}

/// What becomes of fields that the schema does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl Call {
    pub(crate) fn namespace(&self) -> &str {
        if self.resource.namespaced {
            &self.target.namespace
        } else {
            ""
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.target.name
    }

    pub(crate) fn form(&self) -> Result<Form, Refusal> {
        let (api_version, kind) = (self.resource.api_version(), &self.resource.kind);
        let offer = Offer {
            protobuf: protobuf::has(&api_version, kind),
            watch: self.target.verb == "watch",
            // A review, a binding: there is nothing to list.
            views: self.resource.is_stored() || self.resource.plural == "componentstatuses",
        };
        Form::accepted(&self.headers, offer)
    }

    pub(crate) fn presenter(&self) -> Result<Presenter, Refusal> {
        Ok(Presenter::new(
            self.resource.clone(),
            self.form()?,
            self.query.get("includeObject"),
        ))
    }

    /// The kind of the request's options, as refusals of them name it.
    fn options_kind(&self) -> &'static str {
        match self.target.verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            _ => "DeleteOptions",
        }
    }

    pub(crate) fn dry_run(&self) -> Result<bool, Refusal> {
        let values = read::dry_run_values(&self.query);
        match read::dry_run_error(&values) {
            None => Ok(!values.is_empty()),
            Some(error) => Err(read::invalid_options(self.options_kind(), vec![error])),
        }
    }

    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Refusal> {
        match self.query.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => {
                let known = ["", "Ignore", "Strict", "Warn"];
                let error = FieldError::not_supported("fieldValidation", other, &known);
                Err(read::invalid_options(self.options_kind(), vec![error]))
            }
        }
    }

    /// Adds an annotation to the request's audit event; the first value of a key stays.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        if let Some(trail) = &self.trail {
            trail.annotate(key, value);
        }
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }
}
