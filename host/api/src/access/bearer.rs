//! Bearer tokens: the static table, and service accounts' JSON Web Tokens (ES256), signed and verified.
//!
//! A service account's token is good while it has not expired and the account (and the pod it is bound to)
//! still exists with the same uid.

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

use super::UserInfo;
use crate::config::StaticToken;
use crate::server::Server;
use crate::{Error, Result};

/// Bytes of a token at most.
const TOKEN_BYTES_MAX: usize = 16 << 10;
const HEADER: &str = r#"{"alg":"ES256","typ":"JWT"}"#;

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
}

impl Tokens {
    pub(crate) fn new(key: Option<Vec<u8>>, issuer: String, known: Vec<StaticToken>) -> Result<Self> {
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
        })
    }

    /// The user of a token and the audiences it is good for; none where it is not good.
    pub(crate) async fn user(
        &self,
        server: &Server,
        token: &str,
        audiences: Option<&[String]>,
    ) -> Option<(UserInfo, Vec<String>)> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        // Comparing digests leaks nothing of the token through time.
        let hashed = digest(token);
        if let Some((_, user)) = self.known.iter().find(|(one, _)| *one == hashed) {
            return Some((user.clone(), audiences.unwrap_or_default().to_vec()));
        }
        let claims = self.verify(token)?;
        let own = [self.issuer.clone()];
        let wanted = audiences.filter(|list| !list.is_empty()).unwrap_or(&own);
        let good: Vec<String> = wanted
            .iter()
            .filter(|one| claims.aud.contains(one))
            .cloned()
            .collect();
        if good.is_empty() {
            return None;
        }
        let user = account(server, &claims).await?;
        Some((user, good))
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &Claims) -> Option<String> {
        let payload = serde_json::to_vec(claims).ok()?;
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(HEADER),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = self.key.sign(&self.random, text.as_bytes()).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let (text, signature) = token.rsplit_once('.')?;
        let (header, payload) = text.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(text.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let now = jiff::Timestamp::now().as_second();
        (claims.iss == self.issuer && claims.nbf <= now && now < claims.exp).then_some(claims)
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
            "kid": URL_SAFE_NO_PAD.encode(Sha256::digest(point)),
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] })
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

async fn account(server: &Server, claims: &Claims) -> Option<UserInfo> {
    let (namespace, name) = claims
        .sub
        .strip_prefix("system:serviceaccount:")?
        .split_once(':')?;
    let uid = claims.kubernetes["serviceaccount"]["uid"].as_str()?;
    let accounts = find("", "v1", "serviceaccounts")?;
    let alive = server.registry.cached(&accounts, namespace, name)?;
    if &*alive.index.uid != uid {
        return None;
    }
    let mut user = UserInfo::service_account(namespace, name, uid);
    if let Some(pod) = claims.kubernetes["pod"]["name"].as_str() {
        let pods = find("", "v1", "pods")?;
        let bound = server.registry.cached(&pods, namespace, pod)?;
        if Some(&*bound.index.uid) != claims.kubernetes["pod"]["uid"].as_str() {
            return None;
        }
        user.extra = vec![
            (
                "authentication.kubernetes.io/pod-name".into(),
                vec![pod.to_owned()],
            ),
            (
                "authentication.kubernetes.io/pod-uid".into(),
                vec![bound.index.uid.to_string()],
            ),
        ];
    }
    Some(user.authenticated())
}
