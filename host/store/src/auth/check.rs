//! Whether a caller may do what a request asks, in etcd's order and words.
//!
//! Called twice: before a proposal, and again where it is applied, when the auth state may be another. A
//! caller whose auth revision is older than the state's is told so and comes again.

use super::{Access, AuthInfo, AuthState, ROOT};
use crate::mvcc::Span;
use crate::{KeyRange, Op, Refusal, Txn};

type Checked = Result<(), Refusal>;

impl AuthState {
    /// Whether the caller may read or write all of the range.
    pub fn check(&self, caller: Option<&AuthInfo>, access: Access, range: &KeyRange) -> Checked {
        if !self.enabled {
            return Ok(());
        }
        let caller = caller
            .filter(|caller| caller.revision != 0)
            .ok_or(Refusal::UserEmpty)?;
        if caller.revision < self.revision {
            return Err(Refusal::AuthOldRevision);
        }
        let user = self.users.get(&caller.user).ok_or(Refusal::PermissionDenied)?;
        if user.roles.iter().any(|role| role == ROOT) {
            return Ok(());
        }
        let unified = self.unified.get(&caller.user);
        if unified.is_some_and(|unified| unified.covers(access, &Span::of(range))) {
            return Ok(());
        }
        Err(Refusal::PermissionDenied)
    }

    /// Whether the caller may manage users, roles and the store.
    pub fn check_admin(&self, caller: Option<&AuthInfo>) -> Checked {
        if !self.enabled {
            return Ok(());
        }
        let caller = caller
            .filter(|caller| !caller.user.is_empty())
            .ok_or(Refusal::UserEmpty)?;
        let user = self.users.get(&caller.user).ok_or(Refusal::UserNotFound)?;
        if user.roles.iter().any(|role| role == ROOT) {
            Ok(())
        } else {
            Err(Refusal::PermissionDenied)
        }
    }

    /// Whether the caller may see a user: themselves, or as an administrator.
    pub fn check_user_get(&self, caller: Option<&AuthInfo>, name: &str) -> Checked {
        match self.check_admin(caller) {
            Err(_) if caller.is_some_and(|caller| caller.user == name) => Ok(()),
            checked => checked,
        }
    }

    /// Whether the caller may see a role: one of their own, or as an administrator.
    pub fn check_role_get(&self, caller: Option<&AuthInfo>, name: &str) -> Checked {
        let is_own = caller
            .and_then(|caller| self.users.get(&caller.user))
            .is_some_and(|user| user.roles.iter().any(|role| role == name));
        match self.check_admin(caller) {
            Err(_) if is_own => Ok(()),
            checked => checked,
        }
    }

    /// Whether the caller may run a transaction: all of its comparisons and both of its branches.
    /// `lease_keys` tells the keys of a lease: who may not write them all may not join them either, as the
    /// lease's end is theirs too.
    pub fn check_txn(
        &self,
        caller: Option<&AuthInfo>,
        txn: &Txn,
        lease_keys: &dyn Fn(i64) -> Vec<bytes::Bytes>,
    ) -> Checked {
        if !self.enabled {
            return Ok(());
        }
        for compare in &txn.compare {
            self.check(caller, Access::Read, &compare.range)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(request) => self.check(caller, Access::Read, &request.range)?,
                Op::Put(put) => {
                    let key = KeyRange::Key(put.key.clone());
                    self.check(caller, Access::Write, &key)?;
                    if put.lease != 0 {
                        self.check_keys(caller, Access::Write, lease_keys(put.lease))?;
                    }
                    if put.prev_kv {
                        self.check(caller, Access::Read, &key)?;
                    }
                }
                Op::Delete { range, prev_kv } => {
                    self.check(caller, Access::Write, range)?;
                    if *prev_kv {
                        self.check(caller, Access::Read, range)?;
                    }
                }
                Op::Txn(nested) => self.check_txn(caller, nested, lease_keys)?,
            }
        }
        Ok(())
    }

    /// Whether the caller may read or write every one of the keys, as what touches a lease must.
    pub fn check_keys(
        &self,
        caller: Option<&AuthInfo>,
        access: Access,
        keys: impl IntoIterator<Item = bytes::Bytes>,
    ) -> Checked {
        if self.check_admin(caller).is_ok() {
            return Ok(());
        }
        for key in keys {
            self.check(caller, access, &KeyRange::Key(key))?;
        }
        Ok(())
    }

    /// A caller whom a certificate vouches for.
    pub fn info(&self, user: &str) -> AuthInfo {
        AuthInfo {
            user: user.to_owned(),
            revision: self.revision,
        }
    }
}
