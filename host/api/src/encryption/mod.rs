//! Encryption at rest: what the registry writes to the store is sealed by the first provider of the resource's
//! rule, and what it reads is opened by whichever of its providers sealed it.
//!
//! The stored form is the original's (`k8s:enc:aescbc:v1:KEYNAME:` and the ciphertext), so that an original on
//! the same store reads it. A value that another provider or key than the first has sealed is stale: the next
//! write of the object seals it anew, even where nothing else changed. Left out: reading the file again
//! while the server runs.

mod cipher;
mod config;
mod kms;

use std::path::Path;

use bytes::Bytes;

use self::cipher::Cipher;
pub(crate) use self::cipher::CipherError;
use self::kms::Kms;

/// How every sealed value begins.
pub(crate) const ENCRYPTED: &[u8] = b"k8s:enc:";

/// How the health check of a key management service is called, before its number.
const KMS_CHECK: &str = "kms-provider-";

enum Provider {
    /// As it is.
    Identity,
    /// By the first of the named keys; opened by any.
    Ciphers {
        prefix: String,
        ciphers: Vec<(String, Cipher)>,
    },
    /// By a plugin's key.
    Kms(Kms),
}

/// The file of `--encryption-provider-config`, read and checked.
pub struct Encryption {
    rules: Vec<config::Rule>,
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let resources: Vec<&String> = self.rules.iter().flat_map(|rule| &rule.resources).collect();
        f.debug_struct("Encryption")
            .field("resources", &resources)
            .finish_non_exhaustive()
    }
}

impl Encryption {
    /// Reads an `EncryptionConfiguration`, YAML or JSON; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self {
            rules: config::parse(text)?,
        })
    }

    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path);
        let parsed = text
            .map_err(|error| error.to_string())
            .and_then(|text| Self::parse(&text));
        parsed.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The names of the health checks of key management services.
    pub(crate) fn checks(&self) -> Vec<String> {
        let all = self.kms().enumerate();
        all.map(|(index, _)| format!("{KMS_CHECK}{index}")).collect()
    }

    /// What is wrong with the service of a health check; waits for it.
    pub(crate) fn problem(&self, check: &str) -> Option<String> {
        let index = check.strip_prefix(KMS_CHECK)?.parse().ok()?;
        self.kms().nth(index)?.problem()
    }

    fn kms(&self) -> impl Iterator<Item = &Kms> {
        let providers = self.rules.iter().flat_map(|rule| &rule.providers);
        providers.filter_map(|provider| match provider {
            Provider::Kms(kms) => Some(kms),
            _ => None,
        })
    }

    /// The providers of a kind's storage prefix: of its own name, of its group's, of all.
    fn providers(&self, prefix: &str) -> Vec<&Provider> {
        let named = |name: &str| -> Vec<&Provider> {
            let rules = self
                .rules
                .iter()
                .filter(|rule| rule.resources.iter().any(|one| one == name));
            rules.flat_map(|rule| &rule.providers).collect()
        };
        let group = prefix.split_once('.').map_or("", |(_, group)| group);
        [prefix, &format!("*.{group}"), "*.*"]
            .into_iter()
            .map(named)
            .find(|providers| !providers.is_empty())
            .unwrap_or_default()
    }

    /// The stored form of an object of a kind at a store key.
    pub(crate) fn seal(&self, prefix: &str, key: &str, plain: Vec<u8>) -> Result<Vec<u8>, CipherError> {
        match self.providers(prefix).first() {
            None | Some(Provider::Identity) => Ok(plain),
            Some(Provider::Kms(kms)) => kms.seal(&plain, key.as_bytes()),
            Some(Provider::Ciphers { prefix, ciphers }) => {
                let (name, cipher) = ciphers.first().ok_or(CipherError::NoPrefix)?;
                let sealed = cipher.seal(&plain, key.as_bytes())?;
                Ok([prefix.as_bytes(), name.as_bytes(), b":", &sealed].concat())
            }
        }
    }

    /// The object of a stored form, and whether it should be sealed anew.
    pub(crate) fn open(&self, prefix: &str, key: &str, stored: &Bytes) -> Result<(Bytes, bool), CipherError> {
        let providers = self.providers(prefix);
        if providers.is_empty() {
            return Ok((stored.clone(), false));
        }
        let mut failed = None;
        for (position, provider) in providers.iter().enumerate() {
            let (prefix, ciphers) = match provider {
                Provider::Identity if stored.starts_with(ENCRYPTED) => {
                    failed.get_or_insert(CipherError::Encrypted);
                    continue;
                }
                Provider::Identity => return Ok((stored.clone(), position > 0)),
                Provider::Kms(kms) => {
                    match stored
                        .strip_prefix(kms.prefix())
                        .map(|sealed| kms.open(sealed, key.as_bytes()))
                    {
                        None => {}
                        Some(Ok((plain, stale))) => return Ok((plain.into(), stale || position > 0)),
                        Some(Err(error)) => failed = Some(error),
                    }
                    continue;
                }
                Provider::Ciphers { prefix, ciphers } => (prefix, ciphers),
            };
            let Some(rest) = stored.strip_prefix(prefix.as_bytes()) else {
                continue;
            };
            for (nth, (name, cipher)) in ciphers.iter().enumerate() {
                let own = rest
                    .strip_prefix(name.as_bytes())
                    .and_then(|rest| rest.strip_prefix(b":"));
                match own.map(|sealed| cipher.open(sealed, key.as_bytes())) {
                    None => {}
                    Some(Ok(plain)) => return Ok((plain.into(), position > 0 || nth > 0)),
                    Some(Err(error)) => failed = Some(error),
                }
            }
        }
        Err(failed.unwrap_or(CipherError::NoPrefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;

    fn key(byte: u8) -> String {
        base64::engine::general_purpose::STANDARD.encode([byte; 32])
    }

    fn config(rules: &str) -> Result<Encryption, String> {
        Encryption::parse(&format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n{rules}"
        ))
    }

    #[test]
    fn keys_turn_and_old_ones_still_open() {
        let (one, two) = (key(1), key(2));
        let old = config(&format!(
            "- {{resources: [secrets, '*.apps'], providers: [{{aescbc: {{keys: [{{name: one, secret: {one}}}]}}}}, {{identity: {{}}}}]}}"
        ))
        .unwrap();
        let new = config(&format!(
            "- {{resources: [secrets], providers: [{{aesgcm: {{keys: [{{name: two, secret: {two}}}]}}}}, {{aescbc: {{keys: [{{name: two, secret: {two}}}, {{name: one, secret: {one}}}]}}}}]}}\n\
             - {{resources: ['*.*'], providers: [{{identity: {{}}}}, {{secretbox: {{keys: [{{name: s, secret: {one}}}]}}}}]}}"
        ))
        .unwrap();
        let place = "/registry/secrets/a/b";
        let sealed: Bytes = old.seal("secrets", place, b"{}".to_vec()).unwrap().into();
        assert!(sealed.starts_with(b"k8s:enc:aescbc:v1:one:"), "{sealed:?}");
        let plain = Bytes::from_static(b"{}");
        assert_eq!(
            old.open("secrets", place, &sealed).unwrap(),
            (plain.clone(), false)
        );
        assert_eq!(old.open("secrets", place, &plain).unwrap(), (plain.clone(), true));
        assert_eq!(
            new.open("secrets", place, &sealed).unwrap(),
            (plain.clone(), true)
        );
        assert_eq!(new.open("secrets", place, &plain), Err(CipherError::NoPrefix));
        let again: Bytes = new.seal("secrets", place, b"{}".to_vec()).unwrap().into();
        assert!(again.starts_with(b"k8s:enc:aesgcm:v1:two:"));
        assert_eq!(old.open("secrets", place, &again), Err(CipherError::Encrypted));
        assert!(
            old.seal("deployments.apps", place, b"{}".to_vec())
                .unwrap()
                .starts_with(ENCRYPTED)
        );
        assert_eq!(old.seal("configmaps", place, b"{}".to_vec()).unwrap(), b"{}");
        assert_eq!(new.seal("configmaps", place, b"{}".to_vec()).unwrap(), b"{}");
    }

    #[test]
    fn bad_files_are_refused_with_the_place_and_without_the_secret() {
        let one = key(1);
        let aes =
            |keys: &str| format!("- {{resources: [secrets], providers: [{{aescbc: {{keys: [{keys}]}}}}]}}");
        for (rules, problem) in [
            (aes(""), "resources[0].providers[0].aescbc.keys: Required value"),
            (aes("{name: a}"), "keys[0].secret: Required value"),
            (aes("{name: a, secret: '***'}"), "secrets must be base64 encoded"),
            (aes("{name: a, secret: YWJj}"), "got 3, expected one of [16, 24, 32]"),
            ("- {resources: [secrets], providers: []}".into(), "providers: Required value"),
            ("- {resources: [Secrets], providers: [{identity: {}}]}".into(), "capital letters"),
            ("- {resources: ['*'], providers: [{identity: {}}]}".into(), "use '*.' to encrypt"),
            ("- {resources: [secrets, '*.'], providers: [{identity: {}}]}".into(), "overlapping"),
            (format!("- {{resources: [a], providers: [{{identity: {{}}, aesgcm: {{keys: [{{name: a, secret: {one}}}]}}}}]}}"),
                "more than one provider"),
            ("- {resources: ['*.*'], providers: [{identity: {}}]}\n- {resources: [secrets], providers: [{identity: {}}]}".into(),
                "masked by earlier rule"),
            ("- {resources: [secrets], providers: [{kms: {endpoint: 'unix:///s'}}]}".into(), "KMSv1 is deprecated"),
            ("- {resources: [secrets], providers: [{kms: {apiVersion: v2, endpoint: 'unix:///s'}}]}".into(), "kms.name: Required value"),
            ("- {resources: [secrets], providers: [{kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///s'}}]}".into(), "must not contain ':'"),
            ("- {resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'http://s'}}]}".into(), "unsupported scheme"),
            ("- {resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'unix:///s', timeout: 0s}}]}".into(), "should be a positive value"),
            ("- {resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'unix:///s', cachesize: 5}}]}".into(), "cachesize is not supported in v2"),
            ("- {resources: [secrets], providers: [{kms: {apiVersion: v2, name: a, endpoint: 'unix:///s'}}, {kms: {apiVersion: v2, name: a, endpoint: 'unix:///t'}}]}".into(), "duplicate KMS provider name a"),
        ] {
            let error = config(&rules).unwrap_err();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("YWJj"), "{error}");
        }
        assert!(Encryption::parse("apiVersion: v1\nkind: X").is_err());
    }
}
