//! What a secret looks like.

/// Parts of names that hold secrets.
const WORDS: [&str; 11] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "API_KEY",
    "ACCESS_KEY",
    "PRIVATE_KEY",
    "CREDENTIAL",
    "ENCRYPTION_KEY",
];
/// Ends of names that say where a secret is, or what is to be known of it, and not what it is.
const HARMLESS_ENDS: [&str; 12] = [
    "_FILE",
    "_PATH",
    "_DIR",
    "_NAME",
    "_URL",
    "_ENDPOINT",
    "_TTL",
    "_EXPIRY",
    "_LENGTH",
    "_TYPE",
    "_HEADER",
    "_ID",
];
const HARMLESS_VALUES: [&str; 6] = ["true", "false", "yes", "no", "none", "null"];
/// Begins of secrets that their makers mark as such, with the least length of the whole.
const MARKED: [(&str, usize, &str); 10] = [
    ("AKIA", 20, "a cloud's access key"),
    ("ASIA", 20, "a cloud's access key"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 20, "a Slack token"),
    ("xoxp-", 20, "a Slack token"),
    ("sk_live_", 20, "a payment key"),
    ("AIza", 35, "a cloud's API key"),
];

/// What kind of secret this is, if it is one.
pub(crate) fn of(name: &str, value: &str, more_words: &[String]) -> Option<&'static str> {
    let value = value.trim();
    // Text that refers to other variables alone holds nothing itself.
    if value.is_empty() || (value.starts_with("$(") && value.find(')') == Some(value.len() - 1)) {
        return None;
    }
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    let marked = MARKED
        .iter()
        .find(|(begin, length, _)| value.starts_with(begin) && value.len() >= *length);
    if let Some((_, _, what)) = marked {
        return Some(what);
    }
    if is_jwt(value) {
        return Some("a signed token");
    }
    if has_password(value) {
        return Some("a URL with a password");
    }
    let name = name.to_ascii_uppercase();
    let harmless = HARMLESS_ENDS.iter().any(|end| name.ends_with(end))
        || HARMLESS_VALUES
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word))
        || value.bytes().all(|byte| byte.is_ascii_digit()) && value.len() < 4;
    let words = WORDS.iter().copied().chain(more_words.iter().map(String::as_str));
    let named = words
        .map(str::to_ascii_uppercase)
        .any(|word| name.contains(&word));
    (named && !harmless).then_some("what by its name is a secret")
}

fn is_jwt(value: &str) -> bool {
    let base64 = |part: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        part.len() >= 8 && part.bytes().all(allowed)
    };
    let parts: Vec<&str> = value.split('.').collect();
    value.starts_with("eyJ") && parts.len() == 3 && parts.into_iter().all(base64)
}

/// `scheme://user:password@host`, the password written out.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let Some((user, _)) = authority.rsplit_once('@') else {
        return false;
    };
    user.split_once(':')
        .is_some_and(|(_, password)| !password.is_empty() && !password.starts_with("$("))
}

#[cfg(test)]
mod tests {
    #[test]
    fn secrets_are_told_by_name_and_by_form() {
        for (name, value, secret) in [
            ("DB_PASSWORD", "hunter2", true),
            ("db_password", "hunter2", true),
            ("DB_PASSWORD", "", false),
            ("DB_PASSWORD", "$(FROM_SECRET)", false),
            ("DB_PASSWORD", "$(A)x$(B)", true),
            ("DB_PASSWORD_FILE", "/run/secrets/db", false),
            ("USE_TOKEN", "true", false),
            ("TOKEN_TTL", "3600", false),
            ("LOG_LEVEL", "debug", false),
            ("KEYBOARD", "qwerty", false),
            ("ANY", "AKIAABCDEFGHIJKLMNOP", true),
            ("ANY", "AKIA", false),
            ("ANY", "postgres://u:p@db/x", true),
            ("ANY", "postgres://u:$(P)@db/x", false),
            ("ANY", "postgres://u@db/x", false),
            ("ANY", "http://h/a:b@c", false),
            ("ANY", "-----BEGIN RSA PRIVATE KEY-----\nx", true),
            ("ANY", "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl", true),
            ("MY_PIN", "9999x", true),
        ] {
            let words = ["pin".to_owned()];
            assert_eq!(super::of(name, value, &words).is_some(), secret, "{name}={value}");
        }
    }
}
