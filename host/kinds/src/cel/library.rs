//! Kubernetes' own functions in CEL: quantities, addresses, URLs, named formats, semantic versions, `format`,
//! time zones. Invariants: as in the original's libraries; what cannot be read is an error of the expression.

use std::net::IpAddr;
use std::rc::Rc;

use jiff::tz::{Offset, TimeZone};

use super::eval::{Evaluation, Outcome, error, no_overload};
use super::functions::{joined, shown};
use super::value::Value;
use crate::custom::formats;
use crate::name;
use crate::quantity::{Format, Quantity};

const NAMED_FORMATS: [&str; 12] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
];

/// A zone's name or an offset such as `+02:00`.
pub(super) fn time_zone(name: &str) -> Option<TimeZone> {
    if matches!(name, "UTC" | "") {
        return Some(TimeZone::UTC);
    }
    if let Some((hours, minutes)) = name.split_once(':') {
        let negative = hours.starts_with('-');
        let hours: i32 = hours.trim_start_matches(['+', '-']).parse().ok()?;
        let minutes: i32 = minutes.parse().ok()?;
        let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
        let offset = Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?;
        return Some(TimeZone::fixed(offset));
    }
    TimeZone::get(name).ok()
}

/// Quantities may be in other forms than a user would see: leading signs and spaces are not taken.
fn quantity(text: &str) -> Option<Quantity> {
    text.parse().ok()
}

/// Addresses as Go's netip reads them, without zones and without IPv4 in IPv6.
fn ip(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address \"{text}\" is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!(
            "IP Address \"{text}\" parse error during conversion from string"
        )),
    }
}

fn is_url(text: &str) -> bool {
    formats::holds("uri", text)
}

/// A function; those of the standard library have been tried.
pub(super) fn call<'a>(_on: &mut Evaluation<'a>, name: &str, args: Vec<Value<'a>>) -> Outcome<'a> {
    if let ("semver" | "isSemver", [Value::String(text), Value::Bool(loose)]) = (name, args.as_slice()) {
        return semver(name, text, *loose);
    }
    let [value] = args.as_slice() else {
        return match (name.strip_prefix("format."), args.is_empty()) {
            (Some(name), true) if NAMED_FORMATS.contains(&name) => Ok(Value::Format(name.into())),
            _ => no_overload(),
        };
    };
    let Value::String(text) = value else {
        return no_overload();
    };
    match name {
        "quantity" => match quantity(text) {
            Some(quantity) => Ok(Value::Quantity(quantity)),
            None => error(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        },
        "semver" | "isSemver" => semver(name, text, false),
        "isQuantity" => Ok(Value::Bool(quantity(text).is_some())),
        "ip" => ip(text).map(Value::Ip).or_else(error),
        "isIP" => Ok(Value::Bool(ip(text).is_ok())),
        "ip.isCanonical" => match ip(text) {
            Ok(address) => Ok(Value::Bool(address.to_string() == **text)),
            Err(message) => error(message),
        },
        "cidr" => match formats::cidr(text) {
            Some((address, bits)) => Ok(Value::Cidr(address, bits)),
            None => error(format!(
                "network address parse error during conversion from string: \"{text}\""
            )),
        },
        "isCIDR" => Ok(Value::Bool(formats::cidr(text).is_some())),
        "url" if is_url(text) => Ok(Value::Url(text.to_string().into())),
        "url" => error(format!(
            "URL parse error during conversion from string: \"{text}\""
        )),
        "isURL" => Ok(Value::Bool(is_url(text))),
        "format.named" => Ok(Value::Optional(
            NAMED_FORMATS
                .contains(&&**text)
                .then(|| Rc::new(Value::Format(text.to_string().into()))),
        )),
        _ => no_overload(),
    }
}

/// `semver` and `isSemver`; loosely, as the original normalizes: without a leading `v`, with three numbers
/// that start with no zero.
fn semver<'a>(name: &str, text: &str, loose: bool) -> Outcome<'a> {
    let mut text = text.to_string();
    if loose {
        let plain = text.strip_prefix('v').unwrap_or(&text).to_string();
        let end = plain.find(['-', '+']).unwrap_or(plain.len());
        let (numbers, rest) = plain.split_at(end);
        let mut parts: Vec<&str> = numbers
            .split('.')
            .map(|part| match part.trim_start_matches('0') {
                "" => "0",
                part => part,
            })
            .collect();
        while parts.len() < 3 {
            parts.push("0");
        }
        text = format!("{}{rest}", parts.join("."));
    }
    match (name, text.parse::<semver::Version>()) {
        ("isSemver", version) => Ok(Value::Bool(version.is_ok())),
        (_, Ok(version)) => Ok(Value::Semver(Rc::new(version))),
        (_, Err(why)) => error(format!("Invalid semantic version: {why}")),
    }
}

fn of_semver<'a>(version: &semver::Version, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let number = |number: u64| Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)));
    match (name, args) {
        ("major", []) => number(version.major),
        ("minor", []) => number(version.minor),
        ("patch", []) => number(version.patch),
        ("isLessThan", [Value::Semver(other)]) => Ok(Value::Bool(version.cmp_precedence(other).is_lt())),
        ("isGreaterThan", [Value::Semver(other)]) => Ok(Value::Bool(version.cmp_precedence(other).is_gt())),
        ("compareTo", [Value::Semver(other)]) => Ok(Value::Int(version.cmp_precedence(other) as i64)),
        _ => no_overload(),
    }
}

/// A method; those of texts, lists, times and optionals have been tried.
pub(super) fn method<'a>(
    _on: &mut Evaluation<'a>,
    target: Value<'a>,
    name: &str,
    args: Vec<Value<'a>>,
) -> Outcome<'a> {
    match (&target, args.as_slice()) {
        (Value::Quantity(quantity), args) => of_quantity(quantity, name, args),
        (Value::Semver(version), args) => of_semver(version, name, args),
        (Value::Ip(address), []) => of_ip(*address, name),
        (Value::Cidr(address, bits), args) => of_cidr(*address, *bits, name, args),
        (Value::Url(text), []) => of_url(text, name),
        (Value::Format(format), [Value::String(text)]) if name == "validate" => validate(format, text),
        _ => no_overload(),
    }
}

fn of_quantity<'a>(quantity: &Quantity, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    match (name, args) {
        ("sign", []) => Ok(Value::Int(match (quantity.is_zero(), quantity.is_negative()) {
            (true, _) => 0,
            (_, true) => -1,
            _ => 1,
        })),
        ("isInteger", []) => Ok(Value::Bool(quantity.is_whole())),
        ("asInteger", []) if quantity.is_whole() => Ok(Value::Int(quantity.as_i64_ceil())),
        ("asInteger", []) => error("cannot convert value to integer"),
        ("asApproximateFloat", []) => Ok(Value::Double(quantity.milli_value() as f64 / 1000.0)),
        ("isLessThan", [Value::Quantity(other)]) => Ok(Value::Bool(quantity < other)),
        ("isGreaterThan", [Value::Quantity(other)]) => Ok(Value::Bool(quantity > other)),
        ("compareTo", [Value::Quantity(other)]) => Ok(Value::Int(quantity.cmp(other) as i64)),
        ("add" | "sub", [other]) => {
            let other = match other {
                Value::Quantity(other) => *other,
                Value::Int(number) => Quantity::from_value(*number, Format::DecimalSi),
                _ => return no_overload(),
            };
            let mut result = *quantity;
            if name == "add" {
                result.add(&other);
            } else {
                result.sub(&other);
            }
            Ok(Value::Quantity(result))
        }
        _ => no_overload(),
    }
}

fn of_ip<'a>(address: IpAddr, name: &str) -> Outcome<'a> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[0] & 0xffc0 == 0xfe80,
    };
    let local_multicast = match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    };
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    Ok(match name {
        "family" => Value::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Value::Bool(address.is_unspecified()),
        "isLoopback" => Value::Bool(address.is_loopback()),
        "isLinkLocalMulticast" => Value::Bool(local_multicast),
        "isLinkLocalUnicast" => Value::Bool(link_local),
        "isGlobalUnicast" => Value::Bool(
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || link_local
                || broadcast),
        ),
        _ => return no_overload(),
    })
}

/// The network part of an address.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn of_cidr<'a>(address: IpAddr, bits: u8, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let holds = |other: IpAddr, other_bits: u8| {
        other.is_ipv4() == address.is_ipv4()
            && other_bits >= bits
            && masked(other, bits) == masked(address, bits)
    };
    let whole = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
    match (name, args) {
        ("ip", []) => Ok(Value::Ip(address)),
        ("masked", []) => Ok(Value::Cidr(masked(address, bits), bits)),
        ("prefixLength", []) => Ok(Value::Int(i64::from(bits))),
        ("containsIP", [Value::Ip(other)]) => Ok(Value::Bool(holds(*other, whole(*other)))),
        ("containsIP", [Value::String(text)]) => match ip(text) {
            Ok(other) => Ok(Value::Bool(holds(other, whole(other)))),
            Err(message) => error(message),
        },
        ("containsCIDR", [Value::Cidr(other, other_bits)]) => Ok(Value::Bool(holds(*other, *other_bits))),
        ("containsCIDR", [Value::String(text)]) => match formats::cidr(text) {
            Some((other, other_bits)) => Ok(Value::Bool(holds(other, other_bits))),
            None => error(format!(
                "network address parse error during conversion from string: \"{text}\""
            )),
        },
        _ => no_overload(),
    }
}

/// `scheme://user@host:port/path?query#fragment`.
fn of_url<'a>(text: &str, name: &str) -> Outcome<'a> {
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if !text.starts_with('/') => (scheme, rest),
        _ => ("", text),
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let (hostname, port) = match host.rsplit_once(':') {
        Some((hostname, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (hostname, port),
        _ => (host, ""),
    };
    Ok(match name {
        "getScheme" => Value::text(scheme.to_ascii_lowercase()),
        "getHost" => Value::text(host),
        "getHostname" => Value::text(hostname.trim_start_matches('[').trim_end_matches(']')),
        "getPort" => Value::text(port),
        "getEscapedPath" => Value::text(path),
        "getQuery" => {
            let mut entries: Vec<(Value<'_>, Vec<Value<'_>>)> = Vec::new();
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                let (key, value) = (Value::text(key), Value::text(value));
                match entries.iter_mut().find(|(one, _)| one.equals(&key)) {
                    Some((_, values)) => values.push(value),
                    None => entries.push((key, vec![value])),
                }
            }
            let entries = entries
                .into_iter()
                .map(|(key, values)| (key, Value::list(values)));
            Value::Map(Rc::new(entries.collect()))
        }
        _ => return no_overload(),
    })
}

/// `format.dns1123Label().validate(text)`: none, or what is wrong.
fn validate<'a>(format: &str, text: &str) -> Outcome<'a> {
    let prefix = |rule: fn(&str) -> Vec<String>| rule(&format!("{}a", text.trim_end_matches('-')));
    let whether = |kind: &str| match formats::holds(kind, text) {
        true => Vec::new(),
        false => vec![format!("must be a valid {kind}")],
    };
    let problems = match format {
        "dns1123Label" => name::dns1123_label(text),
        "dns1123Subdomain" => name::dns1123_subdomain(text),
        "dns1035Label" => name::dns1035_label(text),
        "qualifiedName" => name::qualified(text),
        "dns1123LabelPrefix" => prefix(name::dns1123_label),
        "dns1123SubdomainPrefix" => prefix(name::dns1123_subdomain),
        "dns1035LabelPrefix" => prefix(name::dns1035_label),
        "labelValue" => name::label_value(text),
        other => whether(other),
    };
    let problems: Vec<Value<'a>> = problems.into_iter().map(Value::text).collect();
    Ok(Value::Optional(
        (!problems.is_empty()).then(|| Rc::new(Value::list(problems))),
    ))
}

/// `"%s is %d".format([a, b])`.
pub(super) fn format<'a>(on: &mut Evaluation<'a>, text: &str, list: &Value<'a>) -> Outcome<'a> {
    let Some(items) = list.items() else {
        return no_overload();
    };
    let mut items = items.into_iter();
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut places = None;
        let mut verb = chars.next();
        if verb == Some('.') {
            let mut digits = String::new();
            verb = chars.next();
            while let Some(digit) = verb.filter(char::is_ascii_digit) {
                digits.push(digit);
                verb = chars.next();
            }
            places = digits.parse::<usize>().ok().filter(|places| *places <= 100);
        }
        let Some(verb) = verb else {
            return error("unexpected end of format string");
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(item) = items.next() else {
            return error("index out of range: not enough arguments for the format");
        };
        let float = |value: &Value<'_>| match value {
            Value::Double(number) => Some(*number),
            Value::Int(number) => Some(*number as f64),
            Value::Uint(number) => Some(*number as f64),
            _ => None,
        };
        match (verb, &item, float(&item)) {
            ('s', item, _) => out.push_str(&shown(item)),
            ('d', Value::Int(_) | Value::Uint(_), _) => out.push_str(&shown(&item)),
            ('f', _, Some(number)) => out.push_str(&format!("{number:.*}", places.unwrap_or(6))),
            ('e', _, Some(number)) => out.push_str(&format!("{number:.*e}", places.unwrap_or(6))),
            ('b', Value::Int(number), _) => out.push_str(&format!("{number:b}")),
            ('b', Value::Bool(flag), _) => out.push(if *flag { '1' } else { '0' }),
            ('o', Value::Int(number), _) => out.push_str(&format!("{number:o}")),
            ('x', Value::Int(number), _) => out.push_str(&format!("{number:x}")),
            ('X', Value::Int(number), _) => out.push_str(&format!("{number:X}")),
            ('x', Value::String(text), _) => {
                text.bytes().for_each(|byte| out.push_str(&format!("{byte:02x}")));
            }
            _ => return error(format!("error during formatting: no such overload for %{verb}")),
        }
    }
    joined(on, vec![out], "")
}
