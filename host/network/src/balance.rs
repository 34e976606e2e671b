//! Picks the endpoint for a connection: in turn, or the same again for the same client. Pure.
//!
//! Invariant: an endpoint that is no longer listed is never picked, whatever a client was bound to before.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Clients of one port that are remembered.
const CLIENTS_MAX: usize = 10_000;

/// The endpoints of one Service port, and whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    endpoints: Vec<SocketAddr>,
    affinity: Option<Duration>,
    turn: usize,
    clients: HashMap<IpAddr, (SocketAddr, Instant)>,
}

impl Balance {
    /// Takes over a new list.
    pub(crate) fn set(&mut self, endpoints: Vec<SocketAddr>, affinity: Option<Duration>) {
        self.clients
            .retain(|_, (bound, _)| affinity.is_some() && endpoints.contains(bound));
        self.endpoints = endpoints;
        self.affinity = affinity;
    }

    /// All endpoints in the order in which to try them for this client.
    pub(crate) fn order(&mut self, client: IpAddr, now: Instant) -> Vec<SocketAddr> {
        if self.endpoints.is_empty() {
            return Vec::new();
        }
        let start = self.turn % self.endpoints.len();
        self.turn = self.turn.wrapping_add(1);
        let mut order = self.endpoints.clone();
        order.rotate_left(start);
        let Some(timeout) = self.affinity else {
            return order;
        };
        if let Some((bound, last)) = self.clients.get(&client)
            && now.duration_since(*last) < timeout
            && let Some(at) = order.iter().position(|endpoint| endpoint == bound)
        {
            order[..=at].rotate_right(1);
        }
        order
    }

    /// The client got this endpoint.
    pub(crate) fn bind(&mut self, client: IpAddr, endpoint: SocketAddr, now: Instant) {
        let Some(timeout) = self.affinity else { return };
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            self.clients
                .retain(|_, (_, last)| now.duration_since(*last) < timeout);
            if self.clients.len() >= CLIENTS_MAX {
                return;
            }
        }
        self.clients.insert(client, (endpoint, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(ports: &[u16]) -> Vec<SocketAddr> {
        ports
            .iter()
            .map(|port| SocketAddr::from(([127, 0, 0, 1], *port)))
            .collect()
    }

    #[test]
    fn in_turn_or_bound() {
        let (now, client) = (Instant::now(), IpAddr::from([127, 0, 0, 9]));
        let mut balance = Balance::default();
        assert!(balance.order(client, now).is_empty());
        balance.set(endpoints(&[1, 2, 3]), None);
        let firsts: Vec<u16> = (0..6).map(|_| balance.order(client, now)[0].port()).collect();
        assert_eq!(firsts, [1, 2, 3, 1, 2, 3]);

        balance.set(endpoints(&[1, 2, 3]), Some(Duration::from_secs(10)));
        let first = balance.order(client, now)[0];
        balance.bind(client, first, now);
        for seconds in [1, 5, 9] {
            assert_eq!(
                balance.order(client, now + Duration::from_secs(seconds))[0],
                first
            );
        }
        let late: Vec<_> = (0..3)
            .map(|_| balance.order(client, now + Duration::from_secs(11))[0])
            .collect();
        assert!(
            late.iter().any(|endpoint| *endpoint != first),
            "forgotten after its time"
        );
        balance.bind(client, first, now);
        let rest: Vec<_> = endpoints(&[1, 2, 3])
            .into_iter()
            .filter(|endpoint| *endpoint != first)
            .collect();
        balance.set(rest, Some(Duration::from_secs(10)));
        assert!(!balance.order(client, now).contains(&first), "gone is gone");
    }
}
