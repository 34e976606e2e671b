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
use capstan_points::admission::Operation;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::json;

use crate::admission::Other;
use crate::answer::Answer;
use crate::call::Call;
use crate::refusal::Refusal;
use crate::server::Server;
use crate::{negotiate, read, write};

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
        ("token", "create") => {
            token_is_judged(server, call).await?;
            token::issue(server, call).await
        }
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

/// Lets hooks of admission judge and change the request for a token.
async fn token_is_judged(server: &Server, call: &mut Call) -> Result<(), Refusal> {
    let chain = server.admission.pin();
    if !chain.is_hooked() {
        return Ok(());
    }
    let media = negotiate::content_type(&call.headers);
    let mut object = write::decode(media, &call.body)?.object;
    object["apiVersion"] = json!("authentication.k8s.io/v1");
    object["kind"] = json!("TokenRequest");
    let other = Other {
        operation: Operation::Create,
        subresource: "token".to_owned(),
        kind: (
            "authentication.k8s.io".to_owned(),
            "v1".to_owned(),
            "TokenRequest".to_owned(),
        ),
    };
    let wanted = chain.pass(server, call, &other, (object, None)).await?;
    call.body = wanted.to_string().into();
    let json = HeaderValue::from_static(negotiate::JSON);
    call.headers.insert(CONTENT_TYPE, json);
    Ok(())
}
