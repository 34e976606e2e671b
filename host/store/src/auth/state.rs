//! The users and roles, and what each command makes of them. Pure; part of the replicated state.
//!
//! Immutable: a command makes a new one, so that readers hold a whole one without a lock. The order of checks
//! is etcd's, because the first that fails is the answer.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::permission::Unified;
use super::{AuthCommand, Password, Permission, ROOT};
use crate::{Error, Refusal};

/// Users, and roles, at most: each change of them is one row.
const ENTRIES_MAX: usize = 10_000;
const FORMAT: u8 = 1;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// bcrypt's own form; none for a user that has no password.
    pub password_hash: Option<Bytes>,
    /// Sorted.
    pub roles: Vec<String>,
}

impl User {
    fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|other| other == role)
    }
}

/// A role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Sorted by key.
    pub permissions: Vec<Permission>,
}

/// All of auth that is replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthState {
    /// Whether anything is checked at all.
    pub enabled: bool,
    /// Counts changes, from 1.
    pub revision: u64,
    /// By name.
    pub users: BTreeMap<String, User>,
    /// By name. The role `root` need not be here: every store has it.
    pub roles: BTreeMap<String, Role>,
    #[serde(skip)]
    pub(super) unified: BTreeMap<String, Unified>,
}

impl Default for AuthState {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            unified: BTreeMap::new(),
        }
    }
}

type Changed = Result<(), Refusal>;

impl AuthState {
    /// A state as a backup has it.
    pub fn new(
        enabled: bool,
        revision: u64,
        users: BTreeMap<String, User>,
        roles: BTreeMap<String, Role>,
    ) -> Self {
        let this = Self {
            enabled,
            revision: revision.max(1),
            users,
            roles,
            unified: BTreeMap::new(),
        };
        this.unified()
    }

    /// What a command makes of it.
    ///
    /// # Errors
    /// etcd's refusals; then nothing has changed.
    pub fn apply(&self, command: &AuthCommand) -> Result<Self, Refusal> {
        let mut next = self.clone();
        next.change(command)?;
        // What was so before is no news, and enabling never is.
        let is_counted = match command {
            AuthCommand::Enable => false,
            AuthCommand::Disable | AuthCommand::UserGrantRole { .. } => next != *self,
            _ => true,
        };
        next.revision += u64::from(is_counted);
        next.unify();
        Ok(next)
    }

    fn change(&mut self, command: &AuthCommand) -> Changed {
        match command {
            AuthCommand::Enable => self.enable(),
            AuthCommand::Disable => {
                self.enabled = false;
                Ok(())
            }
            AuthCommand::UserAdd { name, password } => self.user_add(name, password),
            AuthCommand::UserDelete { name } => self.user_delete(name),
            AuthCommand::UserChangePassword { name, password } => self.change_password(name, password),
            AuthCommand::UserGrantRole { user, role } => self.grant_role(user, role),
            AuthCommand::UserRevokeRole { user, role } => self.revoke_role(user, role),
            AuthCommand::RoleAdd { name } => self.role_add(name),
            AuthCommand::RoleDelete { name } => self.role_delete(name),
            AuthCommand::RoleGrantPermission { role, permission } => self.grant_permission(role, permission),
            AuthCommand::RoleRevokePermission { role, key, range_end } => {
                self.revoke_permission(role, key, range_end)
            }
        }
    }

    fn enable(&mut self) -> Changed {
        let root = self.users.get(ROOT).ok_or(Refusal::RootUserNotExist)?;
        if !root.has_role(ROOT) {
            return Err(Refusal::RootRoleNotExist);
        }
        self.enabled = true;
        Ok(())
    }

    fn user_add(&mut self, name: &str, password: &Password) -> Changed {
        if name.is_empty() {
            return Err(Refusal::UserEmpty);
        }
        if self.users.contains_key(name) {
            return Err(Refusal::UserExists);
        }
        if self.users.len() >= ENTRIES_MAX {
            return Err(Refusal::TooManyRequests);
        }
        let user = User {
            password_hash: hashed(password)?,
            roles: Vec::new(),
        };
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    fn user_delete(&mut self, name: &str) -> Changed {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let removed = self.users.remove(name);
        removed.map(|_| ()).ok_or(Refusal::UserNotFound)
    }

    fn change_password(&mut self, name: &str, password: &Password) -> Changed {
        let user = self.users.get_mut(name).ok_or(Refusal::UserNotFound)?;
        // A user without a password stays one.
        if user.password_hash.is_some() {
            user.password_hash = Some(hashed(password)?.ok_or(Refusal::NoPasswordUser)?);
        }
        Ok(())
    }

    fn grant_role(&mut self, user: &str, role: &str) -> Changed {
        let user = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
        if role != ROOT && !self.roles.contains_key(role) {
            return Err(Refusal::RoleNotFound);
        }
        if !user.has_role(role) {
            user.roles.push(role.to_owned());
            user.roles.sort_unstable();
        }
        Ok(())
    }

    fn revoke_role(&mut self, user: &str, role: &str) -> Changed {
        if self.enabled && user == ROOT && role == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        let user = self.users.get_mut(user).ok_or(Refusal::UserNotFound)?;
        if !user.has_role(role) {
            return Err(Refusal::RoleNotGranted);
        }
        user.roles.retain(|other| other != role);
        Ok(())
    }

    fn role_add(&mut self, name: &str) -> Changed {
        if name.is_empty() {
            return Err(Refusal::RoleEmpty);
        }
        if self.roles.contains_key(name) {
            return Err(Refusal::RoleExists);
        }
        if self.roles.len() >= ENTRIES_MAX {
            return Err(Refusal::TooManyRequests);
        }
        self.roles.insert(name.to_owned(), Role::default());
        Ok(())
    }

    fn role_delete(&mut self, name: &str) -> Changed {
        if self.enabled && name == ROOT {
            return Err(Refusal::InvalidAuthManagement);
        }
        self.roles.remove(name).ok_or(Refusal::RoleNotFound)?;
        for user in self.users.values_mut() {
            user.roles.retain(|role| role != name);
        }
        Ok(())
    }

    fn grant_permission(&mut self, role: &str, permission: &Permission) -> Changed {
        if !permission.is_valid() {
            return Err(Refusal::InvalidAuthManagement);
        }
        let role = self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?;
        let is_same =
            |other: &Permission| other.key == permission.key && other.range_end == permission.range_end;
        match role.permissions.iter().position(is_same) {
            Some(at) => role.permissions[at].kind = permission.kind,
            None if role.permissions.len() >= ENTRIES_MAX => return Err(Refusal::TooManyRequests),
            None => {
                role.permissions.push(permission.clone());
                role.permissions.sort_by(|one, other| one.key.cmp(&other.key));
            }
        }
        Ok(())
    }

    fn revoke_permission(&mut self, role: &str, key: &Bytes, range_end: &Bytes) -> Changed {
        let role = self.roles.get_mut(role).ok_or(Refusal::RoleNotFound)?;
        let before = role.permissions.len();
        role.permissions
            .retain(|other| other.key != *key || other.range_end != *range_end);
        if role.permissions.len() == before {
            return Err(Refusal::PermissionNotGranted);
        }
        Ok(())
    }

    fn unify(&mut self) {
        let of = |user: &User| {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            Unified::of(roles.flat_map(|role| role.permissions.iter()))
        };
        self.unified = self
            .users
            .iter()
            .map(|(name, user)| (name.clone(), of(user)))
            .collect();
    }

    /// The same, with what was left out of its encoding.
    pub(crate) fn unified(mut self) -> Self {
        self.unify();
        self
    }

    pub(crate) fn encode(&self) -> crate::Result<Bytes> {
        let encoded = postcard::to_extend(self, vec![FORMAT]);
        encoded
            .map(Bytes::from)
            .map_err(|error| Error::Invalid(format!("encoding the users and roles: {error}")))
    }

    pub(crate) fn decode(row: &[u8]) -> crate::Result<Self> {
        let damaged = |what: String| Error::Corrupt(format!("the users and roles: {what}"));
        let Some((&FORMAT, rest)) = row.split_first() else {
            return Err(damaged("their format is not known".into()));
        };
        let this: Self = postcard::from_bytes(rest).map_err(|error| damaged(error.to_string()))?;
        Ok(this.unified())
    }
}

fn hashed(password: &Password) -> Result<Option<Bytes>, Refusal> {
    match password {
        Password::None => Ok(None),
        Password::Hashed(hash) => Ok(Some(hash.clone())),
        // The proposer hashes.
        Password::Plain(_) => Err(Refusal::InvalidAuthManagement),
    }
}
