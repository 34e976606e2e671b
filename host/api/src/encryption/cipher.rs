//! The ciphers of the original's providers, each in the form in which it stands in the store. Pure, but for
//! the random nonce.
//!
//! `aescbc`: IV and PKCS#7-padded blocks; `aesgcm`: nonce, then ciphertext and tag, with the object's key as
//! authenticated data; `secretbox`: nonce, then NaCl's box. A key is checked when the cipher is made.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead, KeyInit, Nonce, Payload};
use crypto_secretbox::aead::{Aead as _, KeyInit as _};
use ring::rand::{SecureRandom, SystemRandom};

const BLOCK_BYTES: usize = 16;
const GCM_NONCE_BYTES: usize = 12;
const BOX_NONCE_BYTES: usize = 24;

/// Why a value could not be turned.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CipherError {
    #[error("the stored data was shorter than the required size")]
    Short,
    #[error("the data cannot be opened with this key")]
    Open,
    #[error("the data cannot be sealed")]
    Seal,
    #[error("there is no randomness")]
    Random,
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
    #[error("no matching prefix found")]
    NoPrefix,
    /// What the key management service is not up to.
    #[error("{0}")]
    Kms(String),
}

/// A cipher with its key.
pub(super) enum Cipher {
    Cbc(Vec<u8>),
    Gcm(Gcm),
    Secretbox(Box<crypto_secretbox::XSalsa20Poly1305>),
}

pub(super) enum Gcm {
    Aes128(Box<AesGcm<Aes128, U12>>),
    Aes192(Box<AesGcm<Aes192, U12>>),
    Aes256(Box<AesGcm<Aes256, U12>>),
}

impl Cipher {
    /// None where the key has not the right size.
    pub(super) fn cbc(key: &[u8]) -> Option<Self> {
        matches!(key.len(), 16 | 24 | 32).then(|| Self::Cbc(key.to_vec()))
    }

    /// None where the key has not the right size.
    pub(super) fn gcm(key: &[u8]) -> Option<Self> {
        let gcm = match key.len() {
            16 => Gcm::Aes128(Box::new(AesGcm::new_from_slice(key).ok()?)),
            24 => Gcm::Aes192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            32 => Gcm::Aes256(Box::new(AesGcm::new_from_slice(key).ok()?)),
            _ => return None,
        };
        Some(Self::Gcm(gcm))
    }

    /// None where the key has not the right size.
    pub(super) fn secretbox(key: &[u8]) -> Option<Self> {
        let cipher = crypto_secretbox::XSalsa20Poly1305::new_from_slice(key).ok()?;
        Some(Self::Secretbox(Box::new(cipher)))
    }

    /// The stored form of a value.
    pub(super) fn seal(&self, plain: &[u8], key: &[u8]) -> Result<Vec<u8>, CipherError> {
        match self {
            Self::Cbc(secret) => {
                let iv: [u8; BLOCK_BYTES] = random()?;
                let body = cbc_encrypt(secret, &iv, plain).ok_or(CipherError::Seal)?;
                Ok([iv.as_slice(), &body].concat())
            }
            Self::Gcm(gcm) => {
                let nonce: [u8; GCM_NONCE_BYTES] = random()?;
                let payload = Payload { msg: plain, aad: key };
                let body = match gcm {
                    Gcm::Aes128(cipher) => {
                        cipher.encrypt(&Nonce::<AesGcm<Aes128, U12>>::from(nonce), payload)
                    }
                    Gcm::Aes192(cipher) => {
                        cipher.encrypt(&Nonce::<AesGcm<Aes192, U12>>::from(nonce), payload)
                    }
                    Gcm::Aes256(cipher) => {
                        cipher.encrypt(&Nonce::<AesGcm<Aes256, U12>>::from(nonce), payload)
                    }
                };
                Ok([nonce.as_slice(), &body.map_err(|_| CipherError::Seal)?].concat())
            }
            Self::Secretbox(cipher) => {
                let nonce: [u8; BOX_NONCE_BYTES] = random()?;
                let body = cipher.encrypt(&nonce.into(), plain);
                Ok([nonce.as_slice(), &body.map_err(|_| CipherError::Seal)?].concat())
            }
        }
    }

    /// The value of a stored form.
    pub(super) fn open(&self, stored: &[u8], key: &[u8]) -> Result<Vec<u8>, CipherError> {
        match self {
            Self::Cbc(secret) => {
                let (iv, body) = stored
                    .split_first_chunk::<BLOCK_BYTES>()
                    .ok_or(CipherError::Short)?;
                cbc_decrypt(secret, iv, body).ok_or(CipherError::Open)
            }
            Self::Gcm(gcm) => {
                let (nonce, msg) = stored
                    .split_first_chunk::<GCM_NONCE_BYTES>()
                    .ok_or(CipherError::Short)?;
                let payload = Payload { msg, aad: key };
                let plain = match gcm {
                    Gcm::Aes128(cipher) => {
                        cipher.decrypt(&Nonce::<AesGcm<Aes128, U12>>::from(*nonce), payload)
                    }
                    Gcm::Aes192(cipher) => {
                        cipher.decrypt(&Nonce::<AesGcm<Aes192, U12>>::from(*nonce), payload)
                    }
                    Gcm::Aes256(cipher) => {
                        cipher.decrypt(&Nonce::<AesGcm<Aes256, U12>>::from(*nonce), payload)
                    }
                };
                plain.map_err(|_| CipherError::Open)
            }
            Self::Secretbox(cipher) => {
                let (nonce, body) = stored
                    .split_first_chunk::<BOX_NONCE_BYTES>()
                    .ok_or(CipherError::Short)?;
                cipher
                    .decrypt(&(*nonce).into(), body)
                    .map_err(|_| CipherError::Open)
            }
        }
    }
}

pub(super) fn random<const BYTES: usize>() -> Result<[u8; BYTES], CipherError> {
    let mut bytes = [0; BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| CipherError::Random)?;
    Ok(bytes)
}

fn cbc_encrypt(secret: &[u8], iv: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    fn with<C: KeyIvInit + BlockModeEncrypt>(secret: &[u8], iv: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let cipher = C::new_from_slices(secret, iv).ok()?;
        Some(cipher.encrypt_padded_vec::<Pkcs7>(plain))
    }
    match secret.len() {
        16 => with::<cbc::Encryptor<Aes128>>(secret, iv, plain),
        24 => with::<cbc::Encryptor<Aes192>>(secret, iv, plain),
        _ => with::<cbc::Encryptor<Aes256>>(secret, iv, plain),
    }
}

fn cbc_decrypt(secret: &[u8], iv: &[u8], body: &[u8]) -> Option<Vec<u8>> {
    fn with<C: KeyIvInit + BlockModeDecrypt>(secret: &[u8], iv: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let cipher = C::new_from_slices(secret, iv).ok()?;
        cipher.decrypt_padded_vec::<Pkcs7>(body).ok()
    }
    match secret.len() {
        16 => with::<cbc::Decryptor<Aes128>>(secret, iv, body),
        24 => with::<cbc::Decryptor<Aes192>>(secret, iv, body),
        _ => with::<cbc::Decryptor<Aes256>>(secret, iv, body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let key = [7_u8; 32];
        for cipher in [
            Cipher::cbc(&key[..16]),
            Cipher::cbc(&key[..24]),
            Cipher::cbc(&key),
            Cipher::gcm(&key[..16]),
            Cipher::gcm(&key[..24]),
            Cipher::gcm(&key),
            Cipher::secretbox(&key),
        ] {
            let cipher = cipher.unwrap();
            for plain in [&b""[..], b"x", &[3; 16], &[9; 1000]] {
                let sealed = cipher.seal(plain, b"/registry/secrets/a/b").unwrap();
                assert_ne!(sealed, cipher.seal(plain, b"/registry/secrets/a/b").unwrap());
                assert_eq!(cipher.open(&sealed, b"/registry/secrets/a/b").unwrap(), plain);
                assert_eq!(cipher.open(&sealed[..5], b"").unwrap_err(), CipherError::Short);
                let mut torn = sealed.clone();
                torn.pop();
                assert!(cipher.open(&torn, b"/registry/secrets/a/b").is_err());
                if matches!(cipher, Cipher::Gcm(_)) {
                    assert!(cipher.open(&sealed, b"/registry/secrets/a/c").is_err());
                }
            }
        }
        assert!(Cipher::cbc(&key[..5]).is_none() && Cipher::secretbox(&key[..16]).is_none());
    }

    /// Made by libsodium's `crypto_secretbox_easy`: the tag stands before the ciphertext.
    #[test]
    fn a_box_is_nacls() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect()
        };
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let message = hex(concat!(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c612",
            "96cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1f",
            "de048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
        ));
        let boxed = hex(concat!(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186",
            "ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526",
            "ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45",
            "a74e355a5"
        ));
        let cipher = Cipher::secretbox(&key).unwrap();
        assert_eq!(cipher.open(&[nonce, boxed].concat(), b"").unwrap(), message);
    }
}
