//! One step of a path into an object: a field, a list item by its keys or by its value, or an index.
//! Invariants: the text form (`f:`, `k:`, `v:`, `i:`) and the printed form (`.field`, `[key="x"]`) are the
//! original's; elements have one total order. Sets of fields are made of them.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number, Value};

/// See the module.
#[derive(Debug, Clone)]
pub enum Element {
    /// A named field of an object.
    Field(Cow<'static, str>),
    /// The item of a map list that has these keys, sorted by name.
    Keys(Box<[(Box<str>, Value)]>),
    /// The item of a set that has this value.
    Value(Box<Value>),
    /// The item at a position; read, never made.
    Index(i64),
}

impl Element {
    /// A named field.
    pub fn field(name: &str) -> Self {
        Self::Field(Cow::Owned(name.to_owned()))
    }

    /// A field that a built-in schema names.
    pub const fn named(name: &'static str) -> Self {
        Self::Field(Cow::Borrowed(name))
    }

    /// Reads the text form; none where it is of a kind that is not known.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(format!(
                "\"{text}\" is no path element: it must begin with f:, k:, v: or i:"
            ));
        };
        let json = |rest: &str| -> Result<Value, String> {
            serde_json::from_str(rest).map_err(|error| format!("\"{text}\" is no path element: {error}"))
        };
        Ok(Some(match kind {
            "f" => Self::field(rest),
            "v" => Self::Value(Box::new(json(rest)?)),
            "k" => match json(rest)? {
                Value::Object(keys) => Self::keys(keys.into_iter().map(|(name, key)| (name.into(), key))),
                _ => return Err(format!("\"{text}\" is no path element: keys are a JSON object")),
            },
            "i" => match rest.parse() {
                Ok(index) => Self::Index(index),
                Err(_) => return Err(format!("\"{text}\" is no path element: an index is a number")),
            },
            _ => return Ok(None),
        }))
    }

    /// The item of a map list.
    pub fn keys(keys: impl Iterator<Item = (Box<str>, Value)>) -> Self {
        let mut keys: Vec<(Box<str>, Value)> = keys.collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        Self::Keys(keys.into())
    }

    /// The text form, as it is a key of `fieldsV1`.
    pub fn text(&self) -> String {
        match self {
            Self::Field(name) => {
                let mut text = String::with_capacity(name.len() + 2);
                text.push_str("f:");
                text.push_str(name);
                text
            }
            Self::Keys(keys) => {
                let keys: Map<String, Value> = keys
                    .iter()
                    .map(|(name, key)| (name.to_string(), key.clone()))
                    .collect();
                format!("k:{}", Value::Object(keys))
            }
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Keys(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Keys(keys) => {
                f.write_str("[")?;
                for (index, (name, key)) in keys.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={key}")?;
                }
                f.write_str("]")
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Keys(a), Self::Keys(b)) => {
                for ((name_a, key_a), (name_b, key_b)) in a.iter().zip(b.iter()) {
                    let order = name_a.cmp(name_b).then_with(|| compare(key_a, key_b));
                    if order != Ordering::Equal {
                        return order;
                    }
                }
                a.len().cmp(&b.len())
            }
            (Self::Value(a), Self::Value(b)) => compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

/// Whether two values are the same; numbers are by what they are worth, however they are written.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b) == Ordering::Equal,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        _ => a == b,
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            a.to_string().cmp(&b.to_string())
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or(f64::MAX);
            float(a).total_cmp(&float(b))
        }
    }
}
