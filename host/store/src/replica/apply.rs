//! Applying one command: decide, write, publish, tell the watchers.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::whole::Rest;
use super::{Command, Mark, Outcome, Replica, rows};
use crate::alarm::Alarms;
use crate::auth::AuthState;
use crate::engine::StateBatch;
use crate::lease::{LEASE_TTL_SECONDS_MAX, LEASE_TTL_SECONDS_MIN};
use crate::mvcc::{Change, Item, State, delete_keys, execute};
use crate::watch::{Batch, History};
use crate::{Error, LeaseId, Refusal, Result, Revision};

/// What a command does to the state, beside its answer.
#[derive(Default)]
struct Effect {
    changes: Vec<Change>,
    granted: Option<(LeaseId, i64)>,
    revoked: Option<LeaseId>,
    compacted: Option<Revision>,
    auth: Option<AuthState>,
    /// A token, and whose it is.
    let_in: Option<(String, String)>,
    alarms: Option<Alarms>,
}

impl Effect {
    fn is_more_than_records(&self) -> bool {
        self.granted.is_some()
            || self.revoked.is_some()
            || self.compacted.is_some()
            || self.auth.is_some()
            || self.alarms.is_some()
    }

    /// Its rows beside the records.
    fn other_rows(&self, batch: &mut StateBatch, rest: &mut Rest) -> Result<()> {
        if let Some((id, ttl_seconds)) = self.granted {
            batch.put(
                rows::lease(id),
                Bytes::copy_from_slice(&ttl_seconds.to_be_bytes()),
            );
            rest.grant(id);
        }
        if let Some(id) = self.revoked {
            batch.delete(rows::lease(id));
            rest.revoke(id);
        }
        if let Some(revision) = self.compacted {
            batch.put(rows::COMPACT, Bytes::copy_from_slice(&revision.to_be_bytes()));
            rest.compacted(revision);
        }
        if let Some(auth) = &self.auth {
            let row = auth.encode()?;
            rest.auth(&row);
            batch.put(rows::AUTH, row);
        }
        if let Some(alarms) = &self.alarms {
            let row = rows::encode_alarms(alarms)?;
            rest.alarms(&row);
            batch.put(rows::ALARMS, row);
        }
        Ok(())
    }
}

impl Replica {
    /// Applies a command together with the caller's marks. An error means that the engine failed and that
    /// nothing was applied; a command's own failure is in its outcome.
    pub(crate) fn apply(self: &Arc<Self>, command: &Command, marks: Vec<(Mark, Bytes)>) -> Result<Outcome> {
        let (outer, command) = (command, command.inner());
        let admitted = outer.admit(&self.state.read());
        let decided = admitted.and_then(|()| match command {
            Command::Txn(txn) => execute(&self.state.read(), &**self, txn).map(|(response, changes)| {
                (
                    Outcome::Txn(Ok(response)),
                    Effect {
                        changes,
                        ..Effect::default()
                    },
                )
            }),
            command => self.decide(command).map(|effect| (Outcome::Done(Ok(())), effect)),
        });
        let (outcome, effect) = match decided {
            Ok(decided) => decided,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => {
                let outcome = match command {
                    Command::Txn(_) => Outcome::Txn(Err(error)),
                    _ => Outcome::Done(Err(error)),
                };
                (outcome, Effect::default())
            }
        };
        self.carry_out(effect, marks)?;
        if let (Command::Auth(command), Outcome::Done(Ok(()))) = (command, &outcome) {
            self.tokens.lock().after(command);
        }
        Ok(outcome)
    }

    /// Writes marks alone: an entry without a command.
    pub(crate) fn apply_marks(self: &Arc<Self>, marks: Vec<(Mark, Bytes)>) -> Result<()> {
        self.carry_out(Effect::default(), marks)
    }

    fn decide(&self, command: &Command) -> Result<Effect> {
        let state = self.state.read();
        match *command {
            Command::Txn(_) | Command::By(..) => Ok(Effect::default()),
            Command::Compact { revision } => {
                state.check_compact(revision)?;
                Ok(Effect {
                    compacted: Some(revision),
                    ..Effect::default()
                })
            }
            Command::LeaseGrant { id, ttl_seconds } => {
                check_grant(&state, id, ttl_seconds)?;
                let ttl_seconds = ttl_seconds.max(LEASE_TTL_SECONDS_MIN);
                Ok(Effect {
                    granted: Some((id, ttl_seconds)),
                    ..Effect::default()
                })
            }
            Command::LeaseRevoke { id } => {
                if !state.leases.contains(id) {
                    return Err(Error::LeaseNotFound);
                }
                let changes = delete_keys(&state, self, &state.lease_keys(id))?;
                Ok(Effect {
                    changes,
                    revoked: Some(id),
                    ..Effect::default()
                })
            }
            Command::Auth(ref command) => Ok(Effect {
                auth: Some(state.auth.apply(command)?),
                ..Effect::default()
            }),
            Command::Authenticate {
                ref user,
                ref token,
                auth_revision,
            } => {
                check_let_in(&state, user, auth_revision)?;
                Ok(Effect {
                    let_in: Some((token.clone(), user.clone())),
                    ..Effect::default()
                })
            }
            Command::Alarm { alarm, is_raised } => {
                let mut alarms = state.alarms.clone();
                alarms.set(alarm, is_raised);
                Ok(Effect {
                    alarms: Some(alarms),
                    ..Effect::default()
                })
            }
        }
    }

    fn carry_out(self: &Arc<Self>, effect: Effect, marks: Vec<(Mark, Bytes)>) -> Result<()> {
        let mut batch = StateBatch::default();
        // Held until the engine has the batch, so that sums reach the disk in their order.
        let mut written = self.written.lock();
        let (mut sum, mut rest) = *written;
        for change in &effect.changes {
            batch.put(rows::record(change.rev), change.record.encode());
            sum.add(change.rev);
        }
        // Records without the mark that follows them are dropped at the next start, and applied again.
        let revision = effect.changes.last().map(|change| change.rev.main);
        let revision = revision.unwrap_or_else(|| self.state.read().revision);
        let mut is_more = effect.is_more_than_records();
        for (mark, value) in marks {
            is_more |= rest.mark(mark, &value);
            batch.put(rows::mark(mark), rows::mark_value(mark, revision, sum, &value));
        }
        effect.other_rows(&mut batch, &mut rest)?;
        if is_more {
            batch.put(rows::REST, rest.encode());
        }
        batch.is_atomic = is_more;
        let bytes = batch.size_bytes();
        self.engine.apply(batch)?;
        *written = (sum, rest);
        drop(written);
        self.upkeep.wrote(bytes);
        self.count(&effect);
        self.publish(effect);
        Ok(())
    }

    fn count(&self, effect: &Effect) {
        if !effect.changes.is_empty() {
            let deletes = effect
                .changes
                .iter()
                .filter(|change| change.record.deleted)
                .count() as u64;
            self.metrics.puts.inc_by(effect.changes.len() as u64 - deletes);
            self.metrics.deletes.inc_by(deletes);
            self.metrics.txns.inc_by(u64::from(effect.changes.len() > 1));
        }
        self.metrics
            .leases_granted
            .inc_by(u64::from(effect.granted.is_some()));
        self.metrics
            .leases_revoked
            .inc_by(u64::from(effect.revoked.is_some()));
    }

    fn publish(self: &Arc<Self>, effect: Effect) {
        if !effect.changes.is_empty() {
            let mut values = self.values.lock();
            for change in effect.changes.iter().filter(|change| !change.record.deleted) {
                values.insert(change.rev, change.record.clone());
            }
        }
        // Hashing is done before the lock is taken.
        let items = effect
            .changes
            .iter()
            .map(|change| Item::of(change.rev, &change.record));
        let items: Vec<Item> = items.collect();
        {
            let mut state = self.state.write();
            for (change, item) in effect.changes.iter().zip(items) {
                state.take(&change.record.key, item);
            }
            if let Some((id, ttl_seconds)) = effect.granted {
                state.leases.grant(id, ttl_seconds);
            }
            if let Some(id) = effect.revoked {
                state.leases.revoke(id);
            }
            if let Some(revision) = effect.compacted {
                state.compact_revision = revision;
            }
            if let Some(auth) = effect.auth {
                state.auth = Arc::new(auth);
            }
            if let Some(alarms) = effect.alarms {
                state.alarms = alarms;
            }
        }
        if let Some((token, user)) = effect.let_in {
            self.tokens.lock().add(token, user, Instant::now());
        }
        if let Some(revision) = effect.compacted {
            self.upkeep.compact(revision);
        }
        if let Some(first) = effect.changes.first() {
            let batch = Batch {
                revision: first.rev.main,
                changes: effect.changes,
            };
            let history: Arc<dyn History> = self.clone();
            self.hub.publish(&history, batch);
        }
    }
}

fn check_grant(state: &State, id: LeaseId, ttl_seconds: i64) -> Result<()> {
    // etcd answers an id of nought with this, and takes negative ones.
    if id == 0 {
        return Err(Error::LeaseNotFound);
    }
    if ttl_seconds > LEASE_TTL_SECONDS_MAX {
        return Err(Refusal::LeaseTtlTooLarge.into());
    }
    if state.leases.contains(id) {
        Err(Error::LeaseExists)
    } else {
        Ok(())
    }
}

/// The password was checked at another revision of the auth state: the proposer checks it again.
fn check_let_in(state: &State, user: &str, auth_revision: u64) -> Result<()> {
    if !state.auth.enabled {
        return Err(Refusal::AuthNotEnabled.into());
    }
    if !state.auth.users.contains_key(user) {
        return Err(Refusal::AuthFailed.into());
    }
    if state.auth.revision != auth_revision {
        return Err(Refusal::AuthOldRevision.into());
    }
    Ok(())
}

/// Whether an error is the engine's, and not the command's.
fn is_fatal(error: &Error) -> bool {
    matches!(
        error,
        Error::Corrupt(_) | Error::Unavailable(_) | Error::NoSpace(_) | Error::Unknown(_)
    )
}
