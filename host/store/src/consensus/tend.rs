//! What goes on beside requests: a member that started makes its name and URLs known; the leader finishes
//! changes of membership.

use std::sync::Arc;
use std::time::Duration;

use openraft::type_config::async_runtime::watch::WatchReceiver;

use super::raft::{Core, Repeat};
use crate::PeerCallKind;
use crate::cluster::message::{Change, Changed};

/// The pause between two looks while there is something to do.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause after a publication that failed.
const PUBLISH_PAUSE: Duration = Duration::from_secs(1);

/// Runs until Raft stops.
pub(super) async fn run(core: Arc<Core>) {
    tokio::join!(publish(&core), finish(&core));
}

async fn publish(core: &Arc<Core>) {
    let (name, client_urls) = core.attributes.clone();
    let change = Change::Publish {
        id: core.own_id,
        name,
        client_urls,
    };
    let is_published = || {
        let members = core.progress.members();
        let Change::Publish {
            id,
            name,
            client_urls,
        } = &change
        else {
            return true;
        };
        members
            .iter()
            .any(|member| member.id == *id && member.name == *name && member.client_urls == *client_urls)
    };
    let mut changes = core.progress.watch_members();
    while !is_published() {
        // Nobody can publish what is not a member here yet.
        if !core
            .progress
            .members()
            .iter()
            .any(|member| member.id == core.own_id)
        {
            if changes.changed().await.is_err() {
                return;
            }
            continue;
        }
        let here = || {
            let (core, change) = (core.clone(), change.clone());
            async move { core.change_in_time(change).await }
        };
        let published =
            core.at_leader::<Changed, _, _>(PeerCallKind::Reconfigure, &change, Repeat::Freely, here);
        match published.await {
            Ok(_) => return,
            Err(error) => {
                tracing::debug!(%error, "making this member's name known");
                tokio::time::sleep(PUBLISH_PAUSE).await;
            }
        }
    }
}

async fn finish(core: &Arc<Core>) {
    let mut server = core.raft.server_metrics();
    let mut leading = core.leading.subscribe();
    loop {
        let leads = leading.borrow_and_update().is_some();
        server.borrow_and_update();
        let has_more = leads && core.finish_changes().await;
        tokio::select! {
            changed = WatchReceiver::changed(&mut server) => if changed.is_err() { return },
            changed = leading.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(PAUSE), if has_more => {}
        }
    }
}
