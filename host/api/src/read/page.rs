//! Continue tokens: where a chunked list goes on, and at which revision.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use capstan_kinds::status::Status;
use capstan_store::Revision;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// A page's end. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Token {
    #[serde(rename = "rv")]
    pub revision: Revision,
    /// The last key that was sent.
    #[serde(rename = "start")]
    pub after: String,
}

/// A revision of -1 in a token: go on with the state of now (given after the first one expired).
pub(crate) const INCONSISTENT: Revision = -1;

impl Token {
    pub(crate) fn encode(&self) -> String {
        // Plain data: writing it to memory cannot fail.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Refusal> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token.ok_or_else(|| {
            Status::bad_request("continue key is not valid: it was not made by this server").into()
        })
    }
}
