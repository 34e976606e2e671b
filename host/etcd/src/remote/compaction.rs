//! The compacted revision, which etcd tells to a watcher alone: errors and status leave it out.

use std::time::Duration;

use bytes::Bytes;
use capstan_store::{Error, KeyRange, RangeRequest, Result, Revision, WatchMessage, WatchRequest};

use super::watch::Watches;
use super::{RemoteStore, wire};

/// How long a watcher may take to be told.
const TOLD_BOUND: Duration = Duration::from_secs(3);
/// A key that nobody writes.
pub(super) const NO_KEY: Bytes = Bytes::from_static(b"\0");

/// The compacted revision, asked about a revision that is below it; 0 when nobody tells.
pub(super) async fn revision(watches: &Watches, range: &KeyRange, below: Revision) -> Revision {
    let request = WatchRequest {
        range: range.clone(),
        start_revision: below.max(1),
        prev_kv: false,
        progress_notify: false,
    };
    let told = tokio::time::timeout(TOLD_BOUND, async {
        let mut watch = watches.watch(request).await.ok()?;
        match watch.messages.recv().await? {
            WatchMessage::Compacted { compact_revision } => Some(compact_revision),
            _ => None,
        }
    });
    told.await.ok().flatten().unwrap_or(0)
}

/// The compacted revision; 0 when there is none.
pub(super) async fn current(store: &RemoteStore) -> Result<Revision> {
    let range = KeyRange::Key(NO_KEY);
    let first = RangeRequest {
        revision: 1,
        count_only: true,
        ..RangeRequest::new(range.clone())
    };
    match store.range_once(wire::range(&first)).await {
        Ok(_) => Ok(0),
        Err(Error::Compacted { .. }) => Ok(revision(&store.watches, &range, 1).await),
        Err(Error::Refused(capstan_store::Refusal::PermissionDenied)) => Ok(0),
        Err(error) => Err(error),
    }
}
