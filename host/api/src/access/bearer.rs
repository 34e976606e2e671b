//! Bearer tokens: the static table, and service accounts' JSON Web Tokens (ES256), signed and verified.
//!
//! A service account's token is good while it has not expired and the account (and the pod, secret or node that
//! it is bound to) still exists with the same uid. Bootstrap tokens are looked up beside them, and
//! tokens of other issuers are their providers'.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use capstan_kinds::resource::find;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::oidc::{OpenIdProvider, Provider};
use super::verified::Verified;
use super::{UserInfo, bootstrap};
use crate::config::StaticToken;
use crate::server::Server;
use crate::{Error, Result};

/// Bytes of a token at most.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Value,
    pub nbf: i64,
    pub sub: String,
}

/// See the module.
pub(crate) struct Tokens {
    key: EcdsaKeyPair,
    random: SystemRandom,
    pub(crate) issuer: String,
    known: Vec<([u8; 32], UserInfo)>,
    verified: Verified,
    providers: Vec<Provider>,
}

impl Tokens {
    pub(crate) fn new(
        key: Option<Vec<u8>>,
        issuer: String,
        known: Vec<StaticToken>,
        providers: Vec<OpenIdProvider>,
    ) -> Result<Self> {
        let providers = providers.into_iter().map(|one| {
            let url = one.issuer_url.clone();
            Provider::new(one).map_err(|why| Error::OpenIdProvider(url, why))
        });
        let providers = providers.collect::<Result<Vec<_>>>()?;
        let random = SystemRandom::new();
        let unusable = |error: &dyn std::fmt::Display| Error::ServiceAccountKey(error.to_string());
        let key = match key {
            Some(key) => key,
            None => EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map_err(|error| unusable(&error))?
                .as_ref()
                .to_vec(),
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random)
            .map_err(|error| unusable(&error))?;
        let known = known
            .into_iter()
            .map(|one| (digest(&one.token), one.user.authenticated()))
            .collect();
        Ok(Self {
            key,
            random,
            issuer,
            known,
            verified: Verified::default(),
            providers,
        })
    }

    /// The user of a token and the audiences it is good for, of those that are asked for (the API server's own
    /// where none is); else why it is not good.
    pub(crate) async fn user(
        &self,
        server: &Server,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), String> {
        const INVALID: &str = "invalid bearer token";
        if token.len() > TOKEN_BYTES_MAX {
            return Err(INVALID.to_owned());
        }
        let own = [self.issuer.clone()];
        let wanted = if audiences.is_empty() { &own[..] } else { audiences };
        let good: Vec<String> = wanted.iter().filter(|one| own.contains(one)).cloned().collect();
        // Comparing digests leaks nothing of the token through time.
        let hashed = digest(token);
        if let Some((_, user)) = self.known.iter().find(|(one, _)| *one == hashed) {
            return Ok((user.clone(), good));
        }
        if let Some(user) = bootstrap::user(server, token) {
            return Ok((user, good));
        }
        if let Some(claims) = self.verified(token, hashed) {
            let why = |why: String| format!("[{INVALID}, {why}]");
            let claims = claims.and_then(|claims| self.on_time(claims)).map_err(why)?;
            let good: Vec<String> = wanted
                .iter()
                .filter(|one| claims.aud.contains(one))
                .cloned()
                .collect();
            if good.is_empty() {
                return Err(why(format!(
                    "token audiences {:?} is invalid for the target audiences {wanted:?}",
                    claims.aud
                )));
            }
            return Ok((account(server, &claims).map_err(why)?, good));
        }
        for provider in &self.providers {
            if let Some(user) = provider.user(token).await {
                let user = user.map_err(|why| format!("[{INVALID}, {why}]"))?;
                return Ok((user, good));
            }
        }
        Err(INVALID.to_owned())
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &Claims) -> Option<String> {
        let payload = serde_json::to_vec(claims).ok()?;
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{}"}}"#, self.key_id())),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = self.key.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    /// As [`Self::verify`], once for each token.
    fn verified(&self, token: &str, hashed: [u8; 32]) -> Option<Result<Arc<Claims>, String>> {
        if let Some(claims) = self.verified.get(&hashed) {
            return Some(Ok(claims));
        }
        let verified = self.verify(token)?.map(Arc::new);
        if let Ok(claims) = &verified {
            self.verified.insert(hashed, claims.clone());
        }
        Some(verified)
    }

    /// The claims of a token that says that it is ours: none where it does not.
    fn verify(&self, token: &str) -> Option<Result<Claims, String>> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, payload) = text.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        if claims.iss != self.issuer {
            return None;
        }
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        let unsigned = || Some(Err("error in cryptographic primitive".to_owned()));
        if header["alg"] != "ES256" {
            return unsigned();
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        match key.verify(text.as_bytes(), &signature) {
            Ok(()) => Some(Ok(claims)),
            Err(_) => unsigned(),
        }
    }

    fn on_time(&self, claims: Arc<Claims>) -> Result<Arc<Claims>, String> {
        let now = jiff::Timestamp::now().as_second();
        if now < claims.nbf {
            return Err("service account token is not valid yet".to_owned());
        }
        if now >= claims.exp {
            return Err("service account token has expired".to_owned());
        }
        Ok(claims)
    }

    /// The key's name.
    fn key_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.key.public_key().as_ref()))
    }

    /// The public key as a JSON Web Key Set.
    pub(crate) fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (
            point.get(1..33).unwrap_or_default(),
            point.get(33..65).unwrap_or_default(),
        );
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256",
            "kid": self.key_id(),
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The account that the claims are of, where it and what the token is bound to are still the same.
fn account(server: &Server, claims: &Claims) -> Result<UserInfo, String> {
    let invalidated = || "service account token has been invalidated".to_owned();
    let about = &claims.kubernetes;
    let subject = claims.sub.strip_prefix("system:serviceaccount:");
    let (namespace, name) = subject
        .and_then(|one| one.split_once(':'))
        .ok_or_else(invalidated)?;
    let uid = about["serviceaccount"]["uid"].as_str().unwrap_or_default();
    let alive = |plural: &str, namespace: &str, object: &Value| {
        let kind = find("", "v1", plural)?;
        let (name, uid) = (object["name"].as_str()?, object["uid"].as_str()?);
        let entry = server.registry.cached(&kind, namespace, name)?;
        (&*entry.index.uid == uid).then_some(())
    };
    alive("serviceaccounts", namespace, &about["serviceaccount"]).ok_or_else(invalidated)?;
    let mut user = UserInfo::service_account(namespace, name, uid);
    let mut note = |key: &str, value: &Value| {
        if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
            let key = format!("authentication.kubernetes.io/{key}");
            user.extra.push((key, vec![value.to_owned()]));
        }
    };
    if !claims.jti.is_empty() {
        note("credential-id", &json!(format!("JTI={}", claims.jti)));
    }
    let (pod, node) = (&about["pod"], &about["node"]);
    if about["secret"].is_object() {
        alive("secrets", namespace, &about["secret"]).ok_or_else(invalidated)?;
    }
    if pod.is_object() {
        alive("pods", namespace, pod).ok_or_else(invalidated)?;
        note("pod-name", &pod["name"]);
        note("pod-uid", &pod["uid"]);
    } else if node.is_object() {
        // A pod's node is told but not looked at: the pod is.
        alive("nodes", "", node).ok_or_else(invalidated)?;
    }
    note("node-name", &node["name"]);
    note("node-uid", &node["uid"]);
    Ok(user.authenticated())
}
