//! The cluster's DNS server, on UDP and TCP.
//!
//! Invariants: it answers from Services and EndpointSlices alone and forwards nothing; questions that make no
//! sense get an error, never silence; TCP clients are bounded. Meaning of names: `zone`.

mod zone;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use capstan_client::{Informer, Shared};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::zone::{ZONE, Zone};
use crate::Error;

const SYNC_MAX: Duration = Duration::from_secs(60);

/// Seconds that an answer may be kept.
const TTL_SECONDS: u32 = 5;

/// TCP clients at a time, and how long each may be idle.
const TCP_CLIENTS_MAX: usize = 256;
const TCP_IDLE: Duration = Duration::from_secs(10);

const MESSAGE_MAX: usize = 65_535;

/// The largest UDP answer of a client that says nothing of itself, and of ours.
const UDP_PLAIN_MAX: u16 = 512;
const UDP_MAX: u16 = 1232;

/// What the composition root decides.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// Tried in order; the first that can be opened is used.
    pub addresses: Vec<SocketAddr>,
}

impl Default for DnsOptions {
    /// The cluster's DNS address: port 53 where that is allowed, else 10053.
    fn default() -> Self {
        let ip = IpAddr::V4(Ipv4Addr::new(127, 96, 0, 10));
        Self {
            addresses: vec![SocketAddr::new(ip, 53), SocketAddr::new(ip, 10_053)],
        }
    }
}

/// The running DNS server; it ends when this is dropped.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Dns {
    /// Opens the first address that it can, and answers from then on.
    pub async fn start(shared: &Shared, options: DnsOptions) -> Result<Self, Error> {
        let (udp, tcp, address) = open(&options.addresses).await?;
        let source = Source {
            services: shared.services.clone(),
            slices: shared.endpoint_slices.clone(),
        };
        let source = Arc::new(source);
        let tasks = [
            tokio::spawn(serve_udp(udp, Arc::clone(&source))),
            tokio::spawn(serve_tcp(tcp, source)),
        ];
        Ok(Self { address, tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn open(addresses: &[SocketAddr]) -> Result<(UdpSocket, TcpListener, SocketAddr), Error> {
    let unspecified = SocketAddr::from(([127, 96, 0, 10], 53));
    let none = std::io::Error::new(std::io::ErrorKind::InvalidInput, "no address was given");
    let mut last = Error::Listen {
        address: unspecified,
        source: none,
    };
    for &address in addresses {
        let both = async {
            let udp = UdpSocket::bind(address).await?;
            let address = udp.local_addr()?;
            Ok((udp, TcpListener::bind(address).await?, address))
        };
        match both.await {
            Ok(open) => return Ok(open),
            Err(source) => last = Error::Listen { address, source },
        }
    }
    Err(last)
}

struct Source {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
}

impl Source {
    /// What is known that these questions may need: one Service, or all for a reverse name.
    async fn zone(&self, question: &Message) -> Option<Zone> {
        self.services.synced(SYNC_MAX).await.ok()?;
        self.slices.synced(SYNC_MAX).await.ok()?;
        let name = question.queries.first().map(|query| query.name().to_ascii());
        Some(match zone::service_in(&name.unwrap_or_default()) {
            Some((namespace, name)) => Zone {
                services: self.services.get(Some(&namespace), &name).into_iter().collect(),
                slices: self.slices.indexed(&Shared::service_key(&namespace, &name)),
            },
            None => Zone {
                services: self.services.list(),
                slices: Vec::new(),
            },
        })
    }

    /// The answer as bytes; `None` for what is no question at all.
    async fn answer(&self, question: &[u8], length_max: Option<u16>) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).ok()?;
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        let zone = self.zone(&question).await;
        let answer = respond(&question, zone.as_ref());
        let bytes = answer.to_vec().ok()?;
        let asked = question.edns.as_ref().map_or(UDP_PLAIN_MAX, Edns::max_payload);
        match length_max {
            Some(max) if bytes.len() > usize::from(asked.clamp(UDP_PLAIN_MAX, max)) => {
                answer.truncate().to_vec().ok()
            }
            _ => Some(bytes),
        }
    }
}

/// The answer to a message. Pure.
fn respond(question: &Message, zone: Option<&Zone>) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.queries = question.queries.clone();
    if question.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MAX);
        answer.set_edns(edns);
    }
    let (Some(zone), OpCode::Query, [query]) = (zone, question.metadata.op_code, question.queries.as_slice())
    else {
        answer.metadata.response_code = match (zone, question.metadata.op_code) {
            (None, _) => ResponseCode::ServFail,
            (_, OpCode::Query) => ResponseCode::FormErr,
            _ => ResponseCode::NotImp,
        };
        return answer;
    };
    let found = zone.answer(&query.name().to_ascii(), query.query_type());
    answer.metadata.authoritative = found.ours;
    answer.metadata.response_code = found.code;
    if found.ours && found.records.is_empty() {
        answer.authorities.extend(authority());
    }
    let name = query.name().clone();
    answer.answers = found
        .records
        .into_iter()
        .map(|data| Record::from_rdata(name.clone(), TTL_SECONDS, data))
        .collect();
    answer
}

/// Says how long a "no" may be kept.
fn authority() -> Option<Record> {
    let zone: Name = format!("{ZONE}.").parse().ok()?;
    let server: Name = format!("ns.dns.{ZONE}.").parse().ok()?;
    let mailbox: Name = format!("hostmaster.{ZONE}.").parse().ok()?;
    let soa = SOA::new(server, mailbox, 1, 7200, 1800, 86_400, TTL_SECONDS);
    Some(Record::from_rdata(zone, TTL_SECONDS, RData::SOA(soa)))
}

async fn serve_udp(socket: UdpSocket, source: Arc<Source>) {
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        if let Some(answer) = source.answer(&buffer[..length], Some(UDP_MAX)).await {
            // An answer may be lost: the client asks again.
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, source: Arc<Source>) {
    let clients = Arc::new(Semaphore::new(TCP_CLIENTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            let _permit = permit;
            // A client that goes away or is silent is simply let go.
            let _ = serve_client(stream, &source).await;
        });
    }
}

async fn serve_client(mut stream: TcpStream, source: &Source) -> std::io::Result<()> {
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let length = usize::from(tokio::time::timeout(TCP_IDLE, stream.read_u16()).await??);
        tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut buffer[..length])).await??;
        let Some(answer) = source.answer(&buffer[..length], None).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(std::io::Error::other)?;
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::RecordType;

    #[test]
    fn answers_are_well_formed() {
        let zone = Zone {
            services: Vec::new(),
            slices: Vec::new(),
        };
        let mut question = Message::query();
        question.add_query(Query::query(
            "web.a.svc.cluster.local.".parse().unwrap(),
            RecordType::A,
        ));
        let answer = Message::from_vec(&respond(&question, Some(&zone)).to_vec().unwrap()).unwrap();
        assert_eq!(answer.metadata.id, question.metadata.id);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
        assert!(answer.metadata.authoritative);
        assert_eq!(answer.authorities.len(), 1);
        assert_eq!(
            respond(&question, None).metadata.response_code,
            ResponseCode::ServFail
        );
        question.queries.clear();
        assert_eq!(
            respond(&question, Some(&zone)).metadata.response_code,
            ResponseCode::FormErr
        );
    }
}
