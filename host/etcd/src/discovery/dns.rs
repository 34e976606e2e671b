//! Asks DNS servers: one question a time, over UDP, or TCP where the answer is long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::DiscoveryError;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// How long a server may take, and how often all are asked.
const ANSWER_BOUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 3;
/// Servers that are asked.
const SERVERS_MAX: usize = 4;
/// A UDP answer may be so long.
const UDP_BYTES_MAX: usize = 4096;

pub(super) struct Resolver {
    servers: Vec<SocketAddr>,
}

impl Resolver {
    /// Of this server, or those of the system.
    pub(super) fn new(server: Option<SocketAddr>) -> Result<Self, DiscoveryError> {
        if let Some(server) = server {
            return Ok(Self {
                servers: vec![server],
            });
        }
        let text = std::fs::read_to_string(RESOLV_CONF)
            .map_err(|error| DiscoveryError::NoServer(format!("{RESOLV_CONF}: {error}")))?;
        let servers: Vec<SocketAddr> = nameservers(&text).take(SERVERS_MAX).collect();
        if servers.is_empty() {
            return Err(DiscoveryError::NoServer(format!("{RESOLV_CONF} names none")));
        }
        Ok(Self { servers })
    }

    /// Host and port of a service's records; none where the name has none.
    pub(super) async fn services(&self, name: &str) -> Result<Vec<(String, u16)>, DiscoveryError> {
        let answer = self.ask(name, RecordType::SRV).await;
        let answer = answer.map_err(|reason| DiscoveryError::Query {
            name: name.to_owned(),
            reason,
        })?;
        let mut records: Vec<_> = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some((
                    srv.priority,
                    srv.target.to_string().trim_end_matches('.').to_owned(),
                    srv.port,
                )),
                _ => None,
            })
            .collect();
        // Every member must come to the same list.
        records.sort();
        Ok(records.into_iter().map(|(_, host, port)| (host, port)).collect())
    }

    /// The addresses of a host.
    pub(super) async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        if let Ok(address) = host.parse() {
            return vec![address];
        }
        let mut found = Vec::new();
        if host != "localhost" {
            for kind in [RecordType::A, RecordType::AAAA] {
                let Ok(answer) = self.ask(host, kind).await else {
                    continue;
                };
                found.extend(answer.answers.iter().filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(Ipv4Addr::from(address.octets()))),
                    RData::AAAA(address) => Some(IpAddr::V6(Ipv6Addr::from(address.octets()))),
                    _ => None,
                }));
            }
        }
        if found.is_empty() {
            let known = tokio::net::lookup_host((host, 0)).await;
            found.extend(known.into_iter().flatten().map(|address| address.ip()));
        }
        found
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Message, String> {
        let mut name = Name::from_ascii(name).map_err(|error| error.to_string())?;
        name.set_fqdn(true);
        let mut error = String::new();
        for _ in 0..ROUNDS {
            for server in &self.servers {
                match tokio::time::timeout(ANSWER_BOUND, ask_one(*server, &name, kind)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(failed)) => error = format!("{server}: {failed}"),
                    Err(_) => error = format!("{server} does not answer"),
                }
            }
        }
        Err(error)
    }
}

async fn ask_one(server: SocketAddr, name: &Name, kind: RecordType) -> Result<Message, String> {
    let id = fastrand::u16(..);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), kind));
    let bytes = question.to_vec().map_err(|error| error.to_string())?;
    let mut answer = over_udp(server, &bytes)
        .await
        .map_err(|error| error.to_string())?;
    let mut message = Message::from_vec(&answer).map_err(|error| error.to_string())?;
    if message.metadata.truncation {
        answer = over_tcp(server, &bytes)
            .await
            .map_err(|error| error.to_string())?;
        message = Message::from_vec(&answer).map_err(|error| error.to_string())?;
    }
    if message.metadata.id != id {
        return Err("an answer to another question".into());
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
        code => Err(code.to_string()),
    }
}

async fn over_udp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; UDP_BYTES_MAX];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn over_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn nameservers(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let address: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    })
}
