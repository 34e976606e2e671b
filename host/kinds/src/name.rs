//! Names: which strings may name an object, a label, a port; and the suffixes of `generateName`.
//! The rules and messages are Kubernetes' own (apimachinery's validation package). Pure functions, no
//! regular expressions. Validation calls the checks; the API server supplies the random numbers.

/// Longest DNS label.
pub const LABEL_LENGTH_MAX: usize = 63;
/// Longest DNS subdomain, the usual limit of an object's name.
pub const SUBDOMAIN_LENGTH_MAX: usize = 253;
/// Random characters appended to a `generateName` prefix.
pub const SUFFIX_LENGTH: usize = 5;
/// Longest `generateName` prefix that is kept; longer ones are cut so that the name fits a label.
pub const PREFIX_LENGTH_MAX: usize = LABEL_LENGTH_MAX - SUFFIX_LENGTH;
/// Characters of a random suffix: no vowels and no look-alikes.
pub const SUFFIX_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Why a string is not a DNS label.
pub const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
/// Why a string is not a DNS subdomain.
pub const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
/// Why a string is not an RFC 1035 label (service names).
pub const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
/// Why a string is not a qualified name's name part.
pub const QUALIFIED_MESSAGE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
/// Why a string is not a label value.
pub const LABEL_VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
/// Why a string is not a key of a config map or secret.
pub const CONFIG_KEY_MESSAGE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// `metadata.name` from a `generateName` prefix; `random` gives a number below its argument.
pub fn generate(prefix: &str, mut random: impl FnMut(usize) -> usize) -> String {
    let mut end = prefix.len().min(PREFIX_LENGTH_MAX);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = String::with_capacity(end + SUFFIX_LENGTH);
    name.push_str(&prefix[..end]);
    for _ in 0..SUFFIX_LENGTH {
        name.push(char::from(
            SUFFIX_ALPHABET[random(SUFFIX_ALPHABET.len()) % SUFFIX_ALPHABET.len()],
        ));
    }
    name
}

fn too_long(length_max: usize) -> String {
    format!("must be no more than {length_max} characters")
}

/// The words for parts of labels differ.
fn too_many_bytes(length_max: usize) -> String {
    format!("must be no more than {length_max} bytes")
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            lower_alphanumeric(*first)
                && lower_alphanumeric(*last)
                && bytes
                    .iter()
                    .all(|byte| lower_alphanumeric(*byte) || *byte == b'-')
        }
        _ => false,
    }
}

fn qualified_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

/// What is wrong with an RFC 1123 label; empty when it is one.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        problems.push(too_long(LABEL_LENGTH_MAX));
    }
    if !label_shape(text) {
        let dotted = text.split('.').all(label_shape);
        problems.push(
            if dotted {
                "must not contain dots"
            } else {
                LABEL_MESSAGE
            }
            .to_string(),
        );
    }
    problems
}

/// What is wrong with an RFC 1035 label; empty when it is one.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        problems.push(too_long(LABEL_LENGTH_MAX));
    }
    if !label_shape(text) || text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        problems.push(LABEL_1035_MESSAGE.to_string());
    }
    problems
}

/// What is wrong with an RFC 1123 subdomain; empty when it is one.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        problems.push(too_long(SUBDOMAIN_LENGTH_MAX));
    }
    if !text.split('.').all(label_shape) {
        problems.push(SUBDOMAIN_MESSAGE.to_string());
    }
    problems
}

/// What is wrong with a path segment, the rule for RBAC names; empty when nothing is.
pub fn path_segment(text: &str) -> Vec<String> {
    if matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    ['/', '%']
        .iter()
        .filter(|c| text.contains(**c))
        .map(|c| format!("may not contain '{c}'"))
        .collect()
}

/// What is wrong with a qualified name, the rule for label and annotation keys; empty when nothing is.
pub fn qualified(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut parts = text.split('/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let name = match (second, third) {
        (None, _) => first,
        (Some(name), None) => {
            if first.is_empty() {
                problems.push("prefix part must be non-empty".to_string());
            } else {
                if first.len() > SUBDOMAIN_LENGTH_MAX {
                    problems.push(format!("prefix part {}", too_many_bytes(SUBDOMAIN_LENGTH_MAX)));
                }
                if !first.split('.').all(label_shape) {
                    problems.push(format!("prefix part {SUBDOMAIN_MESSAGE}"));
                }
            }
            name
        }
        (Some(_), Some(_)) => {
            return vec!["a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')".to_string()];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_string());
    } else if name.len() > LABEL_LENGTH_MAX {
        problems.push(format!("name part {}", too_many_bytes(LABEL_LENGTH_MAX)));
    }
    if !qualified_shape(name) {
        problems.push(QUALIFIED_MESSAGE.to_string());
    }
    problems
}

/// What is wrong with a label's value; empty when nothing is.
pub fn label_value(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > LABEL_LENGTH_MAX {
        problems.push(too_many_bytes(LABEL_LENGTH_MAX));
    }
    if !text.is_empty() && !qualified_shape(text) {
        problems.push(LABEL_VALUE_MESSAGE.to_string());
    }
    problems
}

/// What is wrong with a key of a config map or secret; empty when nothing is.
pub fn config_key(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > SUBDOMAIN_LENGTH_MAX {
        problems.push(too_long(SUBDOMAIN_LENGTH_MAX));
    }
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        problems.push(CONFIG_KEY_MESSAGE.to_string());
    } else if text == "." || text.starts_with("..") {
        problems.push(if text == "." {
            "must not be '.'".to_string()
        } else if text == ".." {
            "must not be '..'".to_string()
        } else {
            "must not start with '..'".to_string()
        });
    }
    problems
}

/// What is wrong with an environment variable's name; empty when nothing is.
pub fn env_var(text: &str) -> Vec<String> {
    // Since relaxed environment variable validation: any printable ASCII but `=`.
    if text.is_empty()
        || !text
            .bytes()
            .all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
    {
        return vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_string()];
    }
    Vec::new()
}

/// What is wrong with a port's name; empty when nothing is.
pub fn port(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 15 {
        problems.push("must be no more than 15 characters".to_string());
    }
    if text.is_empty() || !text.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_string());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_string());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".to_string());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_string());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&str) -> Vec<String>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text}");
        }
        for text in bad {
            assert!(!rule(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(64);
        check(
            dns1123_label,
            &["a", "my-name", "1-b"],
            &["", "-a", "a-", "a.b", "A", &long],
        );
        check(
            dns1123_subdomain,
            &["a", "a.b-c.d", &long],
            &["", "a..b", ".a", "A.b"],
        );
        check(dns1035_label, &["web", "a-1"], &["1a", "", "a_b"]);
        check(
            qualified,
            &["app", "example.com/My.Name_1"],
            &["", "a/b/c", "/x", "x/", "-a", "Ex/a"],
        );
        check(label_value, &["", "a", "A_b.c"], &["-a", "a b", &long]);
        check(
            config_key,
            &["a", ".hidden", "A_b"],
            &["", "..", "..a", "a/b", "."],
        );
        check(
            port,
            &["http", "a1"],
            &["80", "Http", "a--b", "-a", "sixteencharacter"],
        );
    }

    #[test]
    fn generated_names_fit_a_label() {
        assert_eq!(generate("web-", |_| 0), "web-bbbbb");
        assert_eq!(generate(&"é".repeat(60), |_| 26).len(), 63);
    }
}
