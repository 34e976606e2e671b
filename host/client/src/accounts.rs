//! The identities under which one part acts: a client for each account, or one client for all of them.
//!
//! A controller manager gives each controller an account of its own (the original's
//! `--use-service-account-credentials`), so that each is bound by its own role and named in the audit log.
//! Made by the composition root. Not here: how an account proves who it is.

use std::sync::Arc;

use kube::Client;

/// Clients by the name of their account; clones give the same ones.
#[derive(Clone)]
pub struct Accounts {
    of: Arc<dyn Fn(&str) -> Client + Send + Sync>,
}

impl Accounts {
    /// A client of its own for each account.
    pub fn each(of: impl Fn(&str) -> Client + Send + Sync + 'static) -> Self {
        Self { of: Arc::new(of) }
    }

    /// All accounts act as `client`.
    pub fn all(client: Client) -> Self {
        Self::each(move |_| client.clone())
    }

    /// The client of an account, such as `deployment-controller`.
    pub fn client(&self, account: &str) -> Client {
        (self.of)(account)
    }
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}
