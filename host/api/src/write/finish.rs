//! The last steps of every write: checks of size and form, and the answer.

use capstan_kinds::status::Status;
use capstan_store::Revision;
use http::Response;
use serde_json::Value;

use crate::answer;
use crate::body::Body;
use crate::call::Call;
use crate::negotiate::View;
use crate::refusal::Refusal;
use crate::registry::{Entry, canonical, splice};

/// Bytes of one stored object at most (etcd's own default for a request).
const OBJECT_BYTES_MAX: usize = 1_500_000;

/// The stored form.
pub(super) fn encode(object: Value) -> Result<Vec<u8>, Refusal> {
    let Some(bytes) = canonical(object) else {
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
pub(super) fn respond(
    call: &Call,
    code: u16,
    stored: &[u8],
    revision: Revision,
) -> Result<Response<Body>, Refusal> {
    let presenter = call.presenter()?;
    let plain = presenter.form.view == View::Object;
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
        &presenter.content_type(),
        json,
    ))
}
