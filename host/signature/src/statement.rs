//! The older form of a signature in a registry: a signed statement that names a manifest by its digest.
//!
//! The signature covers the statement, the statement names the manifest, and the manifest names the component: each
//! link is checked.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::bundle::hex;
use crate::{Error, PublicKey};

/// A signed statement with the manifest that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// Digests of the manifest's layers.
    layers: Vec<String>,
}

impl Statement {
    /// Reads a statement and the manifest that lies beside it.
    ///
    /// # Errors
    /// When it is about another manifest, or one of the two cannot be read.
    pub fn new(payload: Vec<u8>, signature: Vec<u8>, manifest: &[u8]) -> Result<Self, Error> {
        let bad = |message: String| Error::Bundle(message);
        let parse = |text: &[u8]| -> Result<Value, Error> {
            serde_json::from_slice(text).map_err(|error| bad(error.to_string()))
        };
        let statement = parse(&payload)?;
        let stated = &statement["critical"]["image"]["docker-manifest-digest"];
        let found = format!("sha256:{}", hex(&Sha256::digest(manifest)));
        if stated.as_str() != Some(found.as_str()) {
            return Err(bad(format!("it is about manifest {stated}, not {found}")));
        }
        let layers = parse(manifest)?;
        let layers = layers["layers"].as_array().into_iter().flatten();
        let layers = layers.filter_map(|layer| layer["digest"].as_str().map(str::to_owned));
        Ok(Self {
            layers: layers.collect(),
            payload,
            signature,
        })
    }

    /// Checks that this key signed the statement, and that it is about these very bytes.
    ///
    /// # Errors
    /// [`Error::Changed`] where it is about others, [`Error::Forged`] where the key did not sign.
    pub fn verify(&self, key: &PublicKey, component: &[u8]) -> Result<(), Error> {
        let found = hex(&Sha256::digest(component));
        if !self.layers.contains(&format!("sha256:{found}")) {
            let signed = self.layers.first().cloned().unwrap_or_default();
            return Err(Error::Changed {
                signed: signed.trim_start_matches("sha256:").to_owned(),
                found,
            });
        }
        key.made(&self.signature, &self.payload)
            .then_some(())
            .ok_or(Error::Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PrivateKey;
    use serde_json::json;

    #[test]
    fn every_link_from_the_key_to_the_component_counts() {
        let key = PrivateKey::generate().expect("a key");
        let digest = |bytes: &[u8]| format!("sha256:{}", hex(&Sha256::digest(bytes)));
        let manifest = json!({"layers": [{"digest": digest(b"component")}]}).to_string();
        let payload = |manifest: &str| {
            let image = json!({"docker-manifest-digest": digest(manifest.as_bytes())});
            json!({"critical": {"image": image}}).to_string().into_bytes()
        };
        let own = payload(&manifest);
        let signature = key.sign(&own).expect("a signature");
        let statement =
            Statement::new(own.clone(), signature.clone(), manifest.as_bytes()).expect("a statement");
        assert_eq!(statement.verify(&key.public(), b"component"), Ok(()));
        assert!(matches!(
            statement.verify(&key.public(), b"changed"),
            Err(Error::Changed { .. })
        ));
        let other = PrivateKey::generate().expect("a key").public();
        assert_eq!(statement.verify(&other, b"component"), Err(Error::Forged));
        // Another manifest beside the same statement, and a statement that the key never saw.
        let swapped = json!({"layers": [{"digest": digest(b"changed")}]}).to_string();
        assert!(Statement::new(own, signature.clone(), swapped.as_bytes()).is_err());
        let forged = Statement::new(payload(&swapped), signature, swapped.as_bytes()).expect("a statement");
        assert_eq!(forged.verify(&key.public(), b"changed"), Err(Error::Forged));
    }
}
