//! The real API server on a store of its own, as the only neighbour of what is tested.

use std::sync::Arc;

use capstan_api::{ApiServer, Config, Store};
use capstan_points::Seating;
use capstan_points::admission::Policy;
use capstan_store::LocalStore;

/// A store in a folder that goes with the test, and an API server on it.
pub(crate) struct Rig {
    pub(crate) api: ApiServer,
    store: Arc<LocalStore>,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = capstan_store::Options {
            space_reserve_bytes: 0,
            ..capstan_store::Options::new(folder.path())
        };
        let store = Arc::new(LocalStore::open(options).await.unwrap());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admission: Seating<dyn Policy> = Seating::default();
        let shared: Arc<dyn Store> = store.clone();
        let api = ApiServer::start(shared, admission.seats(), Config::new(listener, Arc::new(tls())))
            .await
            .unwrap();
        Self {
            api,
            store,
            _folder: folder,
        }
    }

    pub(crate) async fn stop(self) {
        self.api.shutdown().await;
        self.store.shutdown().await;
    }
}

fn tls() -> rustls::ServerConfig {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap()
}
