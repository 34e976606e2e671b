//! Paths with `*` and `?` in their parts. The matching is pure; [`expand`] lists folders.

use std::path::{Path, PathBuf};

/// Files that one pattern may name.
const MATCHES_MAX: usize = 256;

/// Whether the path is a pattern at all.
pub(crate) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// The folder down to which a path has no pattern: the one whose changes matter first.
pub(crate) fn literal_folder(path: &str) -> PathBuf {
    let mut folder = PathBuf::from("/");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        if is_pattern(part) {
            break;
        }
        folder.push(part);
    }
    folder
}

/// The files that a pattern names now, in order.
pub(crate) fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = found
            .iter()
            .flat_map(|folder| step(folder, part))
            .take(MATCHES_MAX)
            .collect();
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn step(folder: &Path, part: &str) -> Vec<PathBuf> {
    if !is_pattern(part) {
        return vec![folder.join(part)];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !name.starts_with('.') && matches(part, name))
        .map(|name| folder.join(name))
        .collect()
}

/// Whether a name fits a pattern of `*` (any characters) and `?` (one).
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && (pattern[p] == '?' || (pattern[p] == name[n] && pattern[p] != '*')) {
            p += 1;
            n += 1;
        } else if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, n));
            p += 1;
        } else if let Some((at, from)) = star {
            star = Some((at, from + 1));
            p = at + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|character| *character == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns() {
        for (pattern, name, fits) in [
            ("*.log", "a.log", true),
            ("*.log", "a.logx", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
        assert_eq!(literal_folder("/var/log/*/x.log"), Path::new("/var/log"));
        assert_eq!(literal_folder("/var/log/x.log"), Path::new("/var/log"));
    }
}
