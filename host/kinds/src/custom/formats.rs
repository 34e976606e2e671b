//! The string formats that the original checks in custom objects.
//! Invariants: an unknown format says yes, as the original ignores it; nothing is resolved or looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a text has a format.
pub(crate) fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10,
        "duration" => duration_nanos(text).is_some(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text).is_some(),
        "mac" => mac(text),
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "byte" => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "uuid" | "uuid3" | "uuid4" | "uuid5" => uuid(format, text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        "bsonobjectid" => text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "k8s-short-name" => crate::name::dns1123_label(text).is_empty(),
        "k8s-long-name" => crate::name::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// Whether the original knows the format of a string.
pub(super) fn is_known(format: &str) -> bool {
    matches!(
        format,
        "date-time"
            | "datetime"
            | "date"
            | "duration"
            | "ipv4"
            | "ipv6"
            | "cidr"
            | "mac"
            | "uri"
            | "email"
            | "hostname"
            | "byte"
            | "uuid"
            | "uuid3"
            | "uuid4"
            | "uuid5"
            | "hexcolor"
            | "bsonobjectid"
            | "k8s-short-name"
            | "k8s-long-name"
            | "password"
    )
}

/// An address and the length of its prefix.
pub(crate) fn cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|_| plain)?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

/// Nanoseconds of a duration in Go's notation, such as `1h30m` or `-1.5s`.
pub(crate) fn duration_nanos(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("µs", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
        ("d", 8.64e13),
    ];
    let mut total = 0.0;
    let mut any = false;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let amount: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let (unit, nanos) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += amount * nanos;
        rest = &rest[unit.len()..];
        any = true;
    }
    let total: f64 = sign * total;
    (any && total.abs() < 9.2e18).then_some(total.round() as i64)
}

fn mac(text: &str) -> bool {
    let separator = match text.as_bytes().get(2) {
        Some(b':') => ':',
        Some(b'-') => '-',
        _ => return false,
    };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts
            .iter()
            .all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A scheme with something after it, or an absolute path: what Go's ParseRequestURI takes.
fn uri(text: &str) -> bool {
    let plain = !text.contains(|c: char| c.is_ascii_control() || c == ' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
    });
    plain && (text.starts_with('/') || scheme)
}

fn email(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(user, host)| {
        !user.is_empty() && !host.is_empty() && !text.contains([' ', '<', '>', ',']) && !host.contains('@')
    })
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255 && text.trim_end_matches('.').split('.').all(label)
}

fn uuid(format: &str, text: &str) -> bool {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
    let shaped = digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit);
    shaped
        && match format {
            "uuid3" => digits[12] == b'3',
            "uuid4" => digits[12] == b'4',
            "uuid5" => digits[12] == b'5',
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        for (format, text, expected) in [
            ("date-time", "2026-01-01T00:00:00Z", true),
            ("date-time", "2026-01-01", false),
            ("date", "2026-01-01", true),
            ("duration", "1h30m", true),
            ("duration", "1x", false),
            ("ipv4", "1.2.3.4", true),
            ("ipv4", "::1", false),
            ("cidr", "10.0.0.0/8", true),
            ("cidr", "10.0.0.0/33", false),
            ("mac", "00:11:22:33:44:55", true),
            ("uri", "https://a.b/c", true),
            ("uri", "a b", false),
            ("email", "a@b.c", true),
            ("email", "ab.c", false),
            ("uuid", "a8098c1a-f86e-11da-bd1a-00112444be1e", true),
            ("nothing-known", "x", true),
        ] {
            assert_eq!(holds(format, text), expected, "{format} {text}");
        }
        assert_eq!(duration_nanos("-1.5s"), Some(-1_500_000_000));
    }
}
