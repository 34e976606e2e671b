//! Label and field selectors, as strings of a query and as `metav1.LabelSelector` documents.
//! Invariants: a parsed selector matches exactly what the original's would; matching allocates nothing.
//! The API server's lists and watches, controllers and the scheduler call it. What fields a kind can be
//! selected by is in `fields`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::{Error, name};

/// Requirements that a selector may have; a longer one is refused.
pub const REQUIREMENTS_MAX: usize = 1024;

/// A condition on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
    /// Values compared with; empty for `Exists` and `DoesNotExist`, one for `Gt` and `Lt`.
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of the values.
    In,
    /// The label is absent or its value is none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is an integer above the given one.
    Gt,
    /// The value is an integer below the given one.
    Lt,
}

impl Requirement {
    /// Whether an object whose label has this value (None: no such label) meets the condition.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match (self.operator, value) {
            (Operator::In, Some(value)) => self.values.iter().any(|one| one == value),
            (Operator::NotIn, Some(value)) => !self.values.iter().any(|one| one == value),
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::NotIn, None) => true,
            (Operator::Gt, Some(value)) => self.compare(value).is_some_and(|(have, limit)| have > limit),
            (Operator::Lt, Some(value)) => self.compare(value).is_some_and(|(have, limit)| have < limit),
            (Operator::In | Operator::Gt | Operator::Lt, None) => false,
        }
    }

    fn compare(&self, value: &str) -> Option<(i64, i64)> {
        Some((value.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

/// A conjunction of conditions on labels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Whether it matches every object.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// The conditions, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Labels that must all be there with these values.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirements = labels
            .iter()
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.clone()],
            })
            .collect();
        Self {
            requirements,
            nothing: false,
        }
    }

    /// From a `metav1.LabelSelector`; null selects nothing, an empty object everything.
    pub fn from_value(document: &Value) -> Result<Self, Error> {
        let Some(object) = document.as_object() else {
            return Ok(Self::nothing());
        };
        let mut requirements = Vec::new();
        if let Some(labels) = object.get("matchLabels").and_then(Value::as_object) {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_string();
                requirements.push(Requirement {
                    key: key.clone(),
                    operator: Operator::In,
                    values: vec![value],
                });
            }
        }
        for expression in object
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            requirements.push(expression_requirement(expression)?);
        }
        Self::checked(requirements)
    }

    /// From a plain map document such as a Service's `spec.selector`; null or empty selects nothing.
    pub fn from_map_value(document: &Value) -> Self {
        match document.as_object() {
            Some(map) if !map.is_empty() => {
                let requirements = map
                    .iter()
                    .map(|(key, value)| Requirement {
                        key: key.clone(),
                        operator: Operator::In,
                        values: vec![value.as_str().unwrap_or_default().to_string()],
                    })
                    .collect();
                Self {
                    requirements,
                    nothing: false,
                }
            }
            _ => Self::nothing(),
        }
    }

    /// From the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let tokens = lex(text)?;
        let mut parser = Parser {
            tokens: &tokens,
            position: 0,
        };
        let mut requirements = Vec::new();
        if !matches!(parser.peek(), Token::End) {
            loop {
                requirements.push(parser.requirement()?);
                match parser.next() {
                    Token::End => break,
                    Token::Comma if !matches!(parser.peek(), Token::End | Token::Comma) => {}
                    Token::Comma => {
                        return Err(parse_error(format!(
                            "found '{}', expected: identifier after ','",
                            parser.peek().text()
                        )));
                    }
                    other => {
                        return Err(parse_error(format!(
                            "found '{}', expected: ',' or 'end of string'",
                            other.text()
                        )));
                    }
                }
            }
        }
        Self::checked(requirements)
    }

    fn checked(mut requirements: Vec<Requirement>) -> Result<Self, Error> {
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(parse_error(format!("more than {REQUIREMENTS_MAX} requirements")));
        }
        for requirement in &requirements {
            check_requirement(requirement)?;
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self {
            requirements,
            nothing: false,
        })
    }

    /// Whether an object matches whose labels are read through `label`.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether an object with these labels matches.
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object document matches by its `metadata.labels`.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.matches(|key| labels?.get(key)?.as_str())
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let key = &requirement.key;
            let values = requirement.values.join(",");
            match requirement.operator {
                Operator::In if requirement.values.len() == 1 => write!(f, "{key}={values}")?,
                Operator::NotIn if requirement.values.len() == 1 => write!(f, "{key}!={values}")?,
                Operator::In => write!(f, "{key} in ({values})")?,
                Operator::NotIn => write!(f, "{key} notin ({values})")?,
                Operator::Exists => f.write_str(key)?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::Gt => write!(f, "{key}>{values}")?,
                Operator::Lt => write!(f, "{key}<{values}")?,
            }
        }
        Ok(())
    }
}

fn parse_error(text: impl Into<String>) -> Error {
    Error::ParseLabelSelector(text.into())
}

fn expression_requirement(expression: &Value) -> Result<Requirement, Error> {
    let operator = match expression
        .get("operator")
        .and_then(Value::as_str)
        .unwrap_or_default()
    {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        other => {
            return Err(parse_error(format!(
                "\"{other}\" is not a valid label selector operator"
            )));
        }
    };
    let values = expression
        .get("values")
        .and_then(Value::as_array)
        .map(|values| {
            values
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect()
        })
        .unwrap_or_default();
    let key = expression
        .get("key")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_string();
    Ok(Requirement {
        key,
        operator,
        values,
    })
}

fn check_requirement(requirement: &Requirement) -> Result<(), Error> {
    if let Some(problem) = name::qualified(&requirement.key).first() {
        return Err(parse_error(format!(
            "key: Invalid value: {:?}: {problem}",
            requirement.key
        )));
    }
    let count = requirement.values.len();
    match requirement.operator {
        Operator::In | Operator::NotIn if count == 0 => {
            return Err(parse_error(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
            ));
        }
        Operator::Exists | Operator::DoesNotExist if count != 0 => {
            return Err(parse_error(format!(
                "values: Invalid value: {:?}: values set must be empty for exists and does not exist",
                requirement.values
            )));
        }
        Operator::Gt | Operator::Lt if count != 1 || requirement.values[0].parse::<i64>().is_err() => {
            return Err(parse_error(format!(
                "values: Invalid value: {:?}: for 'Gt', 'Lt' operators, exactly one integer value is required",
                requirement.values
            )));
        }
        _ => {}
    }
    for value in &requirement.values {
        if let Some(problem) = name::label_value(value).first() {
            return Err(parse_error(format!(
                "values[0][{}]: Invalid value: {value:?}: {problem}",
                requirement.key
            )));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Comma,
    Open,
    Close,
    Equals,
    NotEquals,
    Not,
    Greater,
    Less,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
            Token::Equals => "=",
            Token::NotEquals => "!=",
            Token::Not => "!",
            Token::Greater => ">",
            Token::Less => "<",
            Token::End => "",
        }
    }
}

fn lex(text: &str) -> Result<Vec<Token>, Error> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            ',' => (Token::Comma, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '>' => (Token::Greater, 1),
            '<' => (Token::Less, 1),
            '=' => (Token::Equals, if rest.starts_with("==") { 2 } else { 1 }),
            '!' if rest.starts_with("!=") => (Token::NotEquals, 2),
            '!' => (Token::Not, 1),
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '>' | '<' | '=' | '!'))
                    .unwrap_or(rest.len());
                (Token::Word(rest[..end].to_string()), end)
            }
        };
        tokens.push(token);
        if tokens.len() > REQUIREMENTS_MAX * 8 {
            return Err(parse_error("the selector is too long"));
        }
        rest = rest[length..].trim_start();
    }
    tokens.push(Token::End);
    Ok(tokens)
}

struct Parser<'a> {
    tokens: &'a [Token],
    position: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.position).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, Error> {
        let absent = *self.peek() == Token::Not;
        if absent {
            self.position += 1;
        }
        let key = match self.next() {
            Token::Word(word) => word,
            other => {
                return Err(parse_error(format!(
                    "found '{}', expected: identifier",
                    other.text()
                )));
            }
        };
        let (operator, values) = match self.peek() {
            Token::End | Token::Comma => {
                let operator = if absent {
                    Operator::DoesNotExist
                } else {
                    Operator::Exists
                };
                return Ok(Requirement {
                    key,
                    operator,
                    values: Vec::new(),
                });
            }
            _ if absent => {
                return Err(parse_error(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    self.peek().text()
                )));
            }
            Token::Word(word) if word == "in" || word == "notin" => {
                let operator = if word == "in" {
                    Operator::In
                } else {
                    Operator::NotIn
                };
                self.position += 1;
                (operator, self.values()?)
            }
            Token::Equals => (Operator::In, vec![self.value()]),
            Token::NotEquals => (Operator::NotIn, vec![self.value()]),
            Token::Greater => (Operator::Gt, vec![self.value()]),
            Token::Less => (Operator::Lt, vec![self.value()]),
            other => {
                return Err(parse_error(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                )));
            }
        };
        Ok(Requirement {
            key,
            operator,
            values,
        })
    }

    /// The value after an operator; nothing there means the empty value.
    fn value(&mut self) -> String {
        self.position += 1;
        match self.peek().clone() {
            Token::Word(word) => {
                self.position += 1;
                word
            }
            _ => String::new(),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, Error> {
        match self.next() {
            Token::Open => {}
            other => return Err(parse_error(format!("found '{}' expected: '('", other.text()))),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word);
                    match self.next() {
                        Token::Comma => {
                            if *self.peek() == Token::Close {
                                values.push(String::new());
                            }
                        }
                        Token::Close => break,
                        other => {
                            return Err(parse_error(format!(
                                "found '{}', expected: ',' or ')'",
                                other.text()
                            )));
                        }
                    }
                }
                Token::Comma => values.push(String::new()),
                Token::Close => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    break;
                }
                other => {
                    return Err(parse_error(format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    )));
                }
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let parsed = LabelSelector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
        let labels = labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        assert_eq!(
            parsed.matches_labels(&labels),
            expected,
            "{selector} on {labels:?}"
        );
        assert_eq!(
            LabelSelector::parse(&parsed.to_string()).as_ref(),
            Ok(&parsed),
            "{selector} prints as itself"
        );
    }

    #[test]
    fn grammar_and_matching() {
        let web: &[(&str, &str)] = &[("app", "web"), ("tier", "1"), ("empty", "")];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app == web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("other notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!other,app", true),
            ("tier>0", true),
            ("tier<1", false),
            ("app>1", false),
            ("empty=", true),
            ("empty in ()", true),
            ("app=web,tier in (1),!x/y", true),
        ] {
            check(selector, web, expected);
        }
    }

    #[test]
    fn refused() {
        for selector in [
            "app=web,",
            ",app",
            "app in",
            "app in web",
            "app in (a",
            "!app=a",
            "app=a b",
            "a b",
            "-x=1",
            "tier>x",
            "a=b c",
            "x=_",
        ] {
            assert!(LabelSelector::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn documents() {
        let labels = json!({"metadata": {"labels": {"app": "web"}}});
        for (document, expected) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
        ] {
            assert_eq!(
                LabelSelector::from_value(&document)
                    .unwrap()
                    .matches_object(&labels),
                expected,
                "{document}"
            );
        }
        assert!(
            LabelSelector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}))
                .is_err()
        );
        assert!(!LabelSelector::from_map_value(&json!({})).matches_object(&labels));
    }

    #[test]
    fn fields() {
        let field = |path: &str| (path == "status.phase").then_some("Running");
        for (selector, expected) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("spec.nodeName!=a,status.phase=Running", true),
        ] {
            assert_eq!(
                FieldSelector::parse(selector).unwrap().matches(field),
                expected,
                "{selector}"
            );
        }
        assert_eq!(
            FieldSelector::parse("a=b\\,c").unwrap().required("a"),
            Some("b,c")
        );
        assert!(FieldSelector::parse("status.phase").is_err());
        assert!(FieldSelector::parse("a=b\\d").is_err());
    }
}
