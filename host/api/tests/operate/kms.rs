//! Encryption at rest by a key management service: a small KMS v2 plugin on a unix socket, its key turned and the
//! plugin lost while servers use it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use capstan_api::{Encryption, Store};
use capstan_store::{KeyRange, RangeRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tonic::{Request, Response, Status};

use crate::rig::{self, Rig};
use crate::{admin, ask, get, until};

/// The messages of `proto/kms.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod wire {
    tonic::include_proto!("v2");
}

use wire::key_management_service_server::{KeyManagementService, KeyManagementServiceServer};

/// A plugin that turns every byte by its key's number, and remembers what it was asked.
#[derive(Default)]
struct Keys {
    key: u8,
    asked: Vec<&'static str>,
}

#[derive(Clone, Default)]
struct Plugin(Arc<Mutex<Keys>>);

impl Plugin {
    fn asked(&self, what: &str) -> usize {
        let keys = self.0.lock().unwrap();
        keys.asked.iter().filter(|one| **one == what).count()
    }

    fn turn(&self, key: u8) {
        self.0.lock().unwrap().key = key;
    }
}

fn turned(bytes: &[u8], key: u8) -> Vec<u8> {
    bytes.iter().map(|byte| byte ^ (key + 1)).collect()
}

#[tonic::async_trait]
impl KeyManagementService for Plugin {
    async fn status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusResponse>, Status> {
        let mut keys = self.0.lock().unwrap();
        keys.asked.push("status");
        Ok(Response::new(wire::StatusResponse {
            version: "v2".into(),
            healthz: "ok".into(),
            key_id: format!("key-{}", keys.key),
        }))
    }

    async fn encrypt(
        &self,
        request: Request<wire::EncryptRequest>,
    ) -> Result<Response<wire::EncryptResponse>, Status> {
        let mut keys = self.0.lock().unwrap();
        keys.asked.push("encrypt");
        assert!(!request.get_ref().uid.is_empty());
        Ok(Response::new(wire::EncryptResponse {
            ciphertext: turned(&request.get_ref().plaintext, keys.key),
            key_id: format!("key-{}", keys.key),
            annotations: HashMap::from([("kms.example.com/local".to_owned(), b"yes".to_vec())]),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<wire::DecryptRequest>,
    ) -> Result<Response<wire::DecryptResponse>, Status> {
        let request = request.into_inner();
        self.0.lock().unwrap().asked.push("decrypt");
        assert_eq!(request.annotations["kms.example.com/local"], b"yes");
        let key = request
            .key_id
            .strip_prefix("key-")
            .and_then(|key| key.parse().ok());
        let key: u8 = key.ok_or_else(|| Status::invalid_argument("no such key"))?;
        Ok(Response::new(wire::DecryptResponse {
            plaintext: turned(&request.ciphertext, key),
        }))
    }
}

/// Serves until it is aborted.
fn serve(plugin: &Plugin, socket: &Path) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(socket).unwrap();
    let service = KeyManagementServiceServer::new(plugin.clone());
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            connections.spawn(async move {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // Its clients come and go.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn config(socket: &Path, rest: &str) -> Encryption {
    Encryption::parse(&format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: [{{resources: [secrets], \
         providers: [{{kms: {{apiVersion: v2, name: local, endpoint: 'unix://{}', timeout: 2s}}}}{rest}]}}]}}",
        socket.display()
    ))
    .unwrap()
}

const SECRETS: &str = "/api/v1/namespaces/default/secrets";

async fn stored(rig: &Rig, name: &str) -> Vec<u8> {
    let key = format!("/registry/secrets/default/{name}");
    let range = RangeRequest::new(KeyRange::Key(key.into_bytes().into()));
    let answer = rig.store.range(range).await.unwrap();
    answer.kvs[0].value.to_vec()
}

async fn make(rig: &Rig, name: &str) -> (u16, String) {
    let secret = json!({"metadata": {"name": name}, "stringData": {"k": "hush-hush"}});
    let (code, _, text) = ask(rig, admin(), ("POST", SECRETS), &[], secret).await;
    (code, text)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_management_service_seals_and_turns_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let plugin = Plugin::default();
    let mut served = serve(&plugin, &socket);
    let plain = Rig::start().await;
    let rig = plain
        .beside_with(|other| other.encryption = Some(config(&socket, ", {identity: {}}")))
        .await;
    for number in 0..20 {
        assert_eq!(make(&rig, &format!("s{number}")).await.0, 201);
    }
    let first = stored(&rig, "s0").await;
    assert!(first.starts_with(b"k8s:enc:kms:v2:local:"), "{first:?}");
    assert!(holds(&first, "key-0") && !holds(&first, "hush") && !holds(&first, "aHVzaC1odXNo"));
    assert_eq!(plugin.asked("encrypt"), 1, "one seed for all objects");
    assert_eq!(plugin.asked("decrypt"), 0);
    assert_eq!(get(&rig, "/readyz/kms-provider-0").await, (200, "ok".to_owned()));

    // Another server reads them all with one question, and what nobody has sealed.
    let other = rig
        .beside_with(|other| other.encryption = Some(config(&socket, ", {identity: {}}")))
        .await;
    let (_, list) = get(&other, SECRETS).await;
    assert_eq!(list.matches("aHVzaC1odXNo").count(), 20, "{list}");
    assert_eq!(plugin.asked("decrypt"), 1);

    // The key turns: what it sealed is still read, and sealed anew when it is written.
    plugin.turn(1);
    until("the server knows the new key", async || {
        get(&rig, "/livez/kms-provider-0").await;
        make(&rig, &format!("t{}", plugin.asked("status"))).await;
        (plugin.asked("encrypt") > 2).then_some(())
    })
    .await;
    let place = format!("{SECRETS}/s0");
    let (_, text) = get(&rig, &place).await;
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["data"]["k"], "aHVzaC1odXNo");
    assert_eq!(ask(&rig, admin(), ("PUT", &place), &[], object).await.0, 200);
    assert!(holds(&stored(&rig, "s0").await, "key-1"));
    assert!(holds(&stored(&rig, "s1").await, "key-0"));

    // Without its plugin a server that knows the seed works on, and says that it is not healthy; a new one does not
    // start on what it cannot read.
    served.abort();
    let _ = (&mut served).await;
    std::fs::remove_file(&socket).unwrap();
    assert_eq!(make(&rig, "still").await.0, 201);
    until("it is not healthy", async || {
        (get(&rig, "/livez").await.0 == 500).then_some(())
    })
    .await;
    let store = rig.store.clone();
    let blind = tokio::spawn({
        let encryption = config(&socket, "");
        async move { rig::starts(store, encryption).await }
    });
    let refusal = blind.await.unwrap().unwrap_err().to_string();
    assert!(refusal.contains("cannot be decrypted"), "{refusal}");

    // Once the plugin is back, so is its health.
    served = serve(&plugin, &socket);
    until("it is healthy again", async || {
        (get(&rig, "/livez").await.0 == 200).then_some(())
    })
    .await;
    other.api.shutdown().await;
    rig.api.shutdown().await;
    plain.stop().await;
    served.abort();
}

/// A plugin that is not there yet is no reason not to start, but nothing is sealed meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_in_the_clear_while_the_plugin_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("kms.sock");
    let rig = Rig::start_with(|own| own.encryption = Some(config(&socket, ""))).await;
    let (code, text) = make(&rig, "early").await;
    assert_eq!(code, 500, "{text}");
    assert!(text.contains("cannot be encrypted"), "{text}");
    let plugin = Plugin::default();
    let served = serve(&plugin, &socket);
    until("it seals", async || {
        let (code, _) = make(&rig, "late").await;
        matches!(code, 201 | 409).then_some(())
    })
    .await;
    assert!(stored(&rig, "late").await.starts_with(b"k8s:enc:kms:v2:local:"));
    rig.stop().await;
    served.abort();
}
