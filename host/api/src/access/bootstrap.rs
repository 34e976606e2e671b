//! Bootstrap tokens: `ID.SECRET`, kept as a Secret `bootstrap-token-ID` of `kube-system`, by which a machine
//! joins the cluster.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use capstan_kinds::resource::find;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::UserInfo;
use crate::server::Server;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;
/// Characters of a group's own part.
const GROUP_LENGTH_MAX: usize = 256;

/// The user of a bootstrap token; none where it is none, or is not good any more.
pub(super) fn user(server: &Server, token: &str) -> Option<UserInfo> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    if !plain(id, ID_LENGTH) || !plain(secret, SECRET_LENGTH) {
        return None;
    }
    let secrets = find("", "v1", "secrets")?;
    let stored = server
        .registry
        .cached(&secrets, NAMESPACE, &format!("bootstrap-token-{id}"))?
        .decode();
    read(&stored, id, secret, jiff::Timestamp::now())
}

fn read(stored: &Value, id: &str, secret: &str, now: jiff::Timestamp) -> Option<UserInfo> {
    let data = |field: &str| {
        let bytes = STANDARD.decode(stored["data"][field].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let kept = data("token-secret")?;
    // Comparing digests leaks nothing of the secret through time.
    let same = Sha256::digest(kept) == Sha256::digest(secret);
    if stored["type"] != TYPE || stored["metadata"]["deletionTimestamp"].is_string() || !same {
        return None;
    }
    if data("token-id")? != id || data("usage-bootstrap-authentication")? != "true" {
        return None;
    }
    if let Some(until) = data("expiration").filter(|text| !text.is_empty())
        && until.parse::<jiff::Timestamp>().ok()? < now
    {
        return None;
    }
    let mut groups = vec![GROUP];
    let more = data("auth-extra-groups").unwrap_or_default();
    for group in more.split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return None;
        }
        groups.push(group);
    }
    Some(UserInfo::new(format!("system:bootstrap:{id}"), &groups).authenticated())
}

/// Whether a group is one that a bootstrap token may give.
fn is_group(group: &str) -> bool {
    let Some(own) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    own.len() <= GROUP_LENGTH_MAX
        && own.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
        && own.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_good_for_what_its_secret_says() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let secret = |more: &[(&str, &str)]| {
            let mut fields = vec![
                ("token-id", "abcdef"),
                ("token-secret", "0123456789abcdef"),
                ("usage-bootstrap-authentication", "true"),
            ];
            fields.extend(more);
            let data: serde_json::Map<String, Value> = fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), json!(STANDARD.encode(value))))
                .collect();
            json!({"type": TYPE, "data": data})
        };
        let show = |stored: &Value, secret: &str| {
            read(stored, "abcdef", secret, now).map(|user| format!("{} {}", user.name, user.groups.join(" ")))
        };
        let good = "0123456789abcdef";
        let plain = "system:bootstrap:abcdef system:bootstrappers system:authenticated";
        assert_eq!(show(&secret(&[]), good).as_deref(), Some(plain));
        assert_eq!(show(&secret(&[]), "0123456789abcdeX"), None);
        assert_eq!(
            show(&secret(&[("expiration", "2025-12-31T00:00:00Z")]), good),
            None
        );
        assert!(show(&secret(&[("expiration", "2026-12-31T00:00:00Z")]), good).is_some());
        assert_eq!(
            show(&secret(&[("usage-bootstrap-authentication", "false")]), good),
            None
        );
        assert_eq!(
            show(&secret(&[("auth-extra-groups", "system:masters")]), good),
            None
        );
        let more = show(
            &secret(&[("auth-extra-groups", "system:bootstrappers:w-1")]),
            good,
        );
        assert_eq!(
            more.as_deref(),
            Some(
                "system:bootstrap:abcdef system:bootstrappers system:bootstrappers:w-1 system:authenticated"
            )
        );
    }
}
