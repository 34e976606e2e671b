//! Image references as Kubernetes users write them, and their one canonical form.
//!
//! `hello:1` is `docker.io/library/hello:1`; without a tag or digest it is `:latest`. Pure.

use oci_spec::distribution::Reference;

use crate::Error;

/// Bytes of registry and repository together.
const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;
/// Hexadecimal digits of an algorithm that is not known here.
const DIGEST_DIGITS_MIN: usize = 32;

/// Understands a reference as a pod's `image` field has it.
///
/// # Errors
/// [`Error::Reference`], which says what is wrong with it.
pub fn parse(text: &str) -> Result<Reference, Error> {
    read(text.trim()).map_err(|wrong| Error::Reference {
        text: text.to_owned(),
        wrong,
    })
}

/// By the grammar of the distribution project. The library's own reader is one regular expression, which takes 7 MB
/// for as long as the process lives.
fn read(text: &str) -> Result<Reference, &'static str> {
    const WRONG: &str = "invalid reference format";
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let tag_at = rest.rfind(':').filter(|at| !rest[*at..].contains('/'));
    let (name, tag) = match tag_at {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (registry, path) = match name.split_once('/') {
        Some((first, path)) if names_a_registry(first) => (first, path.to_owned()),
        Some(_) => (DOCKER_HUB, name.to_owned()),
        None => (DOCKER_HUB, format!("library/{name}")),
    };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("repository name must be lowercase");
    }
    let sound = registry.len() + path.len() < NAME_BYTES_MAX
        && is_registry(registry)
        && path.split('/').all(is_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !sound {
        return Err(WRONG);
    }
    let (registry, tag) = (registry.to_owned(), tag.map(str::to_owned));
    Ok(match (tag, digest.map(str::to_owned)) {
        (tag, None) => Reference::with_tag(registry, path, tag.unwrap_or_else(|| "latest".to_owned())),
        (None, Some(digest)) => Reference::with_digest(registry, path, digest),
        (Some(tag), Some(digest)) => Reference::with_tag_and_digest(registry, path, tag, digest),
    })
}

const DOCKER_HUB: &str = "docker.io";

/// Whether what stands before the first slash is a registry and not a part of the name.
fn names_a_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A host name, or an address in brackets, with a port or without.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let sound = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    sound && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Lower-case letters and digits, in between single `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let mut separator = String::new();
    let mut begun = false;
    for character in text.chars() {
        match character {
            'a'..='z' | '0'..='9' => {
                let between = matches!(separator.as_str(), "" | "." | "_" | "__")
                    || separator.bytes().all(|byte| byte == b'-');
                if !between || !begun && !separator.is_empty() {
                    return false;
                }
                begun = true;
                separator.clear();
            }
            '.' | '_' | '-' => separator.push(character),
            _ => return false,
        }
    }
    begun && separator.is_empty()
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_BYTES_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, digits)) = text.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => digits.len() == 64,
        "sha384" => digits.len() == 96,
        "sha512" => digits.len() == 128,
        _ => digits.len() >= DIGEST_DIGITS_MIN,
    };
    let named = algorithm
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphabetic())
        && algorithm
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'.' | b'-' | b'_'));
    named && length && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `registry/repository:tag`, or with `@digest` where it is pinned.
pub fn canonical(reference: &Reference) -> String {
    let name = repository(reference);
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, tag) => format!("{name}:{}", tag.unwrap_or("latest")),
    }
}

/// `registry/repository`.
pub fn repository(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Registries on this machine speak HTTP, as container tools take for granted.
pub fn is_local(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => registry.split(':').next().unwrap_or(registry),
    };
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_one_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("hello", "docker.io/library/hello:latest".to_owned()),
            ("hello:1", "docker.io/library/hello:1".to_owned()),
            ("me/hello:1", "docker.io/me/hello:1".to_owned()),
            ("capstan.dev/hello:1", "capstan.dev/hello:1".to_owned()),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest".to_owned()),
            (
                &format!("hello:1@{digest}"),
                format!("docker.io/library/hello@{digest}"),
            ),
            (&format!("a/b@{digest}"), format!("docker.io/a/b@{digest}")),
            ("a.b/c__d/e---f:V1.2-x", "a.b/c__d/e---f:V1.2-x".to_owned()),
        ];
        for (text, form) in cases {
            let parsed = parse(text).unwrap();
            assert_eq!(canonical(&parsed), form);
            let library: Reference = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(canonical(&library), form, "as the library reads {text}");
        }
        // As Docker reads them; the library does not.
        for text in ["REGISTRY/a:1", "[::1]:5000/a:1"] {
            assert_eq!(canonical(&parse(text).unwrap()), text);
        }
        for text in [
            "",
            "UPPER",
            "a b",
            "http://x/y",
            "x:",
            "a//b",
            "a/-b",
            "a..b",
            "x___y",
            "x@sha256:12",
            "-a.b/c",
            "a.b:x/c",
            ":1",
        ] {
            assert!(matches!(parse(text), Err(Error::Reference { .. })), "{text}");
        }
    }

    #[test]
    fn local_registries() {
        for (registry, local) in [
            ("localhost:5000", true),
            ("127.0.0.2", true),
            ("[::1]:5000", true),
            ("ghcr.io", false),
        ] {
            assert_eq!(is_local(registry), local, "{registry}");
        }
    }
}
