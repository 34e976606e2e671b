//! Comparisons of fields: `status.phase=Running,spec.nodeName!=a`.
//! Invariants: escapes are the original's; which fields a kind has is not known here.

use std::fmt;

use super::REQUIREMENTS_MAX;
use crate::Error;

/// How a field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOperator {
    /// `=` or `==`.
    Equals,
    /// `!=`.
    NotEquals,
}

/// A conjunction of comparisons of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// Path, comparison and value of each term.
    pub requirements: Vec<(String, FieldOperator, String)>,
}

impl FieldSelector {
    /// From the query form: `status.phase=Running,spec.nodeName!=a`; `\` escapes `\`, `,` and `=`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut requirements = Vec::new();
        for term in terms(text) {
            if term.is_empty() {
                continue;
            }
            if requirements.len() == REQUIREMENTS_MAX {
                return Err(Error::ParseFieldSelector(format!(
                    "more than {REQUIREMENTS_MAX} terms"
                )));
            }
            let (path, operator, value) = split_term(term).ok_or_else(|| {
                Error::ParseFieldSelector(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            requirements.push((path.to_string(), operator, unescape(value)?));
        }
        Ok(Self { requirements })
    }

    /// Whether it matches every object.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object matches whose fields are read through `field`; no value counts as empty.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|(path, operator, value)| {
            let same = field(path).unwrap_or_default() == value;
            same == (*operator == FieldOperator::Equals)
        })
    }

    /// The value that a path must equal, if a term says so.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|(one, operator, _)| one == path && *operator == FieldOperator::Equals)
            .map(|(_, _, value)| value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (path, operator, value)) in self.requirements.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let sign = if *operator == FieldOperator::Equals {
                "="
            } else {
                "!="
            };
            let value = value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(f, "{comma}{path}{sign}{value}")?;
        }
        Ok(())
    }
}

/// Splits at commas that are not escaped.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, FieldOperator, &str)> {
    let at = term.find('=')?;
    let (path, rest) = (&term[..at], &term[at + 1..]);
    match path.strip_suffix('!') {
        Some(path) => Some((path, FieldOperator::NotEquals, rest)),
        None => Some((
            path,
            FieldOperator::Equals,
            rest.strip_prefix('=').unwrap_or(rest),
        )),
    }
}

fn unescape(value: &str) -> Result<String, Error> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                other => {
                    let sequence = other
                        .map(|c| format!("\\{c}"))
                        .unwrap_or_else(|| "\\".to_string());
                    return Err(Error::ParseFieldSelector(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(Error::ParseFieldSelector(format!(
                    "invalid field selector: unescaped rune in value: {character}"
                )));
            }
            other => plain.push(other),
        }
    }
    Ok(plain)
}
