//! The little of ASN.1's distinguished encoding that a certificate needs. Pure.

use x509_parser::extensions::GeneralName;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OBJECT: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// One value with its tag and length.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length.to_le_bytes()[0]);
    } else {
        let bytes = length.to_be_bytes();
        let first = bytes
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(bytes.len() - 1);
        let bytes = &bytes[first..];
        out.push(0x80 | bytes.len().to_le_bytes()[0]);
        out.extend_from_slice(bytes);
    }
    out.extend_from_slice(content);
    out
}

/// A sequence of values.
pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

/// A time: in two digits of the year until 2049, in four from then on.
pub(super) fn time(at: jiff::Timestamp) -> Vec<u8> {
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    match at.year() {
        1950..=2049 => value(UTC_TIME, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()),
        _ => value(
            GENERALIZED_TIME,
            at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes(),
        ),
    }
}

/// An extension; `object` is the identifier's content.
pub(super) fn extension(object: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let (id, inner) = (value(OBJECT, object), value(OCTET_STRING, content));
    match critical {
        true => sequence(&[&id, &TRUE, &inner]),
        false => sequence(&[&id, &inner]),
    }
}

/// The content of a subject alternative name of hosts, addresses, mailboxes and URIs; others are left out.
pub(super) fn general_names(names: &[GeneralName<'_>]) -> Vec<u8> {
    let parts: Vec<Vec<u8>> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::RFC822Name(text) => Some(value(0x81, text.as_bytes())),
            GeneralName::DNSName(text) => Some(value(0x82, text.as_bytes())),
            GeneralName::URI(text) => Some(value(0x86, text.as_bytes())),
            GeneralName::IPAddress(bytes) => Some(value(0x87, bytes)),
            _ => None,
        })
        .collect();
    value(SEQUENCE, &parts.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_times_are_distinguished() {
        assert_eq!(value(OCTET_STRING, &[7; 3])[..2], [4, 3]);
        assert_eq!(value(OCTET_STRING, &[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(value(OCTET_STRING, &[7; 300])[..4], [4, 0x82, 1, 44]);
        let at = |text: &str| time(text.parse().unwrap());
        assert_eq!(
            at("2026-01-02T03:04:05Z"),
            [&[0x17, 13][..], b"260102030405Z"].concat()
        );
        assert_eq!(
            at("2051-01-02T03:04:05Z"),
            [&[0x18, 15][..], b"20510102030405Z"].concat()
        );
    }
}
