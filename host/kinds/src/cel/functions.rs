//! The functions and operators of CEL's standard library, and of Kubernetes' strings, lists, sets and
//! optionals. Kubernetes' own types have theirs in `library`.
//! Invariants: what walks over a text or a list pays for its length first; a function that takes no such
//! values says "no such overload".

use std::rc::Rc;

use jiff::{Timestamp, tz::TimeZone};

use super::eval::{Evaluation, Failure, Outcome, error, no_overload, ordering, overflow};
use super::library;
use super::lists::list;
use super::texts::string;
use super::tree::Operator;
use super::value::Value;
use crate::custom::formats;
use crate::custom::pattern;

/// Bytes that one text made by an expression may have.
pub(super) const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a text that cost one unit.
pub(super) const BYTES_PER_UNIT: usize = 10;

pub(super) fn type_named(name: &str) -> Option<&'static str> {
    Some(match name {
        "bool" => "bool",
        "int" => "int",
        "uint" => "uint",
        "double" => "double",
        "string" => "string",
        "bytes" => "bytes",
        "list" => "list",
        "map" => "map",
        "null_type" => "null_type",
        "type" => "type",
        "optional_type" => "optional_type",
        _ => return None,
    })
}

pub(super) fn is_namespace(name: &str) -> bool {
    matches!(name, "optional" | "ip" | "sets" | "format" | "math" | "jsonpatch")
}

/// A value as `string()` and error texts show it.
pub(super) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Duration(nanos) => format!("{}s", *nanos as f64 / 1e9),
        Value::Timestamp(time) => time.to_string(),
        Value::Type(name) => (*name).to_string(),
        Value::Quantity(quantity) => quantity.to_string(),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(address, bits) => format!("{address}/{bits}"),
        Value::Url(text) | Value::Format(text) => text.to_string(),
        Value::Semver(version) => version.to_string(),
        Value::Optional(None) => "optional.none()".to_string(),
        Value::Optional(Some(inner)) => format!("optional({})", shown(inner)),
        other => match (other.items(), other.entries()) {
            (Some(items), _) => {
                let parts: Vec<String> = items.iter().map(shown).collect();
                format!("[{}]", parts.join(", "))
            }
            (_, entries) => {
                let entries = entries.unwrap_or_default();
                let parts: Vec<String> = entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", shown(key), shown(value)))
                    .collect();
                format!("{{{}}}", parts.join(", "))
            }
        },
    }
}

/// Units for looking at all of a value once.
fn weight(value: &Value<'_>) -> usize {
    match value {
        Value::String(text) => text.len() / BYTES_PER_UNIT + 1,
        Value::Bytes(bytes) => bytes.len() / BYTES_PER_UNIT + 1,
        Value::Array(list, _) => list.iter().map(json_weight).sum::<usize>() + 1,
        Value::Object(fields, _) => fields.values().map(json_weight).sum::<usize>() + 1,
        Value::List(items) => items.iter().map(weight).sum::<usize>() + 1,
        Value::Map(entries) => {
            entries
                .iter()
                .map(|(key, value)| weight(key) + weight(value))
                .sum::<usize>()
                + 1
        }
        _ => 1,
    }
}

fn json_weight(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() / BYTES_PER_UNIT + 1,
        serde_json::Value::Array(list) => list.iter().map(json_weight).sum::<usize>() + 1,
        serde_json::Value::Object(fields) => fields.values().map(json_weight).sum::<usize>() + 1,
        _ => 1,
    }
}

/// An operator between two values.
pub(super) fn operate<'a>(
    on: &mut Evaluation<'a>,
    operator: Operator,
    left: Value<'a>,
    right: Value<'a>,
) -> Outcome<'a> {
    match operator {
        Operator::Equal | Operator::NotEqual => {
            pay_for_equality(on, &left, &right)?;
            Ok(Value::Bool(left.equals(&right) == (operator == Operator::Equal)))
        }
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            on.pay(weight(&left).min(weight(&right)))?;
            match left.compare(&right) {
                Some(order) => Ok(Value::Bool(ordering(operator, order))),
                None => no_overload(),
            }
        }
        Operator::In => contained(on, left, right),
        Operator::Add => add(on, left, right),
        Operator::Subtract => match (left, right) {
            (Value::Timestamp(a), Value::Timestamp(b)) => {
                let nanos = a.as_nanosecond() - b.as_nanosecond();
                overflow(i64::try_from(nanos).ok().map(Value::Duration))
            }
            (Value::Timestamp(time), Value::Duration(nanos)) => shifted(time, nanos.checked_neg()),
            (Value::Duration(a), Value::Duration(b)) => overflow(a.checked_sub(b).map(Value::Duration)),
            (Value::Int(a), Value::Int(b)) => overflow(a.checked_sub(b).map(Value::Int)),
            (Value::Uint(a), Value::Uint(b)) => overflow(a.checked_sub(b).map(Value::Uint)),
            (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
            _ => no_overload(),
        },
        Operator::Multiply => match (left, right) {
            (Value::Int(a), Value::Int(b)) => overflow(a.checked_mul(b).map(Value::Int)),
            (Value::Uint(a), Value::Uint(b)) => overflow(a.checked_mul(b).map(Value::Uint)),
            (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
            _ => no_overload(),
        },
        Operator::Divide => match (left, right) {
            (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => error("division by zero"),
            (Value::Int(a), Value::Int(b)) => overflow(a.checked_div(b).map(Value::Int)),
            (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a / b)),
            (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
            _ => no_overload(),
        },
        Operator::Remainder => match (left, right) {
            (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => error("modulus by zero"),
            (Value::Int(a), Value::Int(b)) => overflow(a.checked_rem(b).map(Value::Int)),
            (Value::Uint(a), Value::Uint(b)) => Ok(Value::Uint(a % b)),
            _ => no_overload(),
        },
    }
}

/// Lists that are sets are compared each with each.
fn pay_for_equality(on: &mut Evaluation<'_>, left: &Value<'_>, right: &Value<'_>) -> Result<(), Failure> {
    let units = weight(left).min(weight(right));
    let set = |value: &Value<'_>| matches!(value, Value::Array(_, Some(schema)) if schema.list != crate::custom::ListType::Atomic);
    let times = if set(left) || set(right) {
        left.size().unwrap_or(1).max(1)
    } else {
        1
    };
    on.pay(units.saturating_mul(times))
}

fn contained<'a>(on: &mut Evaluation<'a>, one: Value<'a>, of: Value<'a>) -> Outcome<'a> {
    if let Some(items) = of.items() {
        on.pay(weight(&of))?;
        return Ok(Value::Bool(items.iter().any(|item| item.equals(&one))));
    }
    if of.entries().is_none() {
        return no_overload();
    }
    Ok(Value::Bool(of.member(&one).is_some()))
}

fn add<'a>(on: &mut Evaluation<'a>, left: Value<'a>, right: Value<'a>) -> Outcome<'a> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => overflow(a.checked_add(b).map(Value::Int)),
        (Value::Uint(a), Value::Uint(b)) => overflow(a.checked_add(b).map(Value::Uint)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::Duration(a), Value::Duration(b)) => overflow(a.checked_add(b).map(Value::Duration)),
        (Value::Timestamp(time), Value::Duration(nanos))
        | (Value::Duration(nanos), Value::Timestamp(time)) => shifted(time, Some(nanos)),
        (Value::String(a), Value::String(b)) => joined(on, vec![a.into_owned(), b.into_owned()], ""),
        (Value::Bytes(a), Value::Bytes(b)) => {
            on.pay((a.len() + b.len()) / BYTES_PER_UNIT)?;
            Ok(Value::Bytes([&a[..], &b[..]].concat().into()))
        }
        (a, b) => match (a.items(), b.items()) {
            (Some(mut first), Some(second)) => {
                on.pay(first.len() + second.len())?;
                first.extend(second);
                Ok(Value::list(first))
            }
            _ => no_overload(),
        },
    }
}

fn shifted<'a>(time: Timestamp, nanos: Option<i64>) -> Outcome<'a> {
    let moved = nanos.and_then(|nanos| time.checked_add(jiff::SignedDuration::from_nanos(nanos)).ok());
    overflow(moved.map(Value::Timestamp))
}

pub(super) fn joined<'a>(on: &mut Evaluation<'a>, parts: Vec<String>, separator: &str) -> Outcome<'a> {
    let bytes: usize = parts.iter().map(|part| part.len() + separator.len()).sum();
    on.pay(bytes / BYTES_PER_UNIT + parts.len())?;
    if bytes > TEXT_BYTES_MAX {
        return Err(Failure::OverBudget);
    }
    Ok(Value::text(parts.join(separator)))
}

/// A function.
pub(super) fn call<'a>(on: &mut Evaluation<'a>, name: &str, mut args: Vec<Value<'a>>) -> Outcome<'a> {
    on.pay(args.iter().map(weight).sum::<usize>() / 4)?;
    match (name, args.as_mut_slice()) {
        ("size", [value]) => match value.size() {
            Some(size) => Ok(Value::Int(size as i64)),
            None => no_overload(),
        },
        ("type", [value]) => Ok(Value::Type(value.type_name())),
        ("dyn", [value]) => Ok(value.clone()),
        ("matches", [Value::String(text), Value::String(regex)]) => matches(on, text, regex),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes" | "timestamp" | "duration", [value]) => {
            convert(name, value)
        }
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.of", [value]) => Ok(Value::Optional(Some(Rc::new(value.clone())))),
        ("optional.ofNonZeroValue", [value]) => {
            let zero = match &*value {
                Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) => true,
                Value::Double(number) => *number == 0.0,
                other => other.size() == Some(0),
            };
            Ok(Value::Optional((!zero).then(|| Rc::new(value.clone()))))
        }
        ("sets.contains" | "sets.intersects" | "sets.equivalent", [a, b]) => sets(on, name, a, b),
        ("jsonpatch.escapeKey", [Value::String(key)]) => {
            joined(on, vec![key.replace('~', "~0").replace('/', "~1")], "")
        }
        _ => library::call(on, name, args),
    }
}

fn sets<'a>(on: &mut Evaluation<'a>, name: &str, a: &Value<'a>, b: &Value<'a>) -> Outcome<'a> {
    let (Some(first), Some(second)) = (a.items(), b.items()) else {
        return no_overload();
    };
    on.pay(first.len().saturating_mul(second.len()))?;
    let within = |few: &[Value<'a>], many: &[Value<'a>]| few.iter().all(|x| many.iter().any(|y| x.equals(y)));
    Ok(Value::Bool(match name {
        "sets.contains" => within(&second, &first),
        "sets.intersects" => first.iter().any(|x| second.iter().any(|y| x.equals(y))),
        _ => within(&first, &second) && within(&second, &first),
    }))
}

fn matches<'a>(on: &mut Evaluation<'a>, text: &str, regex: &str) -> Outcome<'a> {
    on.pay((text.len() / BYTES_PER_UNIT + 1).saturating_mul(regex.len() / 4 + 1))?;
    match pattern::compile(regex) {
        Ok(regex) => Ok(Value::Bool(regex.is_match(text))),
        Err(why) => error(format!("error parsing regexp: {why}")),
    }
}

fn convert<'a>(to: &str, value: &Value<'a>) -> Outcome<'a> {
    match (to, value) {
        ("string", Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => error("invalid UTF-8 in bytes, cannot convert to string"),
        },
        ("string", Value::List(_) | Value::Array(..) | Value::Map(_) | Value::Object(..) | Value::Null) => {
            no_overload()
        }
        ("string", Value::String(_))
        | ("int", Value::Int(_))
        | ("uint", Value::Uint(_))
        | ("double", Value::Double(_))
        | ("bool", Value::Bool(_))
        | ("bytes", Value::Bytes(_))
        | ("duration", Value::Duration(_))
        | ("timestamp", Value::Timestamp(_)) => Ok(value.clone()),
        ("string", value) => Ok(Value::text(shown(value))),
        ("int", Value::Uint(number)) => overflow(i64::try_from(*number).ok().map(Value::Int)),
        ("int", Value::Double(number)) if number.abs() < 9.2e18 => Ok(Value::Int(number.trunc() as i64)),
        ("int", Value::Double(_)) => error("integer overflow"),
        ("int", Value::Timestamp(time)) => Ok(Value::Int(time.as_second())),
        ("int", Value::String(text)) => parsed(text.parse().map(Value::Int), to, text),
        ("uint", Value::Int(number)) => match u64::try_from(*number) {
            Ok(number) => Ok(Value::Uint(number)),
            Err(_) => error("unsigned integer overflow"),
        },
        ("uint", Value::Double(number)) if (0.0..1.8e19).contains(number) => Ok(Value::Uint(*number as u64)),
        ("uint", Value::String(text)) => parsed(text.parse().map(Value::Uint), to, text),
        ("double", Value::Int(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::Uint(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::String(text)) => parsed(text.parse().map(Value::Double), to, text),
        ("bool", Value::String(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            other => error(format!("type conversion error from 'string' to 'bool': {other}")),
        },
        ("bytes", Value::String(text)) => Ok(Value::Bytes(text.as_bytes().into())),
        ("timestamp", Value::String(text)) => parsed(text.parse().map(Value::Timestamp), to, text),
        ("timestamp", Value::Int(seconds)) => match Timestamp::from_second(*seconds) {
            Ok(time) => Ok(Value::Timestamp(time)),
            Err(_) => error("range error converting int to timestamp"),
        },
        ("duration", Value::String(text)) => match formats::duration_nanos(text) {
            Some(nanos) => Ok(Value::Duration(nanos)),
            None => error(format!("time: invalid duration \"{text}\"")),
        },
        _ => no_overload(),
    }
}

fn parsed<'a, E>(value: Result<Value<'a>, E>, to: &str, text: &str) -> Outcome<'a> {
    value.or_else(|_| {
        error(format!(
            "type conversion error from 'string' to '{to}': cannot parse \"{text}\""
        ))
    })
}

/// A method.
pub(super) fn method<'a>(
    on: &mut Evaluation<'a>,
    target: Value<'a>,
    name: &str,
    args: Vec<Value<'a>>,
) -> Outcome<'a> {
    on.pay((weight(&target) + args.iter().map(weight).sum::<usize>()) / 4)?;
    match (&target, name, args.as_slice()) {
        (_, "size", []) => call(on, "size", vec![target]),
        (Value::String(text), "matches", [Value::String(regex)]) => matches(on, text, regex),
        (Value::String(text), ..) => string(on, text, name, &args),
        (Value::Optional(inner), "hasValue", []) => Ok(Value::Bool(inner.is_some())),
        (Value::Optional(inner), "value", []) => match inner {
            Some(inner) => Ok((**inner).clone()),
            None => error("optional.none() dereference"),
        },
        (Value::Optional(inner), "orValue", [other]) => Ok(inner
            .as_ref()
            .map_or_else(|| other.clone(), |inner| (**inner).clone())),
        (Value::Optional(inner), "or", [other]) => Ok(if inner.is_some() { target } else { other.clone() }),
        (Value::Timestamp(time), ..) => timestamp(*time, name, &args),
        (Value::Access(access), ..) => access.call(on, name, &args),
        (Value::Duration(nanos), _, []) => {
            let whole = |unit: i64| Ok(Value::Int(nanos / unit));
            match name {
                "getHours" => whole(3_600_000_000_000),
                "getMinutes" => whole(60_000_000_000),
                "getSeconds" => whole(1_000_000_000),
                "getMilliseconds" => whole(1_000_000),
                _ => no_overload(),
            }
        }
        _ => match target.items() {
            Some(items) => list(on, items, name, &args),
            None => library::method(on, target, name, args),
        },
    }
}

fn timestamp<'a>(time: Timestamp, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let zone = match args {
        [] => TimeZone::UTC,
        [Value::String(zone)] => match library::time_zone(zone) {
            Some(zone) => zone,
            None => return error(format!("unknown time zone {zone}")),
        },
        _ => return no_overload(),
    };
    let zoned = time.to_zoned(zone);
    Ok(Value::Int(match name {
        "getFullYear" => i64::from(zoned.year()),
        "getMonth" => i64::from(zoned.month()) - 1,
        "getDate" => i64::from(zoned.day()),
        "getDayOfMonth" => i64::from(zoned.day()) - 1,
        "getDayOfWeek" => i64::from(zoned.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(zoned.day_of_year()) - 1,
        "getHours" => i64::from(zoned.hour()),
        "getMinutes" => i64::from(zoned.minute()),
        "getSeconds" => i64::from(zoned.second()),
        "getMilliseconds" => i64::from(zoned.millisecond()),
        _ => return no_overload(),
    }))
}
