//! The ConfigMaps and Secrets that this node's pods refer to: each watched by itself while some pod needs
//! it, as the original's kubelet does, so that a node reads no secret that is none of its business.
//!
//! Invariants: an object is watched once however many pods refer to it; the watch ends with the last
//! [`Hold`]. Called by pod workers. Not here: what becomes of the contents.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use capstan_client::Informer;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::watch;

/// How long a pod waits for the first answer about an object.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(10);

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reference {
    ConfigMap { namespace: String, name: String },
    Secret { namespace: String, name: String },
}

enum Watched {
    ConfigMap(Informer<ConfigMap>, String, String),
    Secret(Informer<Secret>, String, String),
}

/// No making of volumes has read the object yet.
const UNREAD: u64 = u64::MAX;

/// Keeps one object watched for one pod.
#[derive(Clone)]
pub(crate) struct Hold {
    watched: Arc<Watched>,
    /// The informer's count of changes when the pod's volumes were last made.
    read_at: Arc<AtomicU64>,
}

impl Hold {
    /// Changes whenever the object does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        match self.watched.as_ref() {
            Watched::ConfigMap(informer, ..) => informer.changes(),
            Watched::Secret(informer, ..) => informer.changes(),
        }
    }

    /// To be called before the object is read for the pod's volumes.
    pub(crate) fn mark_read(&self) {
        self.read_at.store(*self.changes().borrow(), Ordering::SeqCst);
    }

    /// Whether a change came after the last reading. What was never read is read at its newest anyhow.
    pub(crate) fn is_news(&self, tick: u64) -> bool {
        tick > self.read_at.load(Ordering::SeqCst)
    }

    /// The ConfigMap, if it is one and exists. An error when the API server did not answer in time.
    pub(crate) async fn config_map(&self) -> Result<Option<Arc<ConfigMap>>, String> {
        let Watched::ConfigMap(informer, namespace, name) = self.watched.as_ref() else {
            return Ok(None);
        };
        informer
            .synced(FIRST_ANSWER_MAX)
            .await
            .map_err(|error| format!("configmap \"{name}\": {error}"))?;
        Ok(informer.get(Some(namespace), name))
    }

    /// The Secret, if it is one and exists.
    pub(crate) async fn secret(&self) -> Result<Option<Arc<Secret>>, String> {
        let Watched::Secret(informer, namespace, name) = self.watched.as_ref() else {
            return Ok(None);
        };
        informer
            .synced(FIRST_ANSWER_MAX)
            .await
            .map_err(|error| format!("secret \"{name}\": {error}"))?;
        Ok(informer.get(Some(namespace), name))
    }
}

fn unread() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(UNREAD))
}

/// All watched objects of this node.
pub(crate) struct References {
    client: Client,
    watched: Mutex<HashMap<Reference, Weak<Watched>>>,
}

impl References {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            watched: Mutex::default(),
        }
    }

    /// Watches the object from now on, at the latest.
    pub(crate) fn hold(&self, reference: &Reference) -> Hold {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, weak| weak.strong_count() > 0);
        if let Some(known) = watched.get(reference).and_then(Weak::upgrade) {
            return Hold {
                watched: known,
                read_at: unread(),
            };
        }
        let new = Arc::new(self.watch(reference));
        watched.insert(reference.clone(), Arc::downgrade(&new));
        Hold {
            watched: new,
            read_at: unread(),
        }
    }

    fn watch(&self, reference: &Reference) -> Watched {
        let only = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        match reference {
            Reference::ConfigMap { namespace, name } => {
                let api = Api::namespaced(self.client.clone(), namespace);
                Watched::ConfigMap(Informer::start(api, only(name)), namespace.clone(), name.clone())
            }
            Reference::Secret { namespace, name } => {
                let api = Api::namespaced(self.client.clone(), namespace);
                Watched::Secret(Informer::start(api, only(name)), namespace.clone(), name.clone())
            }
        }
    }
}
