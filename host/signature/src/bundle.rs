//! Sigstore's bundle: a signature over a digest, and what it is checked with.
//!
//! Read tolerantly: what is not needed to check a signature by a key is left alone. Written as version 0.3.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Error, PrivateKey, PublicKey};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// How every version's media type begins.
const MEDIA_TYPE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// Bytes of a bundle's text.
const BUNDLE_BYTES_MAX: usize = 256 << 10;

/// A signature of one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    digest: Vec<u8>,
    signature: Vec<u8>,
    hint: Option<String>,
}

impl Bundle {
    /// Signs a component.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn sign(key: &PrivateKey, component: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            digest: Sha256::digest(component).to_vec(),
            signature: key.sign(component)?,
            hint: Some(key.public().hint()),
        })
    }

    /// Reads a bundle.
    ///
    /// # Errors
    /// When it holds no signature over a SHA-256 digest.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > BUNDLE_BYTES_MAX {
            return Err(Error::Bundle(format!(
                "{} bytes are more than {BUNDLE_BYTES_MAX}",
                text.len()
            )));
        }
        let bundle = serde_json::from_str(text).map_err(|error| Error::Bundle(error.to_string()))?;
        Self::from_value(&bundle)
    }

    /// As `parse`, of what is JSON already.
    ///
    /// # Errors
    /// When it holds no signature over a SHA-256 digest.
    pub fn from_value(bundle: &Value) -> Result<Self, Error> {
        let bad = |message: &str| Error::Bundle(message.to_owned());
        let media_type = bundle["mediaType"].as_str().unwrap_or_default();
        if !media_type.starts_with(MEDIA_TYPE_PREFIX) {
            return Err(bad(&format!(
                "mediaType {media_type:?} is not of a Sigstore bundle"
            )));
        }
        if bundle.get("dsseEnvelope").is_some() {
            return Err(bad(
                "it holds an attestation (dsseEnvelope), not a messageSignature",
            ));
        }
        let message = &bundle["messageSignature"];
        let algorithm = message["messageDigest"]["algorithm"].as_str().unwrap_or_default();
        if algorithm != "SHA2_256" {
            return Err(bad(&format!(
                "messageDigest.algorithm is {algorithm:?}, not SHA2_256"
            )));
        }
        let bytes = |at: &Value, name: &str| {
            let text = at.as_str().unwrap_or_default();
            let bytes = BASE64_STANDARD
                .decode(text)
                .ok()
                .filter(|bytes| !bytes.is_empty());
            bytes.ok_or_else(|| bad(&format!("messageSignature.{name} is not base64")))
        };
        let hint = bundle["verificationMaterial"]["publicKey"]["hint"].as_str();
        Ok(Self {
            digest: bytes(&message["messageDigest"]["digest"], "messageDigest.digest")?,
            signature: bytes(&message["signature"], "signature")?,
            hint: hint.map(str::to_owned),
        })
    }

    /// The bundle as JSON.
    pub fn to_value(&self) -> Value {
        json!({
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": self.hint.clone().unwrap_or_default()}, "tlogEntries": []},
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": BASE64_STANDARD.encode(&self.digest)},
                "signature": BASE64_STANDARD.encode(&self.signature),
            },
        })
    }

    /// Checks that this key signed these very bytes.
    ///
    /// # Errors
    /// [`Error::Changed`] where they are not what was signed, [`Error::Forged`] where the key did not sign.
    pub fn verify(&self, key: &PublicKey, component: &[u8]) -> Result<(), Error> {
        let found = Sha256::digest(component);
        if found.as_slice() != self.digest {
            return Err(Error::Changed {
                signed: hex(&self.digest),
                found: hex(&found),
            });
        }
        // The digest is a claim; the signature is what counts, over the bytes themselves.
        key.made(&self.signature, component)
            .then_some(())
            .ok_or(Error::Forged)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm a component";

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let key = PrivateKey::generate().expect("a key");
        let bundle = Bundle::sign(&key, COMPONENT).expect("a signature");
        let again = Bundle::parse(&bundle.to_value().to_string()).expect("a bundle");
        assert_eq!(again, bundle);
        let public = PublicKey::from_pem(&key.public().to_pem()).expect("a key");
        assert_eq!(again.verify(&public, COMPONENT), Ok(()));
        assert!(matches!(
            again.verify(&public, b"changed"),
            Err(Error::Changed { .. })
        ));
        let other = PrivateKey::generate().expect("a key").public();
        assert_eq!(again.verify(&other, COMPONENT), Err(Error::Forged));
    }

    #[test]
    fn a_digest_of_other_bytes_does_not_carry_its_signature_over() {
        let key = PrivateKey::generate().expect("a key");
        let mut bundle = Bundle::sign(&key, COMPONENT).expect("a signature");
        // The forger changed the component and the digest, and kept the signature.
        bundle.digest = Sha256::digest(b"changed").to_vec();
        assert_eq!(bundle.verify(&key.public(), b"changed"), Err(Error::Forged));
    }

    #[test]
    fn every_byte_of_a_signature_counts() {
        let key = PrivateKey::generate().expect("a key");
        let bundle = Bundle::sign(&key, COMPONENT).expect("a signature");
        for at in 0..bundle.signature.len() {
            let mut forged = bundle.clone();
            forged.signature[at] ^= 1;
            assert_eq!(
                forged.verify(&key.public(), COMPONENT),
                Err(Error::Forged),
                "byte {at}"
            );
        }
    }

    #[test]
    fn keys_and_bundles_of_openssl_are_read() {
        // openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; openssl pkey -pubout;
        // printf component | openssl dgst -sha256 -sign
        let bundle = |signature: &str| {
            json!({"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2",
                   "messageSignature": {"messageDigest": {"algorithm": "SHA2_256",
                       "digest": BASE64_STANDARD.encode(Sha256::digest(b"component"))}, "signature": signature}})
        };
        let public = PublicKey::from_pem(include_str!("../testdata/key.pub")).expect("a key");
        let signature = include_str!("../testdata/signature.b64").trim();
        let bundle = Bundle::from_value(&bundle(signature)).expect("a bundle");
        assert_eq!(bundle.verify(&public, b"component"), Ok(()));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, why) in [
            ("", "EOF"),
            ("{}", "mediaType"),
            (
                r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": {}}"#,
                "attestation",
            ),
            (
                r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json"}"#,
                "SHA2_256",
            ),
            (
                r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "messageSignature":
                    {"messageDigest": {"algorithm": "SHA2_256", "digest": "AAAA"}, "signature": "*"}}"#,
                "messageSignature.signature",
            ),
        ] {
            let message = Bundle::parse(text).expect_err(why).to_string();
            assert!(message.contains(why), "{message}");
        }
        for text in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(PublicKey::from_pem(text).is_err(), "{text}");
        }
    }
}
