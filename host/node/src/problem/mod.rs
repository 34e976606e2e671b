//! The host of problem daemons: one runner for each seat whose daemon is for this node.
//!
//! A runner reads its sources itself, so the file or the kernel's ring is the queue: a slow daemon slows its own
//! reading and nothing else, and what falls out of the bound is counted. A swap changes who is asked between
//! two calls; places in files stay. A daemon that is unseated takes its conditions with it: they are removed
//! from the node, since nobody is left to clear them.

mod condition;
mod glob;
mod kmsg;
mod runner;
mod sample;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_client::Informer;
use capstan_points::problem::Daemon;
use capstan_points::{Seat, Seats};
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::runtime::watcher;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::context::Node;
use runner::Runner;

/// Longest wait for the node's own object.
const FIRST_LIST_MAX: Duration = Duration::from_secs(30);

/// Who sits on one runner's seat; `None` when the plugin left.
pub(crate) type Sitter = watch::Receiver<Option<Seat<dyn Daemon>>>;

/// Runs all seated daemons that are for this node, for ever.
pub(crate) async fn run(node: Arc<Node>, mut seats: Seats<dyn Daemon>) {
    let own = watcher::Config::default().fields(&format!("metadata.name={}", node.name));
    let own = Informer::<core::Node>::start(Api::all(node.client.clone()), own);
    if let Err(error) = own.synced(FIRST_LIST_MAX).await {
        tracing::warn!(%error, "problem daemons start without the node's labels");
    }
    let mut labels_changed = own.changes();
    let mut runners: BTreeMap<String, watch::Sender<Option<Seat<dyn Daemon>>>> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let labels = own
            .get(None, &node.name)
            .and_then(|node| node.metadata.labels.clone())
            .unwrap_or_default();
        let row = Arc::clone(&seats.borrow_and_update());
        let wanted: BTreeMap<&str, &Seat<dyn Daemon>> = row
            .iter()
            .filter(|seat| seat.policy.selects(&labels))
            .map(|seat| (seat.plugin.as_str(), seat))
            .collect();
        runners.retain(|plugin, sitter| {
            let stays = wanted.contains_key(plugin.as_str());
            if !stays {
                sitter.send_replace(None);
            }
            stays
        });
        for (plugin, seat) in wanted {
            match runners.get(plugin) {
                Some(sitter) => {
                    sitter.send_if_modified(|sitting| {
                        let same = sitting
                            .as_ref()
                            .is_some_and(|known| known.revision == seat.revision);
                        *sitting = Some(seat.clone());
                        !same
                    });
                }
                None => {
                    let (sitter, sitting) = watch::channel(Some(seat.clone()));
                    let runner = Runner::new(Arc::clone(&node), own.clone(), plugin.to_owned(), sitting);
                    tasks.spawn(runner.run());
                    runners.insert(plugin.to_owned(), sitter);
                }
            }
        }
        tokio::select! {
            changed = seats.changed() => if changed.is_err() {
                // Nobody can change the row any more; labels still may.
                if labels_changed.changed().await.is_err() {
                    return;
                }
            },
            changed = labels_changed.changed() => if changed.is_err() {
                return;
            },
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a problem daemon's runner failed");
            },
        }
    }
}
