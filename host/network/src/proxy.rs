//! Opens and closes listeners until they are what the plan says.
//!
//! Invariants: a listener whose endpoints change stays open; one that cannot be opened is told on its Service
//! once and tried again, and hinders no other. One task owns all listeners.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capstan_client::Shared;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::Error;
use crate::balance::Balance;
use crate::event::warn;
use crate::plan::{Back, Front, Protocol, Snapshot, name_of, plan};
use crate::{tcp, udp};

/// TCP connections of all Services together.
const CONNECTIONS_MAX: usize = 8192;

/// Listeners of all Services together.
const LISTENERS_MAX: usize = 4096;

/// Pause before a listener that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

const SYNC_MAX: Duration = Duration::from_secs(60);

/// What the composition root decides.
#[derive(Debug, Clone)]
pub struct ProxyOptions {
    /// This node: `Local` traffic policies keep to its endpoints.
    pub node_name: String,
    /// Where node ports are offered.
    pub node_port_addresses: Vec<IpAddr>,
}

impl ProxyOptions {
    /// Node ports on loopback alone.
    pub fn new(node_name: impl Into<String>) -> Self {
        Self {
            node_name: node_name.into(),
            node_port_addresses: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        }
    }
}

/// The running service proxy; its listeners close when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts it; `client` records what cannot be opened. Needs a tokio runtime.
    pub fn start(client: Client, shared: &Shared, options: ProxyOptions) -> Self {
        Self {
            task: tokio::spawn(keep_running(client, shared.clone(), options)),
        }
    }

    /// Closes all listeners. Connections under way go on until they end by themselves.
    pub async fn shutdown(mut self) {
        self.task.abort();
        // It was aborted: that is no failure.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_running(client: Client, shared: Shared, options: ProxyOptions) {
    loop {
        if let Err(error) = run(&client, &shared, &options).await {
            tracing::warn!(%error, "service proxy could not start, trying again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn run(client: &Client, shared: &Shared, options: &ProxyOptions) -> Result<(), Error> {
    let (services, slices) = (&shared.services, &shared.endpoint_slices);
    services.synced(SYNC_MAX).await?;
    slices.synced(SYNC_MAX).await?;
    let (mut services_changed, mut slices_changed) = (services.changes(), slices.changes());
    let mut listeners = Listeners::new(client.clone(), options.node_name.clone());
    loop {
        services_changed.borrow_and_update();
        slices_changed.borrow_and_update();
        let (services, slices) = (services.list(), slices.list());
        let wanted = plan(&Snapshot {
            services: &services,
            slices: &slices,
            node_name: &options.node_name,
            node_addresses: &options.node_port_addresses,
        });
        let failed = listeners.bring_to(wanted).await;
        tokio::select! {
            changed = services_changed.changed() => if changed.is_err() { return Ok(()) },
            changed = slices_changed.changed() => if changed.is_err() { return Ok(()) },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

struct Open {
    balance: Arc<Mutex<Balance>>,
    task: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Listeners {
    client: Client,
    node_name: String,
    open: HashMap<Front, Open>,
    /// What was told, by listener: the Service's uid and the reason.
    told: HashMap<Front, (Option<String>, ErrorKind)>,
    budget: Arc<Semaphore>,
}

impl Listeners {
    fn new(client: Client, node_name: String) -> Self {
        Self {
            client,
            node_name,
            open: HashMap::new(),
            told: HashMap::new(),
            budget: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        }
    }

    /// Answers whether something could not be opened.
    async fn bring_to(&mut self, wanted: std::collections::BTreeMap<Front, Back>) -> bool {
        self.open.retain(|front, _| wanted.contains_key(front));
        self.told.retain(|front, _| wanted.contains_key(front));
        let mut failed = false;
        for (front, back) in wanted {
            if let Some(open) = self.open.get(&front) {
                set(&open.balance, &back);
                continue;
            }
            if self.open.len() >= LISTENERS_MAX {
                tracing::warn!(address = %front.address, "too many listeners: this one is not opened");
                failed = true;
                continue;
            }
            match self.listen(front, &back).await {
                Ok(open) => {
                    tracing::debug!(address = %front.address, service = name_of(&back.service), "listening");
                    self.told.remove(&front);
                    self.open.insert(front, open);
                }
                Err(error) => {
                    failed = true;
                    self.tell(front, &back.service, &error).await;
                }
            }
        }
        failed
    }

    async fn listen(&self, front: Front, back: &Back) -> std::io::Result<Open> {
        let balance = Arc::new(Mutex::new(Balance::default()));
        set(&balance, back);
        let task = match front.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(front.address).await?;
                tokio::spawn(tcp::serve(
                    listener,
                    Arc::clone(&balance),
                    Arc::clone(&self.budget),
                ))
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(front.address).await?;
                tokio::spawn(udp::serve(socket, Arc::clone(&balance)))
            }
        };
        Ok(Open { balance, task })
    }

    async fn tell(&mut self, front: Front, service: &Service, error: &std::io::Error) {
        let told = (service.metadata.uid.clone(), error.kind());
        if self.told.get(&front) == Some(&told) {
            return;
        }
        self.told.insert(front, told);
        let address = front.address;
        let (reason, message) = match error.kind() {
            ErrorKind::PermissionDenied => (
                "PortNotPermitted",
                format!(
                    "cannot listen on {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE. Give the \
                     Service a spec.ports[].port of 1024 or above, or spec.type NodePort and use the node port."
                ),
            ),
            ErrorKind::AddrInUse => (
                "PortInUse",
                format!("cannot listen on {address}: another process uses it. Trying again."),
            ),
            ErrorKind::AddrNotAvailable => (
                "AddressNotAvailable",
                format!(
                    "cannot listen on {address}: it is no address of this machine. Without root, cluster IPs must \
                     be loopback addresses (127.96.0.0/16)."
                ),
            ),
            _ => (
                "PortNotOpen",
                format!("cannot listen on {address}: {error}. Trying again."),
            ),
        };
        tracing::warn!(service = name_of(service), message, "service port is not open");
        // The API server's own Service needs no proxy where clients have its address.
        if name_of(service) != "default/kubernetes" {
            warn(&self.client, &self.node_name, service, reason, message).await;
        }
    }
}

fn set(balance: &Mutex<Balance>, back: &Back) {
    balance
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .set(back.endpoints.clone(), back.affinity);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// No API server: events go nowhere.
    fn nobody() -> Client {
        capstan_client::over(tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("nobody is there"))
        }))
    }

    /// A server that says its name and ends.
    async fn server(name: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name.as_bytes()).await.unwrap();
            }
        });
        address
    }

    async fn ask(address: SocketAddr) -> std::io::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    async fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap()
    }

    fn back(endpoints: &[SocketAddr]) -> Back {
        Back {
            service: Arc::default(),
            endpoints: endpoints.to_vec(),
            affinity: None,
        }
    }

    #[tokio::test]
    async fn forwards_in_turn_and_passes_over_the_dead() {
        let (a, b, dead, front) = (server("a").await, server("b").await, free().await, free().await);
        let mut listeners = Listeners::new(nobody(), "n".into());
        let tcp = Front {
            protocol: Protocol::Tcp,
            address: front,
        };
        assert!(
            !listeners
                .bring_to(BTreeMap::from([(tcp, back(&[a, b, dead]))]))
                .await
        );
        let mut said = Vec::new();
        for _ in 0..6 {
            said.push(ask(front).await.unwrap());
        }
        assert!(said.iter().all(|name| name == "a" || name == "b"), "{said:?}");
        assert!(
            said.contains(&"a".to_owned()) && said.contains(&"b".to_owned()),
            "{said:?}"
        );

        listeners.bring_to(BTreeMap::from([(tcp, back(&[b]))])).await;
        assert_eq!(ask(front).await.unwrap(), "b");
        listeners.bring_to(BTreeMap::new()).await;
        let closed = tokio::time::timeout(Duration::from_secs(5), async {
            while ask(front).await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        closed.await.expect("a Service without endpoints refuses");
    }

    #[tokio::test]
    async fn a_taken_port_hinders_no_other() {
        let (a, front) = (server("a").await, free().await);
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listeners = Listeners::new(nobody(), "n".into());
        let front_of = |address| Front {
            protocol: Protocol::Tcp,
            address,
        };
        let wanted = BTreeMap::from([
            (front_of(taken.local_addr().unwrap()), back(&[a])),
            (front_of(front), back(&[a])),
        ]);
        assert!(listeners.bring_to(wanted).await, "told that something failed");
        assert_eq!(ask(front).await.unwrap(), "a");
    }

    #[tokio::test]
    async fn datagrams_come_back() {
        let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = upstream.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = upstream.recv_from(&mut buffer).await {
                upstream.send_to(&buffer[..length], from).await.unwrap();
            }
        });
        let front = UdpSocket::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let mut listeners = Listeners::new(nobody(), "n".into());
        let udp = Front {
            protocol: Protocol::Udp,
            address: front,
        };
        listeners
            .bring_to(BTreeMap::from([(udp, back(&[address]))]))
            .await;
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"hello", front).await.unwrap();
        let mut buffer = [0; 64];
        let answered = tokio::time::timeout(Duration::from_secs(5), client.recv_from(&mut buffer)).await;
        assert_eq!(answered.expect("an answer").unwrap(), (5, front));
    }
}
