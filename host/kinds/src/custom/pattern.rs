//! Regular expressions in Go's dialect (RE2), as `pattern` and CEL's `matches` have them.
//! Invariants: linear time; compiled when first used, kept with its schema. What the two dialects write
//! differently is translated: `\d`, `\w`, `\s` are ASCII in Go, and `[`, `&&`, `{` are plain where Rust
//! would see more in them.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may take.
const COMPILED_BYTES_MAX: usize = 4 << 20;

/// A regular expression.
#[derive(Debug)]
pub struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Keeps the text; it is compiled when first asked.
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            compiled: OnceLock::new(),
        }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is found anywhere in the value; a broken expression matches nothing.
    pub fn matches(&self, value: &str) -> bool {
        self.compiled
            .get_or_init(|| compile(&self.text).ok())
            .as_ref()
            .is_some_and(|regex| regex.is_match(value))
    }
}

/// Compiles an expression of Go's dialect; the text of what is wrong with it otherwise.
pub fn compile(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&translate(text))
        .size_limit(COMPILED_BYTES_MAX)
        .build();
    built.map_err(|error| match error {
        regex::Error::Syntax(text) => {
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_string()
        }
        other => other.to_string(),
    })
}

/// From Go's dialect to Rust's.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    let mut in_class = false;
    let mut class_start = false;
    while let Some(c) = rest.next() {
        let first = std::mem::take(&mut class_start);
        match c {
            '\\' => match rest.next() {
                Some('Q') => quote(&mut rest, &mut out),
                Some(escaped) => push_escape(escaped, in_class, &mut out),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                class_start = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            '[' if rest.peek() == Some(&':') => out.push('['),
            '[' => out.push_str("\\["),
            ']' if in_class && first => out.push_str("\\]"),
            ']' if in_class && out.ends_with(':') && open_posix(&out) => out.push(']'),
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            '-' if in_class && rest.peek() == Some(&'-') => out.push_str("\\-"),
            '{' if !in_class && !is_repetition(rest.clone()) => out.push_str("\\{"),
            _ => out.push(c),
        }
    }
    out
}

/// Whether a `[:` is still open.
fn open_posix(out: &str) -> bool {
    out.rfind("[:")
        .is_some_and(|start| !out[start..].contains(":]") && out.len() > start + 2)
}

fn quote(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next_if_eq(&'E').is_some() {
            return;
        }
        out.push_str(&regex::escape(&c.to_string()));
    }
}

fn push_escape(escaped: char, in_class: bool, out: &mut String) {
    let members = match escaped.to_ascii_lowercase() {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => r"\t\n\f\r ",
        _ => {
            out.push('\\');
            out.push(escaped);
            return;
        }
    };
    match (escaped.is_ascii_uppercase(), in_class) {
        (false, true) => out.push_str(members),
        (negated, _) => {
            out.push_str(if negated { "[^" } else { "[" });
            out.push_str(members);
            out.push(']');
        }
    }
}

fn is_repetition(mut rest: std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let mut digits = 0;
    while rest.next_if(char::is_ascii_digit).is_some() {
        digits += 1;
    }
    if digits > 0 && rest.next_if_eq(&',').is_some() {
        while rest.next_if(char::is_ascii_digit).is_some() {}
    }
    digits > 0 && rest.next() == Some('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_dialect() {
        for (pattern, value, expected) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "٣", false),
            (r"^[\w-]+$", "a-b_9", true),
            (r"^[[a]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^{x}$", "{x}", true),
            (r"^a{2,3}$", "aaa", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[^\s]+$", "a b", false),
            (r"^\S+$", "ab", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"foo", "a foo b", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).matches(value),
                expected,
                "{pattern} {value}"
            );
        }
        assert!(compile("a(").is_err());
    }
}
