//! OpenID Connect: bearer tokens that a provider outside of the cluster has signed.
//!
//! The provider's keys are found by its discovery document, fetched when the first token comes and again when a
//! token names a key that is not among them. Invariants: nothing is believed before the signature holds; a
//! provider is asked at most every [`REFETCH_MIN`], for at most [`FETCH_MAX`]. Not here: distributed claims.

mod config;
mod document;
mod expressions;
mod fetch;
mod keys;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::sync::Mutex;

pub use config::OpenIdProvider;
pub use document::{AuthenticationConfiguration, ConfigurationError};

use self::fetch::Fetcher;
use self::keys::Keys;
use super::UserInfo;

/// Shortest time between two fetches of a provider's keys.
const REFETCH_MIN: Duration = Duration::from_secs(10);
/// Longest time that a request waits for them.
const FETCH_MAX: Duration = Duration::from_secs(10);

/// A provider, with the keys it had when it was last asked.
pub(super) struct Provider {
    config: OpenIdProvider,
    fetcher: Fetcher,
    keys: ArcSwap<Keys>,
    /// When the provider was last asked; held while it is, so that one asks for all.
    asked: Mutex<Option<Instant>>,
}

impl Provider {
    pub(super) fn new(config: OpenIdProvider) -> Result<Self, String> {
        let fetcher = Fetcher::new(config.ca_pem.as_deref())?;
        Ok(Self {
            config,
            fetcher,
            keys: ArcSwap::default(),
            asked: Mutex::default(),
        })
    }

    /// The user of a token; none where the token is not of this provider.
    pub(super) async fn user(&self, token: &str) -> Option<Result<UserInfo, String>> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, payload) = text.split_once('.')?;
        let decode = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let claims = decode(payload)?;
        if claims["iss"] != self.config.issuer_url {
            return None;
        }
        let header = decode(header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let verified = self.verify(&header, text.as_bytes(), &signature).await;
        let now = jiff::Timestamp::now().as_second();
        let user = verified.and_then(|()| self.config.user(&claims, now));
        Some(user.map_err(|why| format!("oidc: {why}")))
    }

    async fn verify(&self, header: &Value, text: &[u8], signature: &[u8]) -> Result<(), String> {
        let algorithm = header["alg"].as_str().unwrap_or_default();
        if !self.config.signing_algorithms.iter().any(|one| one == algorithm) {
            let known = &self.config.signing_algorithms;
            return Err(format!(
                "verify token: id token signed with unsupported algorithm, expected {known:?} got {algorithm:?}"
            ));
        }
        let key_id = header["kid"].as_str();
        // Whose key is known never waits for the provider.
        if self.keys.load().verify(key_id, algorithm, text, signature) {
            return Ok(());
        }
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|asked| asked.elapsed() >= REFETCH_MIN) {
            *asked = Some(Instant::now());
            let fetched = tokio::time::timeout(FETCH_MAX, self.fetch()).await;
            let keys = fetched.unwrap_or_else(|_| Err("the provider did not answer in time".to_owned()))?;
            self.keys.store(Arc::new(keys));
        }
        if self.keys.load().verify(key_id, algorithm, text, signature) {
            return Ok(());
        }
        Err("verify token: failed to verify signature: failed to verify id token signature".to_owned())
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let issuer = &self.config.issuer_url;
        let discovery = match &self.config.discovery_url {
            Some(url) => url.clone(),
            None => format!(
                "{}/.well-known/openid-configuration",
                issuer.trim_end_matches('/')
            ),
        };
        let document = self.fetcher.get(&discovery).await?;
        if document["issuer"] != **issuer {
            return Err(format!(
                "issuer did not match the issuer returned by provider, expected {issuer:?} got {}",
                document["issuer"]
            ));
        }
        let Some(url) = document["jwks_uri"].as_str() else {
            return Err("provider did not return JWKS URL".to_owned());
        };
        Ok(Keys::read(&self.fetcher.get(url).await?))
    }
}
