use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::Identity;

/// A kubeconfig with one cluster, one user and one context, as YAML.
///
/// `server` is a URL such as `https://127.0.0.1:6443`; certificates are embedded.
///
/// # Errors
/// Never in practice: the document is plain strings.
pub fn kubeconfig(
    server: &str,
    ca: &str,
    user: &str,
    identity: &Identity,
) -> Result<String, serde_norway::Error> {
    serde_norway::to_string(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "capstan", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate-data": STANDARD.encode(&identity.certificate),
            "client-key-data": STANDARD.encode(&identity.key),
        }}],
        "contexts": [{ "name": "capstan", "context": { "cluster": "capstan", "user": user } }],
        "current-context": "capstan",
    }))
}
