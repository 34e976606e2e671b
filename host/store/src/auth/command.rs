//! What can be changed of users, roles and permissions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Permission;

/// A change of the auth state; etcd's `Auth` service, but for its reads and `Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum AuthCommand {
    /// Needs a user `root` that has the role `root`.
    Enable,
    Disable,
    UserAdd {
        name: String,
        password: Password,
    },
    UserDelete {
        name: String,
    },
    UserChangePassword {
        name: String,
        password: Password,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    /// Adds a permission, or changes the kind of the one on the same range.
    RoleGrantPermission {
        role: String,
        permission: Permission,
    },
    /// `range_end` as in etcd: empty for one key, a zero byte for all keys from `key` on.
    RoleRevokePermission {
        role: String,
        key: Bytes,
        range_end: Bytes,
    },
}

/// How a user proves who they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Password {
    /// By a certificate only.
    None,
    /// By this; hashed before it is proposed, and never written.
    Plain(String),
    /// By what hashes to this (bcrypt's own form, `$2a$…`).
    Hashed(Bytes),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Plain(_) => "Plain(…)",
            Self::Hashed(_) => "Hashed(…)",
        })
    }
}

impl AuthCommand {
    /// The password that it carries.
    pub(crate) fn password_mut(&mut self) -> Option<&mut Password> {
        match self {
            Self::UserAdd { password, .. } | Self::UserChangePassword { password, .. } => Some(password),
            _ => None,
        }
    }
}
