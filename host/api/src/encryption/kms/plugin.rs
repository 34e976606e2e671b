//! The conversation with a plugin, on a thread of its own: the registry seals and opens without being async.
//!
//! The plugin's status is asked every minute, every ten seconds while something is wrong, and whenever somebody wants
//! to know. A key that it newly names gets a new seed. Invariant: every call is bounded by the configured time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use super::super::cipher::random;
use super::envelope::{SECRET_BYTES, Seed};
use super::wire::key_management_service_client::KeyManagementServiceClient;
use super::wire::{DecryptRequest, EncryptRequest, EncryptedDekSourceType, EncryptedObject, StatusRequest};
use super::{Current, SEED_VALID, Settings, Shared, lock};

const STATUS_PAUSE: Duration = Duration::from_secs(60);
const STATUS_PAUSE_UNHEALTHY: Duration = Duration::from_secs(10);
/// Questions that wait for the thread.
const ASKS_MAX: usize = 256;
/// Bounds of what a plugin says, as in the original.
const KEY_ID_BYTES_MAX: usize = 1024;
const SOURCE_BYTES_MAX: usize = 1024;
const ANNOTATIONS_BYTES_MAX: usize = 32 * 1024;

pub(super) type Reply<T> = blocking::SyncSender<Result<T, String>>;

/// What the thread is asked for.
pub(super) enum Ask {
    /// The status, and a seed of its key.
    Refresh { reply: Reply<()> },
    /// The seed of a stored form.
    Decrypt {
        form: EncryptedObject,
        reply: Reply<Vec<u8>>,
    },
}

/// The thread; it ends when this is dropped.
pub(super) struct Plugin {
    asks: mpsc::Sender<Ask>,
    /// For an answer: several calls may be made for one.
    patience: Duration,
}

impl Plugin {
    pub(super) fn start(settings: &Settings, shared: Arc<Shared>) -> Result<Self, String> {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("the runtime of kms provider {:?}: {error}", settings.name))?;
        let (name, socket, timeout) = (settings.name.clone(), settings.socket.clone(), settings.timeout);
        let run = move || {
            let talk = async {
                let client = client(&name, socket);
                Talk {
                    name,
                    client,
                    timeout,
                    shared,
                }
                .run(asked)
                .await;
            };
            runtime.block_on(talk);
        };
        let started = std::thread::Builder::new().name("kms".into()).spawn(run);
        started.map_err(|error| format!("the thread of kms provider {:?}: {error}", settings.name))?;
        Ok(Self {
            asks,
            patience: timeout.saturating_mul(3),
        })
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> Ask) -> Result<T, String> {
        let (reply, answer) = blocking::sync_channel(1);
        let sent = self.asks.try_send(ask(reply));
        sent.map_err(|_| "too many ask the kms provider".to_owned())?;
        let answered = answer.recv_timeout(self.patience);
        answered.map_err(|_| "the kms provider did not answer in time".to_owned())?
    }
}

fn client(name: &str, socket: PathBuf) -> KeyManagementServiceClient<Channel> {
    // The name stands in no request; the socket is what is dialled.
    let endpoint = Endpoint::from_static("http://kms.invalid");
    tracing::debug!(name, socket = %socket.display(), "kms provider");
    let dial = tower::service_fn(move |_: http::Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    KeyManagementServiceClient::new(endpoint.connect_with_connector_lazy(dial))
}

struct Talk {
    name: String,
    client: KeyManagementServiceClient<Channel>,
    timeout: Duration,
    shared: Arc<Shared>,
}

impl Talk {
    async fn run(mut self, mut asked: mpsc::Receiver<Ask>) {
        loop {
            let answer = self.refresh().await;
            let pause = match answer {
                Ok(()) => STATUS_PAUSE,
                Err(_) => STATUS_PAUSE_UNHEALTHY,
            };
            let next = tokio::time::sleep(pause);
            tokio::pin!(next);
            loop {
                tokio::select! {
                    () = &mut next => break,
                    ask = asked.recv() => match ask {
                        None => return,
                        Some(ask) => self.answer(ask).await,
                    },
                }
            }
        }
    }

    async fn answer(&mut self, ask: Ask) {
        // Who asked may have given up.
        match ask {
            Ask::Refresh { reply } => drop(reply.try_send(self.refresh().await)),
            Ask::Decrypt { form, reply } => drop(reply.try_send(self.decrypt(form).await)),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    async fn refresh(&mut self) -> Result<(), String> {
        let found = tokio::time::timeout(self.timeout.saturating_mul(2), self.look()).await;
        let found = found.unwrap_or_else(|_| Err("the kms provider did not answer in time".into()));
        let found = found.map_err(|why| format!("kms provider {:?}: {why}", self.name));
        let problem = found.as_ref().err().cloned().unwrap_or_default();
        if !problem.is_empty() {
            tracing::warn!(problem, "a key management service is not healthy");
        }
        *lock(&self.shared.problem) = problem;
        found
    }

    async fn look(&mut self) -> Result<(), String> {
        let request = self.request(StatusRequest {});
        let status = self
            .client
            .status(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = status.into_inner();
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            return Err(format!("expected KMSv2 API version v2, got {}", status.version));
        }
        if status.healthz != "ok" {
            return Err(format!(
                "expected KMSv2 healthz status ok, got {}",
                status.healthz
            ));
        }
        check_key_id(&status.key_id)?;
        let mut current = self.shared.current();
        if current
            .as_ref()
            .is_none_or(|current| current.form.key_id != status.key_id)
        {
            let fresh = self.seed().await?;
            if fresh.form.key_id != status.key_id {
                return Err(format!(
                    "the status names key {:?}, but key {:?} encrypts",
                    status.key_id, fresh.form.key_id
                ));
            }
            current = Some(fresh);
        }
        if let Some(current) = &mut current {
            current.valid_until = Instant::now() + SEED_VALID;
        }
        *lock(&self.shared.current) = current;
        Ok(())
    }

    /// A new seed, encrypted by the plugin.
    async fn seed(&mut self) -> Result<Current, String> {
        let secret: [u8; SECRET_BYTES] = random().map_err(|error| error.to_string())?;
        let request = self.request(EncryptRequest {
            plaintext: secret.to_vec(),
            uid: uuid::Uuid::new_v4().to_string(),
        });
        let made = self
            .client
            .encrypt(request)
            .await
            .map_err(|error| error.to_string())?;
        let made = made.into_inner();
        check_key_id(&made.key_id)?;
        if made.ciphertext.is_empty() || made.ciphertext.len() > SOURCE_BYTES_MAX {
            return Err(format!(
                "encrypted DEK source is {} bytes, expected 1 to {SOURCE_BYTES_MAX}",
                made.ciphertext.len()
            ));
        }
        let annotations = made
            .annotations
            .iter()
            .map(|(key, value)| key.len() + value.len());
        if annotations.sum::<usize>() > ANNOTATIONS_BYTES_MAX {
            return Err(format!("annotations are more than {ANNOTATIONS_BYTES_MAX} bytes"));
        }
        let seed = Seed::new(secret.to_vec(), true).map_err(|error| error.to_string())?;
        Ok(Current {
            seed: Arc::new(seed),
            form: EncryptedObject {
                encrypted_data: Vec::new(),
                key_id: made.key_id,
                encrypted_dek_source: made.ciphertext,
                annotations: made.annotations,
                encrypted_dek_source_type: EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed.into(),
            },
            valid_until: Instant::now() + SEED_VALID,
        })
    }

    async fn decrypt(&mut self, form: EncryptedObject) -> Result<Vec<u8>, String> {
        let request = self.request(DecryptRequest {
            ciphertext: form.encrypted_dek_source,
            uid: uuid::Uuid::new_v4().to_string(),
            key_id: form.key_id,
            annotations: form.annotations,
        });
        let answer = tokio::time::timeout(self.timeout, self.client.decrypt(request)).await;
        let answer = answer.map_err(|_| "the kms provider did not answer in time".to_owned())?;
        let answer = answer.map_err(|error| format!("kms provider {:?}: {error}", self.name))?;
        Ok(answer.into_inner().plaintext)
    }
}

fn check_key_id(key_id: &str) -> Result<(), String> {
    match key_id.len() {
        0 => Err("got empty key id".into()),
        bytes if bytes > KEY_ID_BYTES_MAX => Err(format!(
            "key id is {bytes} bytes, which exceeds the max size of {KEY_ID_BYTES_MAX}"
        )),
        _ => Ok(()),
    }
}
