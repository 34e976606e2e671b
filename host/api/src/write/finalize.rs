//! PUT of `namespaces/X/finalize`: the only way to change a namespace's own finalizers. When the last is
//! gone from a namespace that is being deleted, so is the namespace.

use super::update::{Update, write_update};
use super::{decode, finish};
use crate::answer::Answer;
use crate::call::Call;
use crate::server::Server;

pub(crate) async fn finalize(server: &Server, call: &mut Call) -> Answer {
    let object = decode::object(call)?;
    let update = Update {
        subresource: "finalize",
        ..Update::default()
    };
    let written = write_update(server, call, update, |old| {
        let mut new = old.clone();
        new["spec"]["finalizers"] = object["spec"]["finalizers"].clone();
        new["metadata"]["resourceVersion"] = object["metadata"]["resourceVersion"].clone();
        Ok(new)
    })
    .await?;
    finish::respond(&server.registry, call, 200, &written.stored, written.revision).await
}
