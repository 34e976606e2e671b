//! Subresources: what is not a plain read or write of a whole object.
//!
//! The general ones (status, scale) come by table; binding, eviction, finalize, token and log are the few
//! that a kind has for itself. What is connected through (exec, proxy, …) is in `connect`.

mod binding;
mod eviction;
mod log;
mod scale;
mod token;

use std::sync::Arc;

use capstan_kinds::status::Status;

use crate::answer::Answer;
use crate::call::Call;
use crate::server::Server;
use crate::{read, write};

pub(crate) use binding::bind;
pub(crate) use log::read as log;
pub(crate) use scale::VIEW as SCALE_VIEW;

/// A request to a subresource; its verb is served, by the table.
pub(crate) async fn answer(server: &Arc<Server>, call: &mut Call) -> Answer {
    let subresource = call.target.subresource.clone();
    match (subresource.as_str(), call.target.verb) {
        ("scale", _) => scale::answer(server, call).await,
        ("status" | "approval" | "resize" | "ephemeralcontainers", "get") => {
            read::get(&server.registry, call).await
        }
        ("status", "update") => write::update(server, call, "status").await,
        ("status", "patch") => write::patch(server, call, "status").await,
        ("ephemeralcontainers", "update") => write::update(server, call, "ephemeralcontainers").await,
        ("ephemeralcontainers", "patch") => write::patch(server, call, "ephemeralcontainers").await,
        ("resize", "update") => write::update(server, call, "resize").await,
        ("resize", "patch") => write::patch(server, call, "resize").await,
        ("approval", "update") => write::update(server, call, "approval").await,
        ("approval", "patch") => write::patch(server, call, "approval").await,
        ("finalize", "update") => write::finalize(server, call).await,
        ("binding", "create") => bind(server, call).await,
        ("eviction", "create") => eviction::evict(server, call).await,
        ("token", "create") => token::issue(server, call).await,
        ("log", "get") => log::read(server, call).await,
        _ => {
            let message = format!(
                "{} of {}/{subresource} is not supported yet",
                call.target.verb, call.resource.plural
            );
            Err(Status::failure(501, "NotImplemented", message).into())
        }
    }
}
