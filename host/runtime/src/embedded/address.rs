//! Pod addresses without root: each sandbox gets a loopback address of its own.
//!
//! An address is claimed by holding a UDP socket on its last port, so that two runtimes on one machine never
//! give out the same one, and a dead process holds none. Where to begin is derived from the state folder, and
//! a freed address is the last to be used again.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use crate::{Error, Result};

/// The port whose socket is the claim.
const CLAIM_PORT: u16 = u16::MAX;
/// Addresses tried before giving up.
const TRIES_MAX: u32 = 4096;

/// The network that pod addresses come from; all of `127.0.0.0/8` is on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodAddresses {
    /// First address of the network.
    pub network: Ipv4Addr,
    /// Length of its prefix, at most 30.
    pub prefix_length: u8,
}

impl Default for PodAddresses {
    fn default() -> Self {
        Self {
            network: Ipv4Addr::new(127, 64, 0, 0),
            prefix_length: 16,
        }
    }
}

/// Gives out addresses and takes them back.
#[derive(Debug)]
pub(crate) struct Allocator {
    first: u32,
    count: u32,
    next: u32,
    claims: HashMap<IpAddr, UdpSocket>,
}

impl Allocator {
    pub(crate) fn new(addresses: PodAddresses, state_dir: &Path) -> Result<Self> {
        let PodAddresses {
            network,
            prefix_length,
        } = addresses;
        if !(8..=30).contains(&prefix_length) {
            let text =
                format!("pod network {network}/{prefix_length}: the prefix length must be from 8 to 30");
            return Err(Error::Precondition(text));
        }
        // The network's own address and the last one are left out.
        let count = (1u32 << (32 - prefix_length)) - 2;
        let first = (u32::from(network) & !(count + 1)) + 1;
        let mut hasher = DefaultHasher::new();
        state_dir.hash(&mut hasher);
        let next = u32::try_from(hasher.finish() % u64::from(count)).unwrap_or(0);
        Ok(Self {
            first,
            count,
            next,
            claims: HashMap::new(),
        })
    }

    /// Claims a free address.
    pub(crate) fn allocate(&mut self) -> Result<IpAddr> {
        let mut last_error = None;
        for _ in 0..self.count.min(TRIES_MAX) {
            let address = IpAddr::from(Ipv4Addr::from(self.first + self.next));
            self.next = (self.next + 1) % self.count;
            if self.claims.contains_key(&address) {
                continue;
            }
            match UdpSocket::bind((address, CLAIM_PORT)) {
                Ok(claim) => {
                    self.claims.insert(address, claim);
                    return Ok(address);
                }
                Err(error) => last_error = Some(error),
            }
        }
        let network = Ipv4Addr::from(self.first - 1);
        Err(Error::Io {
            context: format!(
                "no pod address is free in {network} ({} are in use here)",
                self.claims.len()
            ),
            source: last_error.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into()),
        })
    }

    /// Claims an address that a sandbox had before; false when somebody else has it now.
    pub(crate) fn reclaim(&mut self, address: IpAddr) -> bool {
        match UdpSocket::bind((address, CLAIM_PORT)) {
            Ok(claim) => {
                self.claims.insert(address, claim);
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn free(&mut self, address: IpAddr) {
        self.claims.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_and_return() {
        // A network of two addresses, for this test alone.
        let network = PodAddresses {
            network: "127.77.77.0".parse().unwrap(),
            prefix_length: 30,
        };
        let mut one = Allocator::new(network, Path::new("one")).unwrap();
        let mut other = Allocator::new(network, Path::new("other")).unwrap();
        let first = one.allocate().unwrap();
        let second = other.allocate().unwrap();
        assert_ne!(first, second);
        assert!(
            one.allocate()
                .unwrap_err()
                .to_string()
                .contains("no pod address is free in 127.77.77.0")
        );
        assert!(!one.reclaim(second));
        other.free(second);
        assert!(one.reclaim(second));
    }
}
