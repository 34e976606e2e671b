//! GET of one object.

use capstan_kinds::status::Status;

use crate::answer::{self, Answer};
use crate::call::Call;
use crate::conversion;
use crate::registry::Registry;

use super::options::revision;

pub(crate) async fn get(registry: &Registry, call: &Call) -> Answer {
    let presenter = call.presenter()?;
    match revision(call.query.get("resourceVersion").unwrap_or_default())? {
        Some(0) => {}
        Some(revision) => {
            registry.reach(revision).await?;
        }
        None => {
            registry.newest().await?;
        }
    }
    let Some(entry) = registry.cached(&call.resource, call.namespace(), call.name()) else {
        return Err(Status::not_found(&call.resource, call.name()).into());
    };
    let entry = conversion::entry(registry, &call.resource, entry).await?;
    Ok(answer::bytes(
        200,
        presenter.form,
        presenter.content_type(),
        presenter.single(&entry),
    ))
}
