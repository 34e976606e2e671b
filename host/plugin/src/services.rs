//! What of the host stands behind the granted imports, shared by all plugins.

use std::sync::Mutex;

use crate::imports::metrics::Registry;
use crate::lock::lock;

/// The cluster's API and the runtime that drives its client.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) client: kube::Client,
    pub(crate) runtime: tokio::runtime::Handle,
}

#[derive(Default)]
pub(crate) struct Services {
    api: Mutex<Option<Api>>,
    pub(crate) metrics: Registry,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}

impl Services {
    pub(crate) fn set_api(&self, api: Api) {
        *lock(&self.api) = Some(api);
    }

    pub(crate) fn api(&self) -> Option<Api> {
        lock(&self.api).clone()
    }
}
