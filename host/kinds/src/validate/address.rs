//! Addresses and networks in fields, as the original reads them since 1.36: strictly in new values.
//! Invariants: an IPv4 address with leading zeros is recognised, and refused; a value that stood in the old
//! object is not judged again. Called by the rules of pods, services, endpoints and networks.

use std::net::{IpAddr, Ipv4Addr};

use super::at::At;

const NOT_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const NOT_NETWORK: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address, leading zeros in it allowed.
pub(super) fn sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let mut parts = text.split('.');
    let mut octet = || {
        let part = parts.next()?;
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u8>().ok())?
    };
    let octets = [octet()?, octet()?, octet()?, octet()?];
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// A network: its address as given, its length.
pub(super) fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let (address, length) = (sloppy(address)?, length.parse::<u32>().ok()?);
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// The address with all bits beyond the length cleared.
fn masked(address: IpAddr, length: u32) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            Ipv4Addr::from(u32::from(four) & mask).into()
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or_default();
            std::net::Ipv6Addr::from(u128::from(six) & mask).into()
        }
    }
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some())
}

/// The rules of an address; whether it is one.
pub(super) fn check(at: &At, field: &str, old: &[&str]) -> bool {
    let text = at.text(field);
    if old.contains(&text) {
        return true;
    }
    match sloppy(text) {
        None => at.invalid_as(field, text, NOT_ADDRESS),
        Some(_) if text.parse::<IpAddr>().is_err() => at.invalid_as(field, text, "must not have leading 0s"),
        Some(address) if is_mapped(address) => {
            at.invalid_as(field, text, "must not be an IPv4-mapped IPv6 address");
        }
        Some(_) => return true,
    }
    false
}

/// The rules of an address that must be written in the one right way.
pub(super) fn check_canonical(at: &At, field: &str) {
    let text = at.text(field);
    if check(at, field, &[])
        && let Some(address) = sloppy(text)
        && address.to_string() != text
    {
        let why = format!("must be in canonical form (\"{address}\")");
        at.invalid_as(field, text, &why);
    }
}

/// The rules of a network; whether it is one.
pub(super) fn check_network(at: &At, field: &str, text: &str, old: &[&str]) -> bool {
    if old.contains(&text) {
        return true;
    }
    let Some((address, length)) = network(text) else {
        at.invalid_as(field, text, NOT_NETWORK);
        return false;
    };
    let (plain, digits) = text.split_once('/').unwrap_or((text, ""));
    if plain.parse::<IpAddr>().is_err() || (digits.len() > 1 && digits.starts_with('0')) {
        at.invalid_as(field, text, "must not have leading 0s in IP or prefix length");
    } else if is_mapped(address) {
        at.invalid_as(field, text, "must not have an IPv4-mapped IPv6 address");
    } else if masked(address, length) != address {
        at.invalid_as(field, text, "must not have bits set beyond the prefix length");
    } else {
        return true;
    }
    false
}

/// The rules of a network that must be written in the one right way.
pub(super) fn check_canonical_network(at: &At, field: &str) {
    let text = at.text(field);
    if check_network(at, field, text, &[])
        && let Some((address, length)) = network(text)
        && format!("{address}/{length}") != text
    {
        let why = format!("must be in canonical form (\"{address}/{length}\")");
        at.invalid_as(field, text, &why);
    }
}

/// An address outside of the node.
pub(super) fn check_remote(at: &At, field: &str) {
    let text = at.text(field);
    if sloppy(text).is_some_and(|address| address.is_loopback()) {
        let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        at.invalid_as(field, text, why);
    } else {
        check_reachable(at, field);
    }
}

/// An address that traffic from elsewhere can reach. The original refuses loopback addresses too; the pods of a
/// node without privileges have such.
pub(super) fn check_reachable(at: &At, field: &str) {
    let text = at.text(field);
    let Some(address) = sloppy(text) else {
        return at.invalid_as(field, text, "must be a valid IP address");
    };
    if address.is_unspecified() {
        at.invalid_as(field, text, &format!("may not be unspecified ({text})"));
    }
    let (local, local_group) = match address {
        IpAddr::V4(four) => (four.is_link_local(), four.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(six) => (six.is_unicast_link_local(), six.segments()[0] & 0xff0f == 0xff02),
    };
    if local {
        let why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        at.invalid_as(field, text, why);
    }
    if local_group {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        at.invalid_as(field, text, why);
    }
}

/// Whether there is at most one address of each family.
pub(super) fn one_of_each_family<'a>(texts: impl IntoIterator<Item = &'a str>) -> bool {
    let families: Vec<bool> = texts
        .into_iter()
        .filter_map(|text| {
            sloppy(text)
                .or_else(|| network(text).map(|(address, _)| address))
                .map(|address| address.is_ipv4())
        })
        .collect();
    families.len() <= 2 && (families.len() < 2 || families[0] != families[1])
}

/// Whether an address lies in a network.
pub(super) fn contains((network, length): (IpAddr, u32), address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && masked(network, length) == masked(address, length)
}
