//! The query form of label selectors: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1`.
//! Invariants: the grammar and the words of its errors are the original's. Called by `LabelSelector::parse`.

use super::REQUIREMENTS_MAX;
use super::label::{Operator, Requirement, parse_error};
use crate::Error;

/// The conditions of a query, unchecked.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, Error> {
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
    Ok(requirements)
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
