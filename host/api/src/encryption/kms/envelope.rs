//! The ciphers under a plugin's seed. Pure, but for the random numbers.
//!
//! The original's form: 32 random bytes, of which and of the seed a key is derived for this one object (HKDF-SHA256,
//! expand alone), then AES-256-GCM with a random nonce, the object's place in the store as authenticated data. What
//! older servers have sealed by the seed itself opens too.

use ring::hkdf::{HKDF_SHA256, Prk};

use super::super::cipher::{Cipher, CipherError, random};

/// Of a seed, of a derived key and of what it is derived with.
pub(super) const SECRET_BYTES: usize = 32;

/// A seed, or a key itself.
pub(super) struct Seed {
    secret: Secret,
}

enum Secret {
    Key(Box<Cipher>),
    Seed(Prk),
}

impl Seed {
    /// Of what the plugin has decrypted.
    pub(super) fn new(secret: Vec<u8>, derives: bool) -> Result<Self, CipherError> {
        let secret = match derives {
            true if secret.len() >= SECRET_BYTES => Secret::Seed(Prk::new_less_safe(HKDF_SHA256, &secret)),
            true => return Err(CipherError::Short),
            false => Secret::Key(Box::new(Cipher::gcm(&secret).ok_or(CipherError::Short)?)),
        };
        Ok(Self { secret })
    }

    pub(super) fn seal(&self, plain: &[u8], place: &[u8]) -> Result<Vec<u8>, CipherError> {
        match &self.secret {
            Secret::Key(key) => key.seal(plain, place),
            Secret::Seed(seed) => {
                let info: [u8; SECRET_BYTES] = random()?;
                let sealed = derived(seed, &info)?.seal(plain, place)?;
                Ok([info.as_slice(), &sealed].concat())
            }
        }
    }

    pub(super) fn open(&self, sealed: &[u8], place: &[u8]) -> Result<Vec<u8>, CipherError> {
        match &self.secret {
            Secret::Key(key) => key.open(sealed, place),
            Secret::Seed(seed) => {
                let (info, sealed) = sealed
                    .split_first_chunk::<SECRET_BYTES>()
                    .ok_or(CipherError::Short)?;
                derived(seed, info)?.open(sealed, place)
            }
        }
    }
}

fn derived(seed: &Prk, info: &[u8]) -> Result<Cipher, CipherError> {
    let mut key = [0; SECRET_BYTES];
    let info = [info];
    let made = seed.expand(&info, HKDF_SHA256);
    made.and_then(|made| made.fill(&mut key))
        .map_err(|_| CipherError::Seal)?;
    Cipher::gcm(&key).ok_or(CipherError::Seal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_has_a_key_of_its_own() {
        let seed = Seed::new(vec![7; SECRET_BYTES], true).unwrap();
        let (one, two) = (seed.seal(b"{}", b"/a").unwrap(), seed.seal(b"{}", b"/a").unwrap());
        assert_ne!(one[..SECRET_BYTES], two[..SECRET_BYTES]);
        assert_eq!(one.len(), SECRET_BYTES + 12 + 2 + 16);
        assert_eq!(seed.open(&one, b"/a").unwrap(), b"{}");
        assert_eq!(seed.open(&one, b"/b"), Err(CipherError::Open));
        assert_eq!(seed.open(&one[..9], b"/a"), Err(CipherError::Short));
        let other = Seed::new(vec![8; SECRET_BYTES], true).unwrap();
        assert_eq!(other.open(&one, b"/a"), Err(CipherError::Open));
        let key = Seed::new(vec![7; SECRET_BYTES], false).unwrap();
        assert_eq!(key.open(&key.seal(b"x", b"/a").unwrap(), b"/a").unwrap(), b"x");
        assert!(Seed::new(vec![7; 5], true).is_err() && Seed::new(vec![7; 5], false).is_err());
    }

    /// RFC 5869's third case, its pseudorandom key and the first 32 bytes of its output.
    #[test]
    fn keys_are_derived_as_the_standard_says() {
        let hex = |text: &str| -> Vec<u8> {
            let pairs = (0..text.len()).step_by(2);
            pairs
                .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
                .collect()
        };
        let seed = hex("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
        let mut key = [0; SECRET_BYTES];
        let made = Prk::new_less_safe(HKDF_SHA256, &seed);
        made.expand(&[b""], HKDF_SHA256).unwrap().fill(&mut key).unwrap();
        assert_eq!(
            key.to_vec(),
            hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d")
        );
    }
}
