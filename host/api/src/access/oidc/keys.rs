//! A JSON Web Key Set, and whether one of its keys has signed. Pure.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

/// Keys that are kept of a set.
const KEYS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Debug)]
enum Public {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point, and the algorithm that its curve means.
    Curve {
        algorithm: &'static str,
        point: Vec<u8>,
    },
    Edwards(Vec<u8>),
}

impl Keys {
    /// Keys of kinds that are not known, or for encryption, are left out.
    pub(super) fn read(set: &Value) -> Self {
        let keys = set["keys"].as_array().into_iter().flatten();
        let signing = keys.filter(|key| matches!(key["use"].as_str(), None | Some("sig")));
        Self(signing.filter_map(Key::read).take(KEYS_MAX).collect())
    }

    /// Whether one of the keys (of this name, where the token says one) has signed the text.
    pub(super) fn verify(&self, id: Option<&str>, algorithm: &str, text: &[u8], signature: &[u8]) -> bool {
        self.0
            .iter()
            .filter(|key| id.is_none() || key.id.is_none() || key.id.as_deref() == id)
            .any(|key| key.public.has_signed(algorithm, text, signature))
    }
}

impl Key {
    fn read(key: &Value) -> Option<Self> {
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(key[field].as_str()?).ok();
        let public = match (key["kty"].as_str()?, key["crv"].as_str()) {
            ("RSA", _) => Public::Rsa {
                n: bytes("n")?,
                e: bytes("e")?,
            },
            ("EC", Some(curve)) => {
                let algorithm = match curve {
                    "P-256" => "ES256",
                    "P-384" => "ES384",
                    _ => return None,
                };
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                Public::Curve { algorithm, point }
            }
            ("OKP", Some("Ed25519")) => Public::Edwards(bytes("x")?),
            _ => return None,
        };
        Some(Self {
            id: key["kid"].as_str().map(str::to_owned),
            public,
        })
    }
}

impl Public {
    fn has_signed(&self, algorithm: &str, text: &[u8], signed: &[u8]) -> bool {
        match self {
            Self::Rsa { n, e } => {
                let parameters = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
                    "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
                    "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
                    "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
                    _ => return false,
                };
                RsaPublicKeyComponents { n, e }
                    .verify(parameters, text, signed)
                    .is_ok()
            }
            Self::Curve {
                algorithm: own,
                point,
            } if *own == algorithm => {
                let kind = match *own {
                    "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
                    _ => &signature::ECDSA_P384_SHA384_FIXED,
                };
                UnparsedPublicKey::new(kind, point).verify(text, signed).is_ok()
            }
            Self::Edwards(key) if algorithm == "EdDSA" => UnparsedPublicKey::new(&signature::ED25519, key)
                .verify(text, signed)
                .is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A key and what it signed (RS256, of `a.b`), made by openssl.
    const MODULUS: &str = "6sY7GtNHQ-FNANSwSD8JSBOvK84GCKqykZIvugj5fvjCflJbNJPjHOZ2LbRJ41yhRfM-BFoLmT6ACOJ4OdH4uLdKeTswza0CCOPMcIP-NqJvbroC3pKDy-0PErhTFYsdgL-UFmtWjtvZFBwWUG3MpxOw_jRrn2Ah0AVTahs_bXrPDHse1xvTrBnTGF9r0m2wqFMPPHVw2fkBqjMwNzFEuBTq8Y6RO-jqJe9ltvgbr1__ZTuQPUytTmQWU_ilnlw0yYTynl0LN4EAss2Bjy9dlN8pbku5KOFC1PeN7wK_xhQTY8t7QoJrbUUS-r3bjMM-4tdSgoe1l5RTJQhrRaFKIQ";
    const SIGNED: &str = "ZLT39KYvaj5v8Nwa8fPaHn6URCoC4o9z7fzAfrz7rR4pCVgzUBv_g-sMG3QIR-c4D8xop_QT5h34hSD0LyLNplsUn_SY-2FUafRfquIPIhHetVwldQ2527SVZsPbB3ODZhTAQ-ZftPWtV_yZcGsWLhMkuWMLHgNL7t4eYoW1pVGJvf9HumFRMRIPUj9Vd8Cy6n28JvyzRqLT3y1IL0SwsLowGsIiwSGi08vR79q5gsbgFQDqnjoqYoPjGQ9krRIuBxT7hzUXv5Tue6RdY4ctwxnk-23uOHDf8gU_6r9BdFRPt7i_nrepGtuToR21HA09Ekm3GVyw-8SQE2F-99l3CA";

    #[test]
    fn a_key_of_the_set_has_signed() {
        let keys = Keys::read(&json!({"keys": [
            {"kty": "oct", "k": "x"},
            {"kty": "RSA", "kid": "one", "use": "sig", "n": MODULUS, "e": "AQAB"},
        ]}));
        let signed = URL_SAFE_NO_PAD.decode(SIGNED).unwrap();
        assert!(keys.verify(Some("one"), "RS256", b"a.b", &signed));
        assert!(keys.verify(None, "RS256", b"a.b", &signed));
        assert!(
            !keys.verify(Some("two"), "RS256", b"a.b", &signed),
            "another key's name"
        );
        assert!(!keys.verify(None, "RS256", b"a.c", &signed), "another text");
        assert!(!keys.verify(None, "RS512", b"a.b", &signed), "another algorithm");
        assert!(!keys.verify(None, "none", b"a.b", b""), "no algorithm");
    }
}
