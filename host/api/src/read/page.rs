//! Continue tokens: where a chunked list goes on, and at which revision; in the original's form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use capstan_kinds::status::Status;
use capstan_store::Revision;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// A page's end. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub revision: Revision,
    /// The last key that was sent, within the kind.
    pub after: String,
}

/// As it is encoded.
#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default)]
    v: String,
    #[serde(default)]
    rv: Revision,
    /// The first key that was not sent, below what is listed.
    #[serde(default)]
    start: String,
}

/// A revision of -1 in a token: go on with the state of now (given after the first one expired).
pub(crate) const INCONSISTENT: Revision = -1;

const VERSION: &str = "meta.k8s.io/v1";

impl Token {
    /// For a list of what stands below a prefix within the kind.
    pub(crate) fn encode(&self, below: &str) -> String {
        let wire = Wire {
            v: VERSION.into(),
            rv: self.revision,
            start: format!("{}\0", self.after.strip_prefix(below).unwrap_or(&self.after)),
        };
        // Plain data: writing it to memory cannot fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    pub(crate) fn decode(text: &str, below: &str) -> Result<Self, Refusal> {
        let wire = wire(text).map_err(|why| Status::bad_request(format!("invalid continue token: {why}")))?;
        let start = wire.start.strip_suffix('\0').unwrap_or(&wire.start);
        Ok(Self {
            revision: wire.rv,
            after: format!("{below}{start}"),
        })
    }
}

fn wire(text: &str) -> Result<Wire, String> {
    let invalid = |why: &dyn std::fmt::Display| format!("continue key is not valid: {why}");
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| match error {
        base64::DecodeError::InvalidByte(at, _) => {
            invalid(&format!("illegal base64 data at input byte {at}"))
        }
        _ => invalid(&format!("illegal base64 data at input byte {}", text.len())),
    })?;
    let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?;
    if wire.v != VERSION {
        let why = "continue key is not valid: server does not recognize this encoded version";
        return Err(format!("{why} {}", wire.v));
    }
    if wire.rv == 0 {
        return Err(invalid(
            &"incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ));
    }
    if wire.start.is_empty() {
        return Err(invalid(&"encoded start key empty (version meta.k8s.io/v1)"));
    }
    let path = wire.start.strip_prefix('/').unwrap_or(&wire.start);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(invalid(&wire.start));
    }
    Ok(wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_originals_and_stay_below_their_list() {
        let token = Token {
            revision: 7,
            after: "default/b".into(),
        };
        let text = token.encode("default/");
        let json = URL_SAFE_NO_PAD.decode(&text).unwrap();
        assert_eq!(json, br#"{"v":"meta.k8s.io/v1","rv":7,"start":"b\u0000"}"#);
        assert_eq!(Token::decode(&text, "default/").unwrap(), token);
        for (token, message) in [
            (
                r#"{"v":"x","rv":1,"start":"a"}"#,
                "server does not recognize this encoded version x",
            ),
            (
                r#"{"v":"meta.k8s.io/v1","start":"a"}"#,
                "incorrect encoded start resourceVersion",
            ),
            (r#"{"v":"meta.k8s.io/v1","rv":1}"#, "encoded start key empty"),
            (
                r#"{"v":"meta.k8s.io/v1","rv":1,"start":"../kube-system/a"}"#,
                "continue key is not valid: ../kube-system/a",
            ),
        ] {
            let status = Token::decode(&URL_SAFE_NO_PAD.encode(token), "default/").unwrap_err();
            assert!(
                status
                    .message
                    .starts_with("invalid continue token: continue key is not valid")
            );
            assert!(status.message.contains(message), "{}", status.message);
        }
        let status = Token::decode("a*b", "").unwrap_err();
        assert_eq!(
            status.message,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 1"
        );
    }
}
