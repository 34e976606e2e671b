//! Who may do what, as etcd 3.4 and 3.5 have it: users, roles, permissions on key ranges.
//!
//! [`AuthState`] is pure and replicated: [`AuthState::apply`] makes the next one from a command. [`Tokens`] are
//! each member's own memory of who was let in. Passwords are hashed before they are proposed, off the async
//! workers. What a whole request needs is in `check`. Certificates are not here: whoever read one vouches for
//! its name.

mod check;
mod command;
mod password;
mod permission;
mod state;
mod tokens;

pub use command::{AuthCommand, Password};
pub use password::{BCRYPT_COST, BCRYPT_COST_MAX, BCRYPT_COST_MIN};
pub use permission::{Access, Permission, PermissionKind};
pub use state::{AuthState, Role, User};

pub(crate) use password::{hash, verify};
pub(crate) use tokens::{TOKEN_TTL, Tokens, new_token};

use serde::{Deserialize, Serialize};

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// Who asks: a user that was let in, and the revision of the auth state at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AuthInfo {
    pub user: String,
    pub revision: u64,
}

#[cfg(test)]
mod tests;
