//! The Common Expression Language's tokens: words, literals and symbols, each with its offset in characters.
//! What is none is a [`Problem`]. The parser reads them and bounds their number. Left out: what they mean.

use super::tree::{Literal, Problem};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Ident(String),
    Literal(Literal),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 28] = [
    "==", "!=", "<=", ">=", "&&", "||", ".?", "[?", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "+",
    "-", "*", "/", "%", "<", ">", "!", "=", "&",
];
/// Words that name nothing.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a word cannot name a variable, though it has no other meaning.
pub(super) fn is_reserved(word: &str) -> bool {
    RESERVED.contains(&word)
}

/// Whether a word is the language's own.
pub(super) fn is_keyword(word: &str) -> bool {
    matches!(word, "true" | "false" | "null" | "in") || is_reserved(word)
}

/// Whether a text may name a variable.
pub fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c == '_' || c.is_ascii_alphabetic());
    first && chars.all(|c| c == '_' || c.is_ascii_alphanumeric()) && !is_keyword(text)
}

/// The tokens with their offsets, and the end.
pub(super) fn lex(text: &str) -> Result<Vec<(usize, Token)>, Problem> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        if c.is_whitespace() {
            at += 1;
        } else if c == '/' && chars.get(at + 1) == Some(&'/') {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if let Some((literal, end)) = string(&chars, at)? {
            tokens.push((at, Token::Literal(literal)));
            at = end;
        } else if c.is_ascii_digit() || (c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit)) {
            let (literal, end) = number(&chars, at)?;
            tokens.push((at, Token::Literal(literal)));
            at = end;
        } else if c == '_' || c.is_ascii_alphabetic() {
            let end = (at..chars.len())
                .find(|i| !(chars[*i] == '_' || chars[*i].is_ascii_alphanumeric()))
                .unwrap_or(chars.len());
            let word: String = chars[at..end].iter().collect();
            let token = match word.as_str() {
                "true" => Token::Literal(Literal::Bool(true)),
                "false" => Token::Literal(Literal::Bool(false)),
                "null" => Token::Literal(Literal::Null),
                "in" => Token::Symbol("in"),
                _ => Token::Ident(word),
            };
            tokens.push((at, token));
            at = end;
        } else {
            let rest: String = chars[at..chars.len().min(at + 2)].iter().collect();
            let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
                let message = format!("Syntax error: token recognition error at: '{c}'");
                return Err(Problem { at, message });
            };
            // `a ? .b` is no optional select: only `.?` and `[?` right after one another are.
            tokens.push((at, Token::Symbol(symbol)));
            at += symbol.len();
        }
    }
    tokens.push((chars.len(), Token::End));
    Ok(tokens)
}

/// A string or bytes literal that starts here, and where it ends.
fn string(chars: &[char], start: usize) -> Result<Option<(Literal, usize)>, Problem> {
    let (mut at, mut raw, mut bytes) = (start, false, false);
    while let Some(c) = chars.get(at) {
        match c {
            'r' | 'R' if !raw => raw = true,
            'b' | 'B' if !bytes => bytes = true,
            '"' | '\'' => break,
            _ => return Ok(None),
        }
        at += 1;
    }
    let Some(quote) = chars.get(at).copied() else {
        return Ok(None);
    };
    let triple = chars.get(at + 1) == Some(&quote) && chars.get(at + 2) == Some(&quote);
    at += if triple { 3 } else { 1 };
    let mut out: Vec<u8> = Vec::new();
    let open = || Problem {
        at: start,
        message: "Syntax error: a string is not closed".to_string(),
    };
    loop {
        let c = *chars.get(at).ok_or_else(open)?;
        if c == quote && (!triple || (chars.get(at + 1) == Some(&quote) && chars.get(at + 2) == Some(&quote)))
        {
            at += if triple { 3 } else { 1 };
            break;
        }
        if c == '\n' && !triple {
            return Err(open());
        }
        if c == '\\' && !raw {
            at = escape(chars, at, bytes, &mut out)?;
            continue;
        }
        out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        at += 1;
    }
    if bytes {
        return Ok(Some((Literal::Bytes(out), at)));
    }
    let text = String::from_utf8(out).map_err(|_| open())?;
    Ok(Some((Literal::String(text), at)))
}

fn escape(chars: &[char], at: usize, bytes: bool, out: &mut Vec<u8>) -> Result<usize, Problem> {
    let wrong = || Problem {
        at,
        message: "Syntax error: invalid escape sequence".to_string(),
    };
    let code = |from: usize, digits: usize, radix: u32| -> Result<u32, Problem> {
        let text: String = chars.get(from..from + digits).ok_or_else(wrong)?.iter().collect();
        u32::from_str_radix(&text, radix).map_err(|_| wrong())
    };
    let c = *chars.get(at + 1).ok_or_else(wrong)?;
    let plain = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => c as u8,
        'x' | 'X' | 'u' | 'U' | '0'..='3' => {
            let (from, digits, radix) = match c {
                'x' | 'X' => (at + 2, 2, 16),
                'u' => (at + 2, 4, 16),
                'U' => (at + 2, 8, 16),
                _ => (at + 1, 3, 8),
            };
            let code = code(from, digits, radix)?;
            match u8::try_from(code) {
                Ok(byte) if bytes => out.push(byte),
                _ => {
                    let c = char::from_u32(code).ok_or_else(wrong)?;
                    out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            return Ok(from + digits);
        }
        _ => return Err(wrong()),
    };
    out.push(plain);
    Ok(at + 2)
}

fn number(chars: &[char], start: usize) -> Result<(Literal, usize), Problem> {
    let wrong = |text: &str| Problem {
        at: start,
        message: format!("invalid number literal: {text}"),
    };
    let hex = chars[start] == '0' && matches!(chars.get(start + 1), Some('x' | 'X'));
    let mut at = if hex { start + 2 } else { start };
    let mut float = false;
    while let Some(c) = chars.get(at) {
        match c {
            c if hex && c.is_ascii_hexdigit() => {}
            c if c.is_ascii_digit() => {}
            '.' if !hex && !float && chars.get(at + 1).is_some_and(char::is_ascii_digit) => float = true,
            'e' | 'E' if !hex => {
                float = true;
                if matches!(chars.get(at + 1), Some('+' | '-')) {
                    at += 1;
                }
            }
            _ => break,
        }
        at += 1;
    }
    let digits = if hex { start + 2 } else { start };
    let text: String = chars[digits..at].iter().collect();
    if float {
        let number = text.parse().map_err(|_| wrong(&text))?;
        return Ok((Literal::Double(number), at));
    }
    let radix = if hex { 16 } else { 10 };
    let value = u64::from_str_radix(&text, radix).map_err(|_| wrong(&text))?;
    if matches!(chars.get(at), Some('u' | 'U')) {
        return Ok((Literal::Uint(value), at + 1));
    }
    // The smallest number is written as the negation of one that does not fit.
    match i64::try_from(value) {
        Ok(whole) => Ok((Literal::Int(whole), at)),
        Err(_) if value == 1 << 63 => Ok((Literal::Int(i64::MIN), at)),
        Err(_) => Err(wrong(&text)),
    }
}

/// The field that an escaped name stands for: `a__dash__b` is `a-b`. None where nothing is escaped.
pub(crate) fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    if let Some(word) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && is_keyword(word)
    {
        return Some(word.to_string());
    }
    const PARTS: [(&str, &str); 4] = [
        ("__underscores__", "__"),
        ("__dot__", "."),
        ("__dash__", "-"),
        ("__slash__", "/"),
    ];
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        match PARTS.iter().find(|(escaped, _)| rest.starts_with(escaped)) {
            Some((escaped, plain)) => {
                out.push_str(plain);
                rest = &rest[escaped.len()..];
            }
            None => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    Some(out)
}
