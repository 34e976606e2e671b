//! One request to a resource as the handlers see it: parsed, identified, its body read.

use std::sync::Arc;

use bytes::Bytes;
use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use http::{HeaderMap, Method};

use crate::UserInfo;
use crate::admission::Charge;
use crate::negotiate::{Form, Offer};
use crate::present::Presenter;
use crate::protobuf;
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
            views: true,
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

    pub(crate) fn dry_run(&self) -> Result<bool, Refusal> {
        match self.query.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Status::bad_request(format!(
                "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
            ))
            .into()),
        }
    }

    pub(crate) fn field_validation(&self) -> Result<FieldValidation, Refusal> {
        match self.query.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => Err(Status::bad_request(format!(
                "fieldValidation: Unsupported value: \"{other}\": supported values: \"Ignore\", \"Strict\", \"Warn\""
            ))
            .into()),
        }
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }
}
