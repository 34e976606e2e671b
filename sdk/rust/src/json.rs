//! Reading JSON into a plugin's own types, small: what configurations and parts of objects need.
//!
//! A guest that reads its configuration this way is some 100 kB smaller than with a full JSON library,
//! which compiles that much sooner at load. Errors name the field (`rules[0].after: …`). Numbers with a
//! fraction are exact to 15 digits. Trailing text, nesting beyond [`DEPTH_MAX`] and lone surrogates are
//! refused.

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};
use std::fmt;

/// How deep arrays and objects may nest.
const DEPTH_MAX: usize = 64;

/// What is wrong, and in which field.
#[derive(Debug)]
pub struct Error {
    path: String,
    message: String,
}

/// Reads a whole text.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let mut reader = Reader {
        text,
        at: 0,
        depth: 0,
    };
    let value = T::deserialize(&mut reader)?;
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.error("text after the value")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, message: &str) -> Error {
        de::Error::custom(format_args!("{message} at byte {}", self.at))
    }

    /// The next byte that is not space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8, message: &str) -> Result<(), Error> {
        if self.peek() != Some(wanted) {
            return Err(self.error(message));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Error> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("not a JSON value"));
        }
        self.at += word.len();
        Ok(())
    }

    /// After a value in an array or object: whether another one follows.
    fn more(&mut self, first: bool, end: u8) -> Result<bool, Error> {
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                if self.peek() == Some(end) {
                    return Err(self.error("a comma before the end"));
                }
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => Err(self.error("a comma or the end is missing")),
        }
    }

    fn string(&mut self) -> Result<String, Error> {
        self.expect(b'"', "a string is missing")?;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(plain) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') else {
                return Err(self.error("a string without end"));
            };
            text.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => return Ok(text),
                b'\\' => text.push(self.escape()?),
                _ => return Err(self.error("a control character in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Error> {
        let byte = self.text.as_bytes().get(self.at).copied();
        self.at += 1;
        Ok(match byte {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte as char,
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error("an unknown escape in a string")),
        })
    }

    fn unicode(&mut self) -> Result<char, Error> {
        let first = self.hex()?;
        let code = match first {
            0xD800..0xDC00 => {
                self.word("\\u")?;
                match self.hex()? {
                    second @ 0xDC00..0xE000 => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                    _ => return Err(self.error("half a character in a string")),
                }
            }
            code => code,
        };
        char::from_u32(code).ok_or_else(|| self.error("half a character in a string"))
    }

    fn hex(&mut self) -> Result<u32, Error> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        self.at += 4;
        code.ok_or_else(|| self.error("four hexadecimal digits are missing"))
    }

    fn number(&mut self) -> Result<Number, Error> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let number = Number::parse(&rest[..end]).ok_or_else(|| self.error("not a JSON value"))?;
        self.at += end;
        Ok(number)
    }

    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("nested too deep"));
        }
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }
}

enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = text
            .strip_prefix('-')
            .map_or((false, text), |digits| (true, digits));
        let (first, second) = (digits.bytes().next()?, digits.as_bytes().get(1).copied());
        if !first.is_ascii_digit() || (first == b'0' && second.is_some_and(|byte| byte.is_ascii_digit())) {
            return None;
        }
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return match negative {
                true => text.parse().ok().map(Self::Signed),
                false => text.parse().ok().map(Self::Unsigned),
            };
        }
        let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if mantissa.ends_with('.') {
            return None;
        }
        let exponent: i32 = exponent.parse::<i32>().ok()?.checked_sub(fraction.len() as i32)?;
        let all: u64 = format!("{whole}{fraction}").parse().ok()?;
        let power = 10f64.powi(exponent.abs());
        let value = if exponent < 0 {
            all as f64 / power
        } else {
            all as f64 * power
        };
        Some(Self::Float(if negative { -value } else { value }))
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            Some(b'"') => visitor.visit_string(self.string()?),
            Some(b'{') => self.nested(|reader| {
                visitor.visit_map(Items {
                    reader,
                    first: true,
                    end: b'}',
                    key: String::new(),
                    index: 0,
                })
            }),
            Some(b'[') => self.nested(|reader| {
                visitor.visit_seq(Items {
                    reader,
                    first: true,
                    end: b']',
                    key: String::new(),
                    index: 0,
                })
            }),
            Some(b't') => self.word("true").and_then(|()| visitor.visit_bool(true)),
            Some(b'f') => self.word("false").and_then(|()| visitor.visit_bool(false)),
            Some(b'n') => self.word("null").and_then(|()| visitor.visit_unit()),
            _ => match self.number()? {
                Number::Unsigned(number) => visitor.visit_u64(number),
                Number::Signed(number) => visitor.visit_i64(number),
                Number::Float(number) => visitor.visit_f64(number),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.peek() {
            Some(b'n') => self.word("null").and_then(|()| visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.peek() == Some(b'{') {
            let value = self.nested(|reader| visitor.visit_enum(Tagged(reader)))?;
            self.expect(b'}', "an object with more than one member where one is wanted")?;
            return Ok(value);
        }
        let name = self.string()?;
        visitor.visit_enum(name.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The items of an array or the members of an object.
struct Items<'r, 'a> {
    reader: &'r mut Reader<'a>,
    first: bool,
    end: u8,
    key: String,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if !self.reader.more(std::mem::take(&mut self.first), self.end)? {
            return Ok(None);
        }
        let index = self.index;
        self.index += 1;
        seed.deserialize(&mut *self.reader)
            .map(Some)
            .map_err(|error| error.within(format!("[{index}]")))
    }
}

impl<'de> MapAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.reader.more(std::mem::take(&mut self.first), self.end)? {
            return Ok(None);
        }
        if self.reader.peek() != Some(b'"') {
            return Err(self.reader.error("a member's name is missing"));
        }
        self.key = self.reader.string()?;
        self.reader.expect(b':', "a colon is missing")?;
        seed.deserialize(self.key.as_str().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.reader)
            .map_err(|error| error.within(self.key.clone()))
    }
}

/// An enum's variant with its content: an object of one member.
struct Tagged<'r, 'a>(&'r mut Reader<'a>);

impl<'de> EnumAccess<'de> for Tagged<'_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = self.0.string()?;
        self.0.expect(b':', "a colon is missing")?;
        let variant = seed.deserialize(name.as_str().into_deserializer())?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for Tagged<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }
}

impl Error {
    /// The same, seen from one level further out.
    fn within(mut self, part: String) -> Self {
        self.path = match self.path.is_empty() || self.path.starts_with('[') {
            true => part + &self.path,
            false => format!("{part}.{}", self.path),
        };
        self
    }
}

/// What a value is, without its text: formatting a fraction would bring along what this module leaves out.
fn kind(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Str(text) => format!("{text:?}"),
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(_) => "a number with a fraction".into(),
        Unexpected::Unit => "null".into(),
        Unexpected::Seq => "an array".into(),
        Unexpected::Map => "an object".into(),
        _ => "another value".into(),
    }
}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: String::new(),
            message: message.to_string(),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::custom(format_args!("{} where {expected} is wanted", kind(unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::from_str;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        name: String,
        #[serde(default)]
        size: Option<f64>,
        #[serde(default)]
        parts: Vec<Part>,
        #[serde(default)]
        any: BTreeMap<String, serde::de::IgnoredAny>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Part {
        Dot,
        Line { length: u8 },
        Text(String),
    }

    #[test]
    fn shapes_are_read() {
        let text = r#" {"name": "a\u00e9\ud83d\ude00\n", "size": -2.5e1, "parts": ["dot", {"line": {"length": 7}}, {"text": "t"}],
            "any": {"x": [1, {"y": null}, true]}} "#;
        let shape: Shape = from_str(text).unwrap();
        assert_eq!((shape.name.as_str(), shape.size), ("aé😀\n", Some(-25.0)));
        assert_eq!(
            shape.parts,
            [Part::Dot, Part::Line { length: 7 }, Part::Text("t".into())]
        );
    }

    #[test]
    fn mistakes_name_their_field() {
        for (text, message) in [
            (r#"{"name": 1}"#, "name: 1 where a string is wanted"),
            (
                r#"{"name": "a", "parts": ["dot", {"line": {"length": 700}}]}"#,
                "parts[1].length: 700 where u8 is wanted",
            ),
            (
                r#"{"name": "a", "parts": ["dash"]}"#,
                "parts[0]: unknown variant `dash`, expected one of `dot`, `line`, `text`",
            ),
            (
                r#"{"nome": "a"}"#,
                "unknown field `nome`, expected one of `name`, `size`, `parts`, `any`",
            ),
            (r#"{}"#, "missing field `name`"),
            (r#"{"name": "a",}"#, "a comma before the end at byte 13"),
            (r#"{"name": "a"} x"#, "text after the value at byte 14"),
            (r#"{"name": "a"#, "name: a string without end at byte 10"),
            (r#"{"name": "\ud800x"}"#, "name: not a JSON value at byte 16"),
        ] {
            assert_eq!(
                from_str::<Shape>(text).unwrap_err().to_string(),
                message,
                "{text}"
            );
        }
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(
            from_str::<serde::de::IgnoredAny>(&deep)
                .unwrap_err()
                .to_string()
                .contains("nested too deep")
        );
    }

    #[test]
    fn it_agrees_with_serde_json() {
        for text in [
            "0",
            "-1",
            "1.5",
            "18446744073709551615",
            "1e3",
            "0.001",
            "[]",
            "{}",
            "[1,[2]]",
            "01",
            "0",
            "01x",
            "-",
            "1.",
            "[1,]",
            "1.e3",
            "[1 2]",
            "{\"a\" 1}",
            "tru",
            "\"\\q\"",
        ] {
            let (ours, theirs) = (
                from_str::<serde_json::Value>(text),
                serde_json::from_str::<serde_json::Value>(text),
            );
            assert_eq!(ours.ok(), theirs.ok(), "{text}");
        }
    }
}
