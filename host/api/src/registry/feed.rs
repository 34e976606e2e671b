//! The feed: one watch of the whole store that keeps every kind's cache level.
//!
//! It starts from a full read, then follows events revision by revision. When the watch ends (compaction,
//! overload, a store that restarts) it reads everything again and resets the caches, which cuts off their
//! watchers; clients list again. Keys outside the registry's root only move the revision on. A definition of a custom
//! kind changes the table of resources before the objects that follow it are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use capstan_store::{Event, KeyRange, KeyValue, RangeRequest, Result, Revision, WatchMessage, WatchRequest};

use super::{Entry, KindCache, Registry, keys};

/// Keys read in one request while filling.
const FILL_PAGE: usize = 1000;
/// The kind whose objects define custom kinds.
pub(super) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// Pause before trying again after the store refused.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

type Objects = BTreeMap<Arc<str>, Arc<Entry>>;
/// Keys with what stands there now.
type Changes = Vec<(Arc<str>, Option<Entry>)>;

impl Registry {
    /// Reads the whole registry at one revision into the caches, and the table of custom kinds with it.
    pub(super) async fn fill(&self) -> Result<Revision> {
        let mut definitions = Vec::new();
        let revision = self
            .each(&format!("{}{DEFINITIONS}", keys::ROOT), 0, |kv| {
                let named = keys::split(&kv.key).zip(serde_json::from_slice(&kv.value).ok());
                definitions.extend(named.map(|((_, name), definition)| (name.to_owned(), definition)));
            })
            .await?;
        self.table.define_all(definitions);
        let mut kinds = HashMap::new();
        self.each(keys::ROOT.trim_end_matches('/'), revision, |kv| {
            self.sort_in(&mut kinds, &kv)
        })
        .await?;
        self.replace_all(kinds, revision);
        Ok(revision)
    }

    /// Visits everything below a key as it was at a revision (0: now); gives the revision.
    async fn each(
        &self,
        below: &str,
        mut revision: Revision,
        mut visit: impl FnMut(KeyValue),
    ) -> Result<Revision> {
        let mut from = format!("{below}/").into_bytes();
        // '/' + 1 is '0'.
        let end = format!("{below}0").into_bytes();
        loop {
            let range = KeyRange::Span(from.clone().into(), end.clone().into());
            let request = RangeRequest {
                revision,
                limit: FILL_PAGE,
                ..RangeRequest::new(range)
            };
            let page = self.store.range(request).await?;
            revision = if revision == 0 { page.revision } else { revision };
            let last = page.kvs.last().map(|kv| kv.key.clone());
            for kv in page.kvs {
                visit(self.opened(kv)?.0);
            }
            match last {
                Some(last) if page.more => {
                    from = last.to_vec();
                    from.push(0);
                }
                _ => return Ok(revision),
            }
        }
    }

    fn sort_in(&self, kinds: &mut HashMap<String, Objects>, kv: &KeyValue) {
        let Some((kind, key)) = keys::split(&kv.key) else {
            return;
        };
        let resource = self.table.stored(kind);
        match Entry::read(resource.as_deref(), &kv.value, kv.mod_revision) {
            Some(entry) => {
                let objects = kinds.entry(kind.to_owned()).or_default();
                objects.insert(key.into(), Arc::new(entry));
            }
            None => tracing::warn!(key = %String::from_utf8_lossy(&kv.key), "unreadable object skipped"),
        }
    }

    /// Reads a kind's objects again, because what they mean has changed; its watchers are cut off.
    async fn reread(&self, kind: &str, revision: Revision) -> Result<()> {
        let mut kinds = HashMap::new();
        self.each(&format!("{}{kind}", keys::ROOT), revision, |kv| {
            self.sort_in(&mut kinds, &kv)
        })
        .await?;
        let objects = kinds.remove(kind).unwrap_or_default();
        self.cache_of(kind).reset(objects, revision);
        Ok(())
    }

    fn replace_all(&self, mut kinds: HashMap<String, Objects>, revision: Revision) {
        let mut caches = self.caches.write().unwrap_or_else(PoisonError::into_inner);
        for (kind, cache) in caches.iter() {
            cache.reset(kinds.remove(kind).unwrap_or_default(), revision);
        }
        for (kind, objects) in kinds {
            caches.insert(kind, Arc::new(KindCache::new(objects, revision)));
        }
        drop(caches);
        self.applied.send_replace(revision);
    }

    /// Follows the store for ever.
    pub(super) async fn follow(self: Arc<Self>, mut revision: Revision) {
        loop {
            if let Err(reason) = self.follow_once(revision).await {
                tracing::warn!(
                    reason,
                    "the feed of the watch caches broke off; reading everything again"
                );
            }
            revision = loop {
                match self.fill().await {
                    Ok(revision) => break revision,
                    Err(error) => {
                        tracing::error!(%error, "cannot read the store");
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            };
        }
    }

    async fn follow_once(&self, revision: Revision) -> Result<(), String> {
        let range = KeyRange::Prefix(Default::default());
        let request = WatchRequest {
            range,
            start_revision: revision + 1,
            prev_kv: false,
            progress_notify: true,
        };
        let mut watch = self
            .store
            .watch(request)
            .await
            .map_err(|error| error.to_string())?;
        while let Some(message) = watch.messages.recv().await {
            match message {
                WatchMessage::Events { revision, events } => {
                    for kind in self.absorb(events) {
                        let reread = self.reread(&kind, revision).await;
                        reread.map_err(|error| error.to_string())?;
                    }
                    self.advance(revision);
                }
                WatchMessage::Progress { revision } => self.advance(revision),
                WatchMessage::Compacted { compact_revision } => {
                    return Err(format!("compacted at {compact_revision}"));
                }
                WatchMessage::Cancelled { reason } => return Err(reason),
            }
        }
        Err("the store closed the watch".into())
    }

    /// Applies the events of one or more whole revisions. Gives the kinds whose objects must be read again.
    fn absorb(&self, events: Vec<Event>) -> Vec<String> {
        let mut by_kind: Vec<(Revision, String, Changes)> = Vec::new();
        let mut stale = Vec::new();
        for event in events {
            let kv = event.kv();
            let Some((kind, key)) = keys::split(&kv.key) else {
                continue;
            };
            let after = match &event {
                Event::Put { kv, .. } => {
                    let resource = self.table.stored(kind);
                    let kv = match self.opened(kv.clone()) {
                        Ok((kv, _)) => kv,
                        Err(error) => {
                            tracing::error!(%error, "an object that cannot be read is not shown");
                            continue;
                        }
                    };
                    let Some(entry) = Entry::read(resource.as_deref(), &kv.value, kv.mod_revision) else {
                        tracing::warn!(key = %String::from_utf8_lossy(&kv.key), "unreadable object skipped");
                        continue;
                    };
                    Some(entry)
                }
                Event::Delete { .. } => None,
            };
            if kind == DEFINITIONS {
                let definition = after.as_ref().map(Entry::decode);
                stale.extend(self.table.define(key, definition.as_ref()));
            }
            let change = (Arc::from(key), after);
            match by_kind
                .iter_mut()
                .find(|(revision, k, _)| *revision == kv.mod_revision && k == kind)
            {
                Some((_, _, changes)) => changes.push(change),
                None => by_kind.push((kv.mod_revision, kind.to_owned(), vec![change])),
            }
        }
        for (revision, kind, changes) in by_kind {
            self.cache_of(&kind).apply(revision, changes);
        }
        stale
    }

    fn advance(&self, revision: Revision) {
        self.applied.send_if_modified(|applied| {
            let forward = revision > *applied;
            *applied = revision.max(*applied);
            forward
        });
    }
}
