//! ECDSA keys over P-256, as PEM: PKCS#8 for the private, SubjectPublicKeyInfo for the public one.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

use crate::Error;

/// What stands before the point in the DER form of every such public key.
const PUBLIC_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point.
const POINT_BYTES: usize = 65;
const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";

fn read(text: &str, what: &'static str, wanted: &'static str) -> Result<Vec<u8>, Error> {
    let failed = |message: String| Error::Pem {
        what,
        wanted,
        message,
    };
    let block = pem::parse(text).map_err(|error| failed(error.to_string()))?;
    if block.tag() != wanted {
        return Err(failed(format!("it is a {}", block.tag())));
    }
    Ok(block.into_contents())
}

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: Vec<u8>,
}

impl PublicKey {
    /// Reads a `PUBLIC KEY` in PEM.
    ///
    /// # Errors
    /// When it is none, or of another kind.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let der = read(text, "the public key", PUBLIC)?;
        let is_p256 = der.len() == PUBLIC_PREFIX.len() + POINT_BYTES && der.starts_with(&PUBLIC_PREFIX);
        is_p256
            .then_some(Self { der })
            .ok_or(Error::NotP256("the public key"))
    }

    /// PEM text.
    pub fn to_pem(&self) -> String {
        pem::encode(&pem::Pem::new(PUBLIC, self.der.clone()))
    }

    /// What bundles call it: the digest of its DER form, in base64.
    pub fn hint(&self) -> String {
        BASE64_STANDARD.encode(Sha256::digest(&self.der))
    }

    /// Whether it made this signature over these bytes.
    pub(crate) fn made(&self, signature: &[u8], bytes: &[u8]) -> bool {
        let point = &self.der[PUBLIC_PREFIX.len()..];
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point);
        key.verify(bytes, signature).is_ok()
    }
}

/// Who signs.
pub struct PrivateKey {
    document: Vec<u8>,
    pair: EcdsaKeyPair,
}

impl PrivateKey {
    /// A new one.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| Error::Random)?;
        Self::from_der(document.as_ref().to_vec())
    }

    /// Reads a `PRIVATE KEY` (PKCS#8, not encrypted) in PEM.
    ///
    /// # Errors
    /// When it is none, or of another kind.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        Self::from_der(read(text, "the private key", PRIVATE)?)
    }

    fn from_der(document: Vec<u8>) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &document, &random)
            .map_err(|_| Error::NotP256("the private key"))?;
        Ok(Self { document, pair })
    }

    /// PEM text.
    pub fn to_pem(&self) -> String {
        pem::encode(&pem::Pem::new(PRIVATE, self.document.clone()))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut der = PUBLIC_PREFIX.to_vec();
        der.extend_from_slice(self.pair.public_key().as_ref());
        PublicKey { der }
    }

    /// Signs bytes, by their SHA-256, in DER.
    ///
    /// # Errors
    /// When the machine gives no random numbers.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let signature = self.pair.sign(&SystemRandom::new(), bytes);
        signature
            .map(|made| made.as_ref().to_vec())
            .map_err(|_| Error::Random)
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey").finish_non_exhaustive()
    }
}
