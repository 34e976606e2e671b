//! A key management service as a provider: KMS v2, a plugin on a unix socket.
//!
//! A random seed is encrypted by the plugin once for each key that it names, and a key is derived of it for each
//! object, so that the plugin is asked at the start, when its key turns, and for each seed that is read for the
//! first time. Invariants: what cannot be sealed by the plugin's key of the last minutes is not sealed at all; what
//! an older key has sealed is stale. `plugin` is the conversation, `envelope` the ciphers. KMS v1 is left out.

mod envelope;
mod plugin;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prost::Message;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::cipher::CipherError;
use envelope::Seed;
use plugin::{Ask, Plugin};

/// The messages of `proto/kms.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
mod wire {
    tonic::include_proto!("v2");
}

use wire::{EncryptedDekSourceType, EncryptedObject};

/// How long a seed serves after the plugin has last said that its key is the one, as in the original.
const SEED_VALID: Duration = Duration::from_secs(180);
/// Seeds that are kept open; over it, all are forgotten.
const SEEDS_MAX: usize = 1000;

/// Of the configuration file.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub name: String,
    pub socket: PathBuf,
    pub timeout: Duration,
}

/// The seed of what is sealed now.
#[derive(Clone)]
struct Current {
    seed: Arc<Seed>,
    /// All but the data.
    form: EncryptedObject,
    valid_until: Instant,
}

/// What the provider and its plugin's thread share.
#[derive(Default)]
struct Shared {
    current: Mutex<Option<Current>>,
    /// Why the plugin is not healthy; empty where it is.
    problem: Mutex<String>,
}

impl Shared {
    fn current(&self) -> Option<Current> {
        lock(&self.current).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module.
pub(super) struct Kms {
    name: String,
    prefix: String,
    plugin: Plugin,
    shared: Arc<Shared>,
    /// By what the plugin made of them, and its type.
    opened: Mutex<HashMap<(Vec<u8>, i32), Arc<Seed>>>,
}

impl Kms {
    /// Starts to ask the plugin, which need not be there yet.
    pub(super) fn start(settings: Settings) -> Result<Self, String> {
        let shared = Arc::<Shared>::default();
        let plugin = Plugin::start(&settings, shared.clone())?;
        Ok(Self {
            prefix: format!("k8s:enc:kms:v2:{}:", settings.name),
            name: settings.name,
            plugin,
            shared,
            opened: Mutex::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    /// What is wrong with the plugin, asked of it now.
    pub(super) fn problem(&self) -> Option<String> {
        if let Err(problem) = self.ask(|reply| Ask::Refresh { reply }) {
            return Some(problem.to_string());
        }
        Some(lock(&self.shared.problem).clone()).filter(|problem| !problem.is_empty())
    }

    /// The stored form, its prefix included.
    pub(super) fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, CipherError> {
        let current = match self.valid() {
            Some(current) => current,
            None => {
                self.ask(|reply| Ask::Refresh { reply })?;
                self.valid()
                    .ok_or_else(|| CipherError::Kms(lock(&self.shared.problem).clone()))?
            }
        };
        let mut form = current.form;
        form.encrypted_data = current.seed.seal(plain, place)?;
        let mut stored = self.prefix.clone().into_bytes();
        // A vector takes all.
        let _ = form.encode(&mut stored);
        Ok(stored)
    }

    fn valid(&self) -> Option<Current> {
        let current = self.shared.current();
        current.filter(|current| current.valid_until > Instant::now())
    }

    /// The object of what follows the prefix, and whether an older key has sealed it.
    pub(super) fn open(&self, sealed: &[u8], place: &[u8]) -> Result<(Vec<u8>, bool), CipherError> {
        let form = EncryptedObject::decode(sealed).map_err(|_| CipherError::Open)?;
        let current = self.shared.current();
        let stale = current.as_ref().is_some_and(|current| {
            current.form.key_id != form.key_id
                || form.encrypted_dek_source_type != current.form.encrypted_dek_source_type
        });
        let seed = match current {
            Some(current) if current.form.encrypted_dek_source == form.encrypted_dek_source => current.seed,
            _ => self.seed(&form)?,
        };
        Ok((seed.open(&form.encrypted_data, place)?, stale))
    }

    fn seed(&self, form: &EncryptedObject) -> Result<Arc<Seed>, CipherError> {
        let key = (form.encrypted_dek_source.clone(), form.encrypted_dek_source_type);
        if let Some(seed) = lock(&self.opened).get(&key) {
            return Ok(seed.clone());
        }
        let derives = match form.encrypted_dek_source_type() {
            EncryptedDekSourceType::AesGcmKey => false,
            EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed => true,
        };
        let form = form.clone();
        let secret = self.ask(move |reply| Ask::Decrypt { form, reply })?;
        let seed = Arc::new(Seed::new(secret, derives)?);
        let mut opened = lock(&self.opened);
        if opened.len() >= SEEDS_MAX {
            opened.clear();
        }
        opened.insert(key, seed.clone());
        Ok(seed)
    }

    /// Asks the plugin's thread and waits, off the async workers where there are several.
    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(plugin::Reply<T>) -> Ask) -> Result<T, CipherError> {
        let wait = || self.plugin.ask(ask).map_err(CipherError::Kms);
        match Handle::try_current().map(|handle| handle.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
            _ => wait(),
        }
    }
}
