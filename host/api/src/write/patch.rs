//! PATCH: JSON patch, merge patch, strategic merge patch, on the object or a subresource of it; and the way
//! to server-side apply.

use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_kinds::{patch as rules, schema};
use serde_json::Value;

use super::apply::{APPLY_PATCH, apply};
use super::decode::{self, Decoded};
use super::finish;
use super::managed;
use super::update::{Update, write_update};
use crate::answer::Answer;
use crate::call::Call;
use crate::negotiate::content_type;
use crate::refusal::Refusal;
use crate::server::Server;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

/// Operations of one JSON patch at most, as in the original.
const JSON_PATCH_OPERATIONS_MAX: usize = 10_000;

/// A decoded patch.
#[derive(Debug)]
pub(crate) enum PatchBody {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

impl PatchBody {
    /// Reads the request's body by its media type.
    pub(crate) fn read(call: &mut Call) -> Result<Self, Refusal> {
        let media = content_type(&call.headers).to_owned();
        let kind: fn(Value) -> Self = match media.as_str() {
            JSON_PATCH => Self::Json,
            MERGE_PATCH => Self::Merge,
            STRATEGIC_PATCH if call.resource.merges_strategically() => Self::Strategic,
            _ => {
                let all = [JSON_PATCH, MERGE_PATCH, APPLY_PATCH, STRATEGIC_PATCH];
                let taken = if call.resource.merges_strategically() {
                    &all[..]
                } else {
                    &all[..3]
                };
                return Err(Status::unsupported_media_type(taken).into());
            }
        };
        managed::check_options(call, "PatchOptions")?;
        if call.query.get("force").is_some() {
            let problem = "force: Forbidden: may not be specified for non-apply patch";
            return Err(managed::invalid_option("PatchOptions", problem));
        }
        let Decoded { object, duplicates } = decode::decode(crate::negotiate::JSON, &call.body)?;
        if object
            .as_array()
            .is_some_and(|list| list.len() > JSON_PATCH_OPERATIONS_MAX)
        {
            let message = format!("the JSON patch has more than {JSON_PATCH_OPERATIONS_MAX} operations");
            return Err(Status::failure(413, "RequestEntityTooLarge", message).into());
        }
        for path in duplicates {
            call.warn(format!("duplicate field \"{path}\""));
        }
        Ok(kind(object))
    }

    /// Applies it to a document of a kind.
    pub(crate) fn apply(&self, api_version: &str, kind: &str, document: &mut Value) -> Result<(), Refusal> {
        let outcome = match self {
            Self::Json(patch) => rules::json(document, patch),
            Self::Merge(patch) => {
                rules::merge(document, patch);
                Ok(())
            }
            Self::Strategic(patch) => rules::strategic(schema::of(api_version, kind), document, patch),
        };
        outcome.map_err(|error| error.to_status().into())
    }
}

/// PATCH of an object or its status.
pub(crate) async fn patch(server: &Server, call: &mut Call, subresource: &'static str) -> Answer {
    if content_type(&call.headers) == APPLY_PATCH {
        return apply(server, call, subresource).await;
    }
    let body = PatchBody::read(call)?;
    let resource = call.resource.clone();
    let name = call.name().to_owned();
    let mode = call.field_validation()?;
    let unknown = std::sync::Mutex::new(Vec::new());
    let update = Update {
        subresource,
        ..Update::default()
    };
    let written = write_update(server, call, update, |old| {
        let new = patched(&resource, &body, old, &name)?;
        let fields = capstan_kinds::validate::unknown_fields(&resource, &new);
        if !fields.is_empty() && mode == crate::call::FieldValidation::Strict {
            let list: Vec<String> = fields
                .iter()
                .map(|path| format!("unknown field \"{path}\""))
                .collect();
            return Err(Status::failure(
                422,
                "Invalid",
                format!(
                    "{} \"{name}\" is invalid: patch: strict decoding error: {}",
                    resource.kind,
                    list.join(", ")
                ),
            )
            .into());
        }
        *unknown.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = fields;
        Ok(new)
    })
    .await?;
    if mode == crate::call::FieldValidation::Warn {
        for path in unknown.into_inner().unwrap_or_default() {
            call.warn(format!("unknown field \"{path}\""));
        }
    }
    finish::respond(&server.registry, call, 200, &written.stored, written.revision).await
}

fn patched(resource: &Resource, body: &PatchBody, old: &Value, name: &str) -> Result<Value, Refusal> {
    let mut new = old.clone();
    body.apply(&resource.api_version(), &resource.kind, &mut new)?;
    decode::of_kind(resource, &mut new)?;
    capstan_kinds::validate::types(resource, &new).map_err(Status::bad_request)?;
    if new["metadata"]["name"] != old["metadata"]["name"] {
        let message = format!(
            "metadata.name: Invalid value: {}: field is immutable, it is \"{name}\"",
            new["metadata"]["name"]
        );
        return Err(Status::failure(
            422,
            "Invalid",
            format!("{} \"{name}\" is invalid: {message}", resource.kind),
        )
        .into());
    }
    Ok(new)
}
