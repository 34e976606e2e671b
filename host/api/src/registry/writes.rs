//! Writes: each is one conditional transaction of the store.

use std::time::{Duration, Instant};

use capstan_store::{Compare, Error, KeyRange, LeaseId, Op, Put, Revision, Txn};
use tokio::sync::Mutex;

use super::Registry;

/// How long an event lives, as in the original.
const EVENT_TTL_SECONDS: i64 = 3600;
/// Events written within this time share one lease.
const EVENT_LEASE_SHARED_FOR: Duration = Duration::from_secs(60);

/// Why a write did not happen, or may not have happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// Another writer came first (or, for a create, the key exists).
    #[error("the object has changed")]
    Conflict,
    #[error(transparent)]
    Store(#[from] Error),
}

/// The lease that new events are attached to.
#[derive(Default)]
pub(super) struct EventLeases(Mutex<Option<(LeaseId, Instant)>>);

impl Registry {
    /// Writes `value` if the key still stands at `expected` (0: does not exist).
    pub(crate) async fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        expected: Revision,
        expires: bool,
    ) -> Result<Revision, WriteError> {
        let lease = if expires { self.event_lease().await? } else { 0 };
        let put = Put {
            lease,
            ..Put::new(key.to_owned(), self.sealed(key, value)?)
        };
        self.conditional(key, expected, Op::Put(put)).await
    }

    /// Deletes the key if it still stands at `expected`.
    pub(crate) async fn remove(&self, key: &str, expected: Revision) -> Result<Revision, WriteError> {
        let range = KeyRange::Key(key.to_owned().into());
        self.conditional(
            key,
            expected,
            Op::Delete {
                range,
                prev_kv: false,
            },
        )
        .await
    }

    async fn conditional(&self, key: &str, expected: Revision, op: Op) -> Result<Revision, WriteError> {
        let compare = vec![Compare::mod_revision(key.to_owned(), expected)];
        let answer = self
            .store
            .txn(Txn {
                compare,
                success: vec![op],
                failure: Vec::new(),
            })
            .await?;
        if answer.succeeded {
            Ok(answer.revision)
        } else {
            Err(WriteError::Conflict)
        }
    }

    async fn event_lease(self: &Registry) -> Result<LeaseId, Error> {
        let mut held = self.events.0.lock().await;
        if let Some((id, since)) = *held
            && since.elapsed() < EVENT_LEASE_SHARED_FOR
        {
            return Ok(id);
        }
        let ttl = EVENT_TTL_SECONDS + EVENT_LEASE_SHARED_FOR.as_secs() as i64;
        let (id, _) = self.store.lease_grant(0, ttl).await?;
        *held = Some((id, Instant::now()));
        Ok(id)
    }
}
