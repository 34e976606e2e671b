use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use regex::Regex;

/// What must differ between two stores, by name, and how it is made equal: read from `normalise.txt`.
///
/// A block of that file is `name NAME`, `every` (or nothing: only where a step asks for it), `why TEXT`, and any
/// number of pairs `find REGEX` and `put TEXT`. Those without pairs are made by the code below.
#[derive(Debug)]
pub struct Normaliser {
    rules: BTreeMap<String, Rule>,
}

#[derive(Debug, Default)]
struct Rule {
    every: bool,
    why: String,
    replacements: Vec<(Regex, String)>,
}

impl Normaliser {
    /// Reads the rules.
    ///
    /// # Panics
    /// When they are not there, or a line is none, or a rule has no reason.
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
        let mut name = String::new();
        let mut pattern = None;
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let (head, rest) = line.split_once(' ').unwrap_or((line, ""));
            if head == "name" {
                name = rest.to_owned();
            }
            let rule = rules.entry(name.clone()).or_default();
            match head {
                "name" => {}
                "every" => rule.every = true,
                "why" => rule.why = rest.to_owned(),
                "find" => {
                    pattern = Some(Regex::new(rest).unwrap_or_else(|error| panic!("{name}: {error}")));
                }
                "put" => {
                    let find = pattern
                        .take()
                        .unwrap_or_else(|| panic!("{name}: put without find"));
                    rule.replacements.push((find, rest.to_owned()));
                }
                _ => panic!("{}: `{line}` is no rule", path.display()),
            }
        }
        for (name, rule) in &rules {
            assert!(!rule.why.is_empty(), "normalisation {name} has no reason");
        }
        Self { rules }
    }

    /// The names and reasons of all.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rules
            .iter()
            .map(|(name, rule)| (name.as_str(), rule.why.as_str()))
    }

    /// Whether there is a rule of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.rules.contains_key(name)
    }

    /// What is left to compare of an output.
    pub(crate) fn lines(&self, output: &[u8], asked: &[String]) -> Vec<String> {
        let wants = |name: &str| asked.iter().any(|one| one == name);
        if wants("protobuf") {
            return fields(output.strip_suffix(b"\n").unwrap_or(output), true)
                .unwrap_or_else(|| vec![format!("no protobuf: {output:?}")]);
        }
        let mut text = String::from_utf8_lossy(output).into_owned();
        for (name, rule) in &self.rules {
            if rule.every || wants(name) {
                for (find, put) in &rule.replacements {
                    text = find.replace_all(&text, put).into_owned();
                }
            }
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if wants("repeats") {
            lines = without_repeats(lines);
        }
        lines
    }
}

/// Collapses runs of the same few lines.
fn without_repeats(lines: Vec<String>) -> Vec<String> {
    const BLOCK_LINES_MAX: usize = 4;
    let mut kept: Vec<String> = Vec::new();
    let mut rest = lines.as_slice();
    while let Some((first, after)) = rest.split_first() {
        let repeated = (1..=BLOCK_LINES_MAX).rev().find(|&length| {
            kept.len() >= length && rest.len() >= length && kept[kept.len() - length..] == rest[..length]
        });
        if let Some(length) = repeated {
            rest = &rest[length..];
        } else {
            kept.push(first.clone());
            rest = after;
        }
    }
    kept
}

/// A message's fields, one a line, without the header's Raft term; `None` where the bytes are no message.
fn fields(mut bytes: &[u8], top: bool) -> Option<Vec<String>> {
    const RAFT_TERM: u64 = 4;
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = tag >> 3;
        match tag & 7 {
            0 => {
                let value = varint(&mut bytes)?;
                if top || field != RAFT_TERM {
                    lines.push(format!("{field}: {value}"));
                }
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (inner, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                if top && field == 1 {
                    lines.extend(fields(inner, false)?.iter().map(|line| format!("1.{line}")));
                } else {
                    lines.push(format!("{field}: {}", inner.escape_ascii()));
                }
            }
            _ => return None,
        }
    }
    Some(lines)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{fields, without_repeats};

    #[test]
    fn a_message_is_shown_by_field_and_without_its_raft_term() {
        let shown = fields(b"\x0a\x04\x18\x02\x20\x07\x12\x01a\x20\x01", true).expect("a message");
        assert_eq!(shown, ["1.3: 2", "2: a", "4: 1"]);
    }

    #[test]
    fn blocks_that_repeat_are_told_once() {
        let lines = ["x", "PUT", "a", "1", "PUT", "a", "1", "y"].map(str::to_owned);
        assert_eq!(without_repeats(lines.into()), ["x", "PUT", "a", "1", "y"]);
    }
}
