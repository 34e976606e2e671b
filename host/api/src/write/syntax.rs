//! What is wrong with a text that is no JSON, in the words of the original's reader, which clients show to
//! people. Pure; asked only once reading has failed. Left out: what is JSON and is refused for another reason.

/// What may come next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Value,
    /// After `[`.
    ValueOrEnd,
    Key,
    /// After `{`.
    KeyOrEnd,
    Colon,
    /// After a value in a list or an object.
    Comma,
    /// After the outermost value.
    End,
}

struct Text<'a> {
    rest: &'a [u8],
}

type Checked = Result<(), String>;

/// What is wrong with a text; none where it is JSON.
pub(super) fn problem(text: &[u8]) -> Option<String> {
    Text { rest: text }.check().err()
}

fn wrong<T>(character: u8, place: &str) -> Result<T, String> {
    let shown = match character {
        b'\'' => "\\'".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        ..0x20 | 0x7f => format!("\\x{character:02x}"),
        other => char::from(other).to_string(),
    };
    Err(format!("invalid character '{shown}' {place}"))
}

impl Text<'_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let (first, rest) = self
            .rest
            .split_first()
            .ok_or_else(|| "unexpected end of JSON input".to_owned())?;
        self.rest = rest;
        Ok(*first)
    }

    fn check(&mut self) -> Checked {
        // `{` or `[` for each that is open.
        let mut open: Vec<u8> = Vec::new();
        let mut next = Next::Value;
        loop {
            while self
                .peek()
                .is_some_and(|one| matches!(one, b' ' | b'\t' | b'\r' | b'\n'))
            {
                self.rest = &self.rest[1..];
            }
            if self.rest.is_empty() && next == Next::End {
                return Ok(());
            }
            let one = self.next()?;
            let closes = match (next, one) {
                (Next::ValueOrEnd, b']') | (Next::KeyOrEnd, b'}') => true,
                (Next::Comma, b']') => open.last() == Some(&b'['),
                (Next::Comma, b'}') => open.last() == Some(&b'{'),
                _ => false,
            };
            if closes {
                open.pop();
                next = after(&open);
                continue;
            }
            next = match (next, one) {
                (Next::Value | Next::ValueOrEnd, b'{' | b'[') => {
                    open.push(one);
                    if one == b'{' {
                        Next::KeyOrEnd
                    } else {
                        Next::ValueOrEnd
                    }
                }
                (Next::Value | Next::ValueOrEnd, _) => {
                    self.scalar(one)?;
                    after(&open)
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    self.string()?;
                    Next::Colon
                }
                (Next::Key | Next::KeyOrEnd, _) => {
                    return wrong(one, "looking for beginning of object key string");
                }
                (Next::Colon, b':') => Next::Value,
                (Next::Colon, _) => return wrong(one, "after object key"),
                (Next::Comma, b',') if open.last() == Some(&b'{') => Next::Key,
                (Next::Comma, b',') => Next::Value,
                (Next::Comma, _) if open.last() == Some(&b'{') => {
                    return wrong(one, "after object key:value pair");
                }
                (Next::Comma, _) => return wrong(one, "after array element"),
                (Next::End, _) => return wrong(one, "after top-level value"),
            };
        }
    }

    fn scalar(&mut self, first: u8) -> Checked {
        match first {
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number(first),
            other => wrong(other, "looking for beginning of value"),
        }
    }

    fn literal(&mut self, word: &str) -> Checked {
        for wanted in word.bytes().skip(1) {
            let one = self.next()?;
            if one != wanted {
                let place = format!("in literal {word} (expecting '{}')", char::from(wanted));
                return wrong(one, &place);
            }
        }
        Ok(())
    }

    fn string(&mut self) -> Checked {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let one = self.next()?;
                            if !one.is_ascii_hexdigit() {
                                return wrong(one, "in \\u hexadecimal character escape");
                            }
                        }
                    }
                    other => return wrong(other, "in string escape code"),
                },
                control @ ..0x20 => return wrong(control, "in string literal"),
                _ => {}
            }
        }
    }

    fn number(&mut self, first: u8) -> Checked {
        let first = if first == b'-' { self.next()? } else { first };
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            other => return wrong(other, "in numeric literal"),
        }
        if self.peek() == Some(b'.') {
            self.rest = &self.rest[1..];
            self.digit("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.rest = &self.rest[1..];
            if let Some(b'+' | b'-') = self.peek() {
                self.rest = &self.rest[1..];
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn digit(&mut self, place: &str) -> Checked {
        let one = self.next()?;
        if !one.is_ascii_digit() {
            return wrong(one, place);
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|one| one.is_ascii_digit()) {
            self.rest = &self.rest[1..];
        }
    }
}

fn after(open: &[u8]) -> Next {
    if open.is_empty() { Next::End } else { Next::Comma }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_told_in_the_originals_words() {
        for (text, expected) in [
            (
                "{bad",
                "invalid character 'b' looking for beginning of object key string",
            ),
            (
                "{\"a\": 1,}",
                "invalid character '}' looking for beginning of object key string",
            ),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            (
                "{\"a\": 1 \"b\"}",
                "invalid character '\"' after object key:value pair",
            ),
            ("[1 2]", "invalid character '2' after array element"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            (
                "{\"a\": tru}",
                "invalid character '}' in literal true (expecting 'e')",
            ),
            ("{\"a\": -x}", "invalid character 'x' in numeric literal"),
            (
                "[1.x]",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("[1ex]", "invalid character 'x' in exponent of numeric literal"),
            ("[\"\\q\"]", "invalid character 'q' in string escape code"),
            (
                "[\"\\u00g0\"]",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("[\"a\nb\"]", "invalid character '\\n' in string literal"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
        ] {
            assert_eq!(problem(text.as_bytes()).as_deref(), Some(expected), "{text}");
        }
        for good in [
            "{}",
            " [1, -0.5e+3, \"\\u00e4\\n\", {\"a\": [null, true, false]}] ",
        ] {
            assert_eq!(problem(good.as_bytes()), None, "{good}");
        }
    }
}
