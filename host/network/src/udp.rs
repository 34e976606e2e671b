//! Forwards UDP datagrams of one listener: one upstream socket a client, forgotten when idle.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use crate::balance::Balance;

/// Clients of one port at a time; over it, datagrams of new clients are dropped.
const CLIENTS_MAX: usize = 1024;

/// After this silence of its endpoint a client is forgotten.
const IDLE: Duration = Duration::from_secs(30);

const DATAGRAM_MAX: usize = 65_535;

/// Forwards until dropped.
pub(crate) async fn serve(socket: UdpSocket, balance: Arc<Mutex<Balance>>) {
    let socket = Arc::new(socket);
    let mut upstreams: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut readers: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            Some(ended) = readers.join_next(), if !readers.is_empty() => {
                if let Ok(client) = ended {
                    upstreams.remove(&client);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                let Ok((length, client)) = received else { continue };
                if !upstreams.contains_key(&client) {
                    if upstreams.len() >= CLIENTS_MAX {
                        continue;
                    }
                    let Some(upstream) = connect(client, &balance).await else { continue };
                    let upstream = Arc::new(upstream);
                    readers.spawn(answer(Arc::clone(&socket), Arc::clone(&upstream), client));
                    upstreams.insert(client, upstream);
                }
                if let Some(upstream) = upstreams.get(&client) {
                    // A datagram may be lost: that is UDP.
                    let _ = upstream.send(&buffer[..length]).await;
                }
            }
        }
    }
}

async fn connect(client: SocketAddr, balance: &Mutex<Balance>) -> Option<UdpSocket> {
    let now = Instant::now();
    let endpoint = *balance
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .order(client.ip(), now)
        .first()?;
    let any: SocketAddr = match endpoint {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let upstream = UdpSocket::bind(any).await.ok()?;
    upstream.connect(endpoint).await.ok()?;
    balance
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .bind(client.ip(), endpoint, now);
    Some(upstream)
}

async fn answer(socket: Arc<UdpSocket>, upstream: Arc<UdpSocket>, client: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM_MAX];
    while let Ok(Ok(length)) = tokio::time::timeout(IDLE, upstream.recv(&mut buffer)).await {
        if socket.send_to(&buffer[..length], client).await.is_err() {
            break;
        }
    }
    client
}
