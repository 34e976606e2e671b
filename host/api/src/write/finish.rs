//! The last steps of every write: checks of size and form, and the answer.

use capstan_kinds::resource::Resource;
use capstan_kinds::status::Status;
use capstan_store::Revision;
use http::Response;
use serde_json::Value;

use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::conversion;
use crate::negotiate::View;
use crate::refusal::Refusal;
use crate::registry::{Entry, Registry, canonical, splice};

/// Bytes of one stored object at most (etcd's own default for a request).
const OBJECT_BYTES_MAX: usize = 1_500_000;

/// The stored form.
pub(crate) async fn encode(
    registry: &Registry,
    resource: &Resource,
    object: Value,
) -> Result<Vec<u8>, Refusal> {
    let Some(bytes) = canonical(conversion::to_storage(registry, resource, object).await?) else {
        return Err(Status::internal("an object without metadata reached the store").into());
    };
    if bytes.len() > OBJECT_BYTES_MAX {
        let message = format!(
            "the object has {} bytes; the limit is {OBJECT_BYTES_MAX}",
            bytes.len()
        );
        return Err(Status::failure(413, "RequestEntityTooLarge", message).into());
    }
    Ok(bytes)
}

/// Answers with an object as it was stored at `revision` (0: not stored, the dry run of a create).
pub(super) async fn respond(
    registry: &Registry,
    call: &Call,
    code: u16,
    stored: &[u8],
    revision: Revision,
) -> Result<Response<Body>, Refusal> {
    let presenter = call.presenter()?;
    let plain = presenter.form.view == View::Object;
    let own_version;
    let stored = match &call.resource.custom {
        Some(_) => {
            own_version = in_version(registry, &call.resource, stored).await?;
            own_version.as_slice()
        }
        None => stored,
    };
    let json = match (plain, revision) {
        (true, 0) => stored.to_vec().into(),
        (true, _) => splice(stored, revision).ok_or_else(|| Status::internal("an object lost its form"))?,
        (false, _) => {
            let entry = Entry::read(Some(&call.resource), stored, revision);
            presenter.single(&entry.ok_or_else(|| Status::internal("an object lost its form"))?)
        }
    };
    Ok(answer::bytes(
        code,
        presenter.form,
        presenter.content_type(),
        json,
    ))
}

/// A stored custom object in the request's version.
async fn in_version(registry: &Registry, resource: &Resource, stored: &[u8]) -> Result<Vec<u8>, Refusal> {
    let object = serde_json::from_slice(stored).map_err(Status::internal)?;
    canonical(conversion::to_version(registry, resource, object).await?)
        .ok_or_else(|| Status::internal("an object lost its form").into())
}
