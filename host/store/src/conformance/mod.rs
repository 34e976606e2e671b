//! What every [`Store`] must do: the suite that each implementation runs.
//!
//! Called from tests with a way to open stores; a case uses keys of its own and revisions relative to its
//! first write, so it also runs on a store that others use. It panics where an expectation is not met.
//! Durability and speed are not here.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod leases;
mod queries;
mod ranges;
mod transactions;
mod watches;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{KeyRange, RangeRequest, Revision, Store, Watch, WatchMessage};

/// How long a case waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every case, each on a store of its own.
pub async fn run<Open, Opened>(open: Open)
where
    Open: Fn() -> Opened,
    Opened: Future<Output = Arc<dyn Store>>,
{
    run_except(&[], open).await;
}

/// Runs every case but those that a foreign store is known to fail.
pub async fn run_except<Open, Opened>(known_to_fail: &[&str], open: Open)
where
    Open: Fn() -> Opened,
    Opened: Future<Output = Arc<dyn Store>>,
{
    macro_rules! cases {
        ($($module:ident :: $case:ident),* $(,)?) => {$(
            if !known_to_fail.contains(&stringify!($case)) {
                let case = Case { store: open().await, prefix: concat!("/", stringify!($case), "/") };
                $module::$case(&case).await;
            }
        )*};
    }
    cases![
        ranges::revisions_and_versions_count_up,
        ranges::old_revisions_are_answered,
        ranges::limits_and_counts,
        ranges::spans,
        ranges::many_keys,
        ranges::compaction,
        ranges::compaction_keeps_what_is_current,
        ranges::values_of_all_sizes,
        queries::order,
        queries::bounds_on_revisions,
        queries::options_in_transactions,
        queries::pages,
        transactions::compare_targets,
        transactions::compare_of_missing_keys_and_ranges,
        transactions::one_revision_for_all_writes,
        transactions::reads_see_earlier_writes,
        transactions::nested,
        transactions::refused_ones_change_nothing,
        transactions::nested_ones_share_the_bound_on_operations,
        transactions::put_options,
        transactions::deletes,
        transactions::conditional_writers_exclude_one_another,
        watches::from_now,
        watches::from_the_past,
        watches::from_a_compacted_revision,
        watches::from_the_compact_revision_sees_its_delete,
        watches::from_a_future_revision,
        watches::a_revision_is_not_split,
        watches::previous_values,
        watches::ranges,
        watches::a_slow_watcher_misses_nothing,
        watches::progress,
        watches::progress_on_request,
        watches::progress_never_overtakes_events,
        leases::grant_and_revoke,
        leases::listing_and_bounds,
        leases::expiry_deletes_the_keys,
        leases::keep_alive,
        leases::keys_move_between_leases,
    ];
}

/// A store and the keys that a case may use.
struct Case {
    store: Arc<dyn Store>,
    prefix: &'static str,
}

impl Case {
    fn key(&self, name: &str) -> Bytes {
        format!("{}{name}", self.prefix).into()
    }

    fn all(&self) -> KeyRange {
        KeyRange::Prefix(self.prefix.into())
    }

    /// Writes a key and returns the revision.
    async fn put(&self, name: &str, value: &str) -> Revision {
        let put = crate::Put::new(self.key(name), value.to_owned());
        self.store.put(put).await.unwrap().0
    }

    async fn delete(&self, name: &str) -> Revision {
        self.store
            .delete(KeyRange::Key(self.key(name)), false)
            .await
            .unwrap()
            .0
    }

    /// A key's value at a revision; 0 is now.
    async fn value(&self, name: &str, revision: Revision) -> Option<Bytes> {
        let request = RangeRequest {
            revision,
            ..RangeRequest::key(self.key(name))
        };
        let answer = self.store.range(request).await.unwrap();
        answer.kvs.into_iter().next().map(|kv| kv.value)
    }

    /// The names and values of all keys.
    async fn content(&self) -> Vec<(String, String)> {
        let answer = self.store.range(RangeRequest::new(self.all())).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let pairs = answer.kvs.iter();
        pairs
            .map(|kv| (text(&kv.key[self.prefix.len()..]), text(&kv.value)))
            .collect()
    }
}

/// The next message, or a panic when none comes.
async fn next(watch: &mut Watch) -> WatchMessage {
    let message = tokio::time::timeout(PATIENCE, watch.messages.recv()).await;
    message
        .expect("a message must come")
        .expect("the watch must not end")
}
