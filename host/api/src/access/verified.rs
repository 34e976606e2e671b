//! Service accounts' tokens whose signature was found to be ours, by the digest of the token.
//!
//! To verify a signature costs more than all the rest of a small read, and gives the same answer every time: the key
//! stays as long as the process. Invariant: what is here was verified; what may change (time, the account, what the
//! token is bound to) is never here. Called by `bearer` alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::bearer::Claims;

/// Tokens of one half; the older half is let go when the younger is full.
const HALF_MAX: usize = 2_048;

type Half = HashMap<[u8; 32], Arc<Claims>>;

/// See the module.
#[derive(Default)]
pub(super) struct Verified(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    younger: Half,
    older: Half,
}

impl Halves {
    fn insert(&mut self, digest: [u8; 32], claims: Arc<Claims>) {
        if self.younger.len() >= HALF_MAX {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(digest, claims);
    }
}

impl Verified {
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Claims>> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claims) = halves.younger.get(digest) {
            return Some(claims.clone());
        }
        let claims = halves.older.remove(digest)?;
        halves.insert(*digest, claims.clone());
        Some(claims)
    }

    pub(super) fn insert(&self, digest: [u8; 32], claims: Arc<Claims>) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.insert(digest, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_stays_and_there_is_a_bound() {
        let claims: Claims = serde_json::from_value(serde_json::json!({
            "aud": [], "exp": 0, "iat": 0, "iss": "", "jti": "", "kubernetes.io": {}, "nbf": 0, "sub": "",
        }))
        .unwrap();
        let (verified, claims) = (Verified::default(), Arc::new(claims));
        let digest = |n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            digest
        };
        for n in 0..4 * HALF_MAX {
            verified.insert(digest(n), claims.clone());
            assert!(verified.get(&digest(0)).is_some(), "{n}");
        }
        assert!(verified.get(&digest(1)).is_none());
        let halves = verified.0.lock().unwrap();
        assert!(halves.younger.len() <= HALF_MAX && halves.older.len() <= HALF_MAX);
    }
}
