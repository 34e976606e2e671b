//! Path patterns of the `node-files` and `node-logs` capabilities.
//!
//! `*` and `?` stay within one path segment, `**` crosses them. Matching is by text; whoever opens a file
//! resolves links first and asks for the resolved path too.

/// Whether `pattern` covers the absolute `path`. Paths with `..` are covered by nothing.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    path.starts_with('/')
        && !path.split('/').any(|segment| segment == "..")
        && here(pattern.as_bytes(), path.as_bytes())
}

fn here(pattern: &[u8], path: &[u8]) -> bool {
    match pattern {
        [] => path.is_empty(),
        [b'*', b'*', rest @ ..] => (0..=path.len()).any(|skip| here(rest, &path[skip..])),
        [b'*', rest @ ..] => {
            let segment = path.iter().position(|&c| c == b'/').unwrap_or(path.len());
            (0..=segment).any(|skip| here(rest, &path[skip..]))
        }
        [b'?', rest @ ..] => path.first().is_some_and(|&c| c != b'/') && here(rest, &path[1..]),
        [c, rest @ ..] => path.first() == Some(c) && here(rest, &path[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_cover_what_they_say() {
        for (pattern, path, wanted) in [
            ("/dev/kmsg", "/dev/kmsg", true),
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/*.log", true),
            ("/var/log/*.log", "/var/log/b/a.log", false),
            ("/var/log/**", "/var/log/b/a.log", true),
            ("/var/log/**", "/var/log/../shadow", false),
            ("/var/log/?", "/var/log/", false),
            ("*", "relative", false),
        ] {
            assert_eq!(matches(pattern, path), wanted, "{pattern} {path}");
        }
    }
}
