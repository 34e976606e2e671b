//! The leader's loop over the lease clock: sleeps until the next lease runs out, and proposes its end.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::auth::Caller;
use super::server::Server;
use crate::Error;

/// Leases ended in one round; the others wait for the next.
const REVOKES_MAX: usize = 128;
/// The pause after a revocation could not be proposed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs until the server is dropped.
pub(super) async fn run(server: Weak<Server>) {
    loop {
        let Some(this) = server.upgrade() else { return };
        let due = this.lease_clock.lock().expired(Instant::now(), REVOKES_MAX);
        let mut pause = None;
        for id in &due {
            match this.lease_revoke(Caller::Trusted, *id).await {
                Ok(()) => {}
                Err(Error::LeaseNotFound) => this.lease_clock.lock().forget(*id),
                Err(error) => {
                    tracing::warn!(lease = id, %error, "ending a lease that ran out");
                    pause = Some(RETRY_AFTER);
                    break;
                }
            }
        }
        if due.len() == REVOKES_MAX && pause.is_none() {
            continue;
        }
        let next = this.lease_clock.lock().next_deadline();
        let changed = this.lease_changed.clone();
        drop(this);
        let wait = pause.or_else(|| next.map(|next| next.saturating_duration_since(Instant::now())));
        match wait {
            Some(wait) => {
                let _ = tokio::time::timeout(wait, changed.notified()).await;
                if pause.is_some() {
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
            None => changed.notified().await,
        }
    }
}
