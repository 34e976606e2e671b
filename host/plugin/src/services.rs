//! What of the host stands behind the granted imports, shared by all plugins.

use std::sync::{Arc, Mutex};

use crate::decision::Decision;
use crate::exceptions::Exceptions;
use crate::imports::metrics::Registry;
use crate::journal::{Journal, LogLine};
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
    pub(crate) decisions: Journal<Decision>,
    pub(crate) lines: Journal<LogLine>,
    exceptions: Mutex<Arc<Exceptions>>,
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

    /// What is excepted from now on.
    pub(crate) fn set_exceptions(&self, exceptions: Exceptions) {
        *lock(&self.exceptions) = Arc::new(exceptions);
    }

    pub(crate) fn exceptions(&self) -> Arc<Exceptions> {
        Arc::clone(&lock(&self.exceptions))
    }

    /// Forgets what a plugin that is gone said.
    pub(crate) fn forget(&self, plugin: &str) {
        self.metrics.remove(plugin);
        self.decisions.remove(plugin);
        self.lines.remove(plugin);
    }
}
