//! The store of `up`: one in this process, with etcd's face on request, or an etcd that others run.

use std::sync::Arc;

use anyhow::Context;
use capstan_cluster::{DataDir, Pki};
use capstan_etcd::face::FaceOptions;
use capstan_etcd::process::{ClientListeners, Clients};
use capstan_etcd::remote::{RemoteOptions, RemoteStore};
use capstan_etcd::tls::{ClientTls, ServerTls};
use capstan_store::{LocalStore, Store};

use crate::arguments::{ExternalStore, Up};

/// The store, and what of it ends with the cluster.
pub(crate) struct ClusterStore {
    store: Arc<dyn Store>,
    own: Option<Arc<LocalStore>>,
    face: Option<Clients>,
}

impl ClusterStore {
    /// Opens or connects to what the flags say.
    pub(crate) async fn open(options: &Up, data: &DataDir) -> anyhow::Result<Self> {
        if !options.external_store.etcd_servers.is_empty() {
            return connect(&options.external_store).await;
        }
        let folder = data.folder("store")?;
        let mut opening = capstan_store::Options::new(&folder);
        opening.cluster.client_urls = options.listen_client_urls.clone();
        let own = LocalStore::open(opening).await;
        let own = Arc::new(own.with_context(|| format!("the store in {}", folder.display()))?);
        Ok(Self {
            store: Arc::clone(&own) as _,
            face: open_face(options, data, &own).await?,
            own: Some(own),
        })
    }

    /// For the API server.
    pub(crate) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Brings everything to disk. An external store goes on without us.
    pub(crate) async fn shutdown(self) {
        if let Some(own) = &self.own {
            own.shutdown().await;
        }
        if let Some(face) = self.face {
            face.stop().await;
        }
    }
}

async fn connect(external: &ExternalStore) -> anyhow::Result<ClusterStore> {
    let mut options = RemoteOptions::new(&external.etcd_servers);
    options.tls = ClientTls {
        ca: external.etcd_cafile.clone(),
        cert: external.etcd_certfile.clone(),
        key: external.etcd_keyfile.clone(),
        ..ClientTls::default()
    };
    let store = RemoteStore::connect(options).await;
    let servers = || format!("--etcd-servers {}", external.etcd_servers.join(","));
    Ok(ClusterStore {
        store: Arc::new(store.with_context(servers)?),
        own: None,
        face: None,
    })
}

/// Certificates of the store's face are signed by an authority of their own: no client of the cluster may read
/// the store past its API.
async fn open_face(options: &Up, data: &DataDir, store: &Arc<LocalStore>) -> anyhow::Result<Option<Clients>> {
    let urls = options.listen_client_urls.clone();
    if urls.is_empty() {
        return Ok(None);
    }
    let tls = if urls.iter().any(|url| url.starts_with("https://")) {
        let folder = data.folder("pki/etcd")?;
        let names = names(&urls);
        let opening = tokio::task::spawn_blocking(move || {
            Pki::open(&folder, &names)?.client("client", "root", &[])?;
            Ok::<_, anyhow::Error>(ServerTls {
                cert: folder.join("apiserver.crt"),
                key: folder.join("apiserver.key"),
                client_ca: Some(folder.join("ca.crt")),
            })
        });
        Some(opening.await.context("certificates of the store")??)
    } else {
        None
    };
    let listeners = ClientListeners {
        urls,
        tls,
        metrics_urls: Vec::new(),
    };
    let face = Clients::serve(store, &listeners, FaceOptions::default());
    Ok(Some(face.context("--listen-client-urls")?))
}

/// What the certificate is for: this machine, and the hosts of the URLs.
fn names(urls: &[String]) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1"].map(str::to_owned).into();
    for uri in urls.iter().filter_map(|url| url.parse::<http::Uri>().ok()) {
        if let Some(host) = uri.host()
            && !names.iter().any(|name| name == host)
        {
            names.push(host.trim_matches(['[', ']']).to_owned());
        }
    }
    names
}
