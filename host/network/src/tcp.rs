//! Forwards TCP connections of one listener.
//!
//! Invariants: connections of the whole proxy are bounded by a shared budget; an endpoint that does not answer
//! is passed over for the next; a connection lives on when its listener or endpoint list goes (draining), and
//! ends when either side does.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::balance::Balance;

/// Longest wait for one endpoint to take a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Endpoints that are tried for one connection.
const ENDPOINTS_TRIED_MAX: usize = 5;

/// Pause after accepting failed, as it does when the process is out of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Accepts until dropped.
pub(crate) async fn serve(listener: TcpListener, balance: Arc<Mutex<Balance>>, budget: Arc<Semaphore>) {
    loop {
        // Over the budget nobody is accepted: clients wait in the kernel's queue.
        let Ok(permit) = Arc::clone(&budget).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, from)) => {
                tokio::spawn(forward(client, from, Arc::clone(&balance), permit));
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed, trying again");
                drop(permit);
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn forward(
    mut client: TcpStream,
    from: SocketAddr,
    balance: Arc<Mutex<Balance>>,
    _permit: OwnedSemaphorePermit,
) {
    let order = balance
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .order(from.ip(), Instant::now());
    for endpoint in order.into_iter().take(ENDPOINTS_TRIED_MAX) {
        let mut server = match tokio::time::timeout(CONNECT_MAX, TcpStream::connect(endpoint)).await {
            Ok(Ok(server)) => server,
            Ok(Err(error)) => {
                tracing::debug!(%endpoint, %error, "endpoint refused, trying the next");
                continue;
            }
            Err(_) => {
                tracing::debug!(%endpoint, "endpoint does not answer, trying the next");
                continue;
            }
        };
        balance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bind(from.ip(), endpoint, Instant::now());
        // Latency matters more than packets; a socket that refuses the option still works.
        let _ = client.set_nodelay(true);
        let _ = server.set_nodelay(true);
        if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
            tracing::trace!(%endpoint, %error, "connection ended");
        }
        return;
    }
}
