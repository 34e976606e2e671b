//! Password hashes in bcrypt's own form, as etcd keeps them. Slow on purpose: never called on an async worker,
//! and never where entries are applied.

use bytes::Bytes;

use crate::{Error, Refusal, Result};

/// etcd's default cost.
pub const BCRYPT_COST: u32 = 10;
/// bcrypt knows no lower cost.
pub const BCRYPT_COST_MIN: u32 = 4;
/// bcrypt knows no higher cost.
pub const BCRYPT_COST_MAX: u32 = 31;

/// Hashes a password. bcrypt looks at 72 bytes of it.
pub(crate) fn hash(password: &str, cost: u32) -> Result<Bytes> {
    let hashed = bcrypt::hash(password, cost.clamp(BCRYPT_COST_MIN, BCRYPT_COST_MAX));
    hashed
        .map(Bytes::from)
        .map_err(|error| Error::Invalid(format!("hashing the password: {error}")))
}

/// Whether the password is the one that was hashed.
pub(crate) fn verify(password: &str, hash: &[u8]) -> Result<(), Refusal> {
    let hash = std::str::from_utf8(hash).map_err(|_| Refusal::AuthFailed)?;
    match bcrypt::verify(password, hash) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Refusal::AuthFailed),
    }
}
