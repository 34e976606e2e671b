//! The registry: what the API server knows of stored objects, and how it writes them.
//!
//! Reads come from the watch caches, one for each kind, all fed by one watch of the whole store, so that
//! one revision describes them all. A read that asks for the newest state first learns the store's revision
//! and waits for the feed to reach it: reads never go back in time, whoever wrote. Writes are single
//! conditional transactions. The table of resources can change while the server runs; a row that comes
//! later finds its objects cached already. Not here: HTTP, defaults, validation, admission.

mod cache;
mod entry;
mod feed;
pub(crate) mod keys;
mod table;
mod writes;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use capstan_kinds::resource::Resource;
use capstan_store::{KeyRange, KeyValue, RangeRequest, Revision, Store};
use tokio::sync::watch;

use crate::encryption::{self, CipherError, Encryption};

pub(crate) use cache::{Change, Cursor, KindCache, TooOld};
pub(crate) use entry::{Entry, canonical, splice};
pub(crate) use table::Table;
pub(crate) use writes::WriteError;

use crate::webhook::Callers;

/// Shared by all who read and write.
pub(crate) type Shared = Arc<Registry>;

/// How long a read waits for the feed to reach the revision that it needs.
const FRESH_WAIT: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Registry {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) table: Table,
    caches: RwLock<HashMap<String, Arc<KindCache>>>,
    applied: watch::Sender<Revision>,
    events: writes::EventLeases,
    encryption: Option<Encryption>,
    /// The way to webhooks, which may stand behind services of the cluster.
    pub(crate) callers: Callers,
}

/// Why a read could not be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Store(#[from] capstan_store::Error),
    /// The asked revision is in the future, or the feed stands still.
    #[error("Too large resource version: {asked}, current: {current}")]
    TooLarge { asked: Revision, current: Revision },
}

impl Registry {
    /// Fills the caches from the store and starts the feed, which runs until `stop` is cancelled.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        encryption: Option<Encryption>,
        stop: tokio_util::sync::CancellationToken,
    ) -> capstan_store::Result<Arc<Self>> {
        let registry = Arc::new_cyclic(|own| Self {
            store,
            table: Table::built_in(),
            caches: RwLock::default(),
            applied: watch::Sender::new(0),
            events: writes::EventLeases::default(),
            encryption,
            callers: Callers::new(own.clone()),
        });
        let revision = registry.fill().await?;
        let feed = registry.clone();
        tokio::spawn(async move { stop.run_until_cancelled(feed.follow(revision)).await });
        Ok(registry)
    }

    /// How values are sealed at rest.
    pub(crate) fn encryption(&self) -> Option<&Encryption> {
        self.encryption.as_ref()
    }

    /// The revision that all caches have reached.
    pub(crate) fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    pub(crate) fn cache(&self, resource: &Resource) -> Arc<KindCache> {
        self.cache_of(resource.storage_prefix())
    }

    /// The cache of a storage prefix, made when it is first asked for.
    fn cache_of(&self, prefix: &str) -> Arc<KindCache> {
        let caches = self.caches.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = caches.get(prefix) {
            return cache.clone();
        }
        drop(caches);
        let mut caches = self.caches.write().unwrap_or_else(PoisonError::into_inner);
        let empty = || Arc::new(KindCache::new(Default::default(), self.applied()));
        caches.entry(prefix.to_owned()).or_insert_with(empty).clone()
    }

    /// Waits until the caches hold everything that was written before this call.
    pub(crate) async fn newest(&self) -> Result<Revision, ReadError> {
        let probe = RangeRequest {
            count_only: true,
            ..RangeRequest::key(keys::ROOT)
        };
        let revision = self.store.range(probe).await?.revision;
        self.reach(revision).await
    }

    /// Waits until the caches hold everything up to `revision`.
    pub(crate) async fn reach(&self, revision: Revision) -> Result<Revision, ReadError> {
        if self.applied() < revision {
            let mut applied = self.applied.subscribe();
            let reached = tokio::time::timeout(FRESH_WAIT, applied.wait_for(|now| *now >= revision)).await;
            if reached.is_err() {
                return Err(ReadError::TooLarge {
                    asked: revision,
                    current: self.applied(),
                });
            }
        }
        Ok(self.applied())
    }

    /// One object from the cache, which may lag.
    pub(crate) fn cached(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Entry>> {
        self.cache(resource).get(&keys::within(resource, namespace, name))
    }

    /// One object straight from the store: what a write starts from.
    pub(crate) async fn current(&self, key: &str) -> capstan_store::Result<Option<KeyValue>> {
        let answer = self.store.range(RangeRequest::key(key.to_owned())).await?;
        answer
            .kvs
            .into_iter()
            .next()
            .map(|kv| {
                let (mut kv, stale) = self.opened(kv)?;
                if stale {
                    // White space that no canonical form ends with: no write of the object is one that changes
                    // nothing, and so it is sealed anew.
                    kv.value = [kv.value.as_ref(), b"\n"].concat().into();
                }
                Ok(kv)
            })
            .transpose()
    }

    /// A stored pair with its value as it was before it was sealed, and whether it should be sealed anew.
    fn opened(&self, mut kv: KeyValue) -> capstan_store::Result<(KeyValue, bool)> {
        let Some((kind, _)) = keys::split(&kv.key) else {
            return Ok((kv, false));
        };
        let opened = match &self.encryption {
            Some(encryption) => encryption.open(kind, &String::from_utf8_lossy(&kv.key), &kv.value),
            None if kv.value.starts_with(encryption::ENCRYPTED) => Err(CipherError::Encrypted),
            None => return Ok((kv, false)),
        };
        let (value, stale) = opened.map_err(|error| {
            let key = String::from_utf8_lossy(&kv.key);
            capstan_store::Error::Corrupt(format!("{key} cannot be decrypted: {error}"))
        })?;
        kv.value = value;
        Ok((kv, stale))
    }

    /// The value as it is written to the store.
    fn sealed(&self, key: &str, value: Vec<u8>) -> capstan_store::Result<Vec<u8>> {
        let kind = keys::split(key.as_bytes()).map(|(kind, _)| kind);
        match (&self.encryption, kind) {
            (Some(encryption), Some(kind)) => encryption.seal(kind, key, value).map_err(|error| {
                capstan_store::Error::Invalid(format!("{key} cannot be encrypted: {error}"))
            }),
            _ => Ok(value),
        }
    }

    /// A kind's objects as they were at `revision`, after the cache key `after`, straight from the store.
    pub(crate) async fn at(
        &self,
        resource: &Resource,
        below: &str,
        after: Option<&str>,
        revision: Revision,
        limit: usize,
    ) -> capstan_store::Result<(Vec<(Arc<str>, Arc<Entry>)>, bool, i64)> {
        let root = format!("{}{}/", keys::ROOT, resource.storage_prefix());
        let first = match after {
            Some(key) => format!("{root}{key}\0"),
            None => format!("{root}{below}"),
        };
        let mut end = format!("{root}{below}").into_bytes();
        // '/' + 1 is '0': the prefix always ends with '/'.
        end.pop();
        end.push(b'0');
        let range = KeyRange::Span(first.into_bytes().into(), end.into());
        let request = RangeRequest {
            revision,
            limit,
            ..RangeRequest::new(range)
        };
        let answer = self.store.range(request).await?;
        let mut objects = Vec::with_capacity(answer.kvs.len());
        for kv in answer.kvs {
            let (kv, _) = self.opened(kv)?;
            let entry = Entry::read(Some(resource), &kv.value, kv.mod_revision);
            if let (Some((_, key)), Some(entry)) = (keys::split(&kv.key), entry) {
                objects.push((Arc::from(key), Arc::new(entry)));
            }
        }
        Ok((objects, answer.more, answer.count))
    }
}
