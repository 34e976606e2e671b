//! Who the members are, by flags and by the DNS; and which flags are refused, in etcd's words.

#![allow(clippy::unwrap_used)]

mod rig;

use std::net::{Ipv4Addr, SocketAddr};

use capstan_store::InitialCluster;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// Answers for `example.test` as a real server would: three members over https, one of them this one's address.
async fn dns_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let asked = question.queries[0].clone();
            let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.response_code = ResponseCode::NoError;
            let host = asked.name().to_ascii().to_lowercase();
            let found = match (asked.query_type(), host.trim_end_matches('.')) {
                (RecordType::SRV, "_etcd-server-ssl._tcp.example.test") => (1..=3)
                    .map(|n| RData::SRV(SRV::new(0, 0, 2380, name(&format!("m{n}.example.test.")))))
                    .collect(),
                (RecordType::SRV, "_etcd-server-blue._tcp.example.test") => {
                    vec![RData::SRV(SRV::new(0, 0, 12_380, name("m1.example.test.")))]
                }
                (RecordType::A, host) if host.starts_with('m') => {
                    let last = host[1..2].parse().unwrap();
                    vec![RData::A(A(Ipv4Addr::new(127, 7, 7, last)))]
                }
                _ => {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                    Vec::new()
                }
            };
            for data in found {
                answer
                    .answers
                    .push(Record::from_rdata(asked.name().clone(), 60, data));
            }
            answer.add_query(asked);
            let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    });
    address
}

async fn initial(flags: &[&str]) -> Result<InitialCluster, String> {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let config = rig::config(&flags).await;
    config
        .map(|config| config.store.cluster.initial)
        .map_err(|error| error.to_string())
}

fn member(name: &str, urls: &[&str]) -> (String, Vec<String>) {
    (
        name.to_owned(),
        urls.iter().map(|url| (*url).to_owned()).collect(),
    )
}

#[tokio::test]
async fn the_dns_names_the_members() {
    let server = format!("--discovery-srv-server={}", dns_server().await);
    let found = initial(&[
        "--name=me",
        "--discovery-srv=example.test",
        &server,
        "--initial-advertise-peer-urls=https://m2.example.test:2380",
    ])
    .await;
    let expected = InitialCluster::New(vec![
        member("0", &["https://m1.example.test:2380"]),
        member("me", &["https://m2.example.test:2380"]),
        member("1", &["https://m3.example.test:2380"]),
    ]);
    assert_eq!(found.unwrap(), expected);
    let by_address = initial(&[
        "--name=me",
        "--discovery-srv=example.test",
        "--discovery-srv-name=blue",
        &server,
        "--initial-advertise-peer-urls=http://127.7.7.1:12380",
    ])
    .await;
    let expected = InitialCluster::New(vec![member("me", &["http://127.7.7.1:12380"])]);
    assert_eq!(by_address.unwrap(), expected);
    let nowhere = initial(&["--discovery-srv=nowhere.test", &server]).await;
    assert!(nowhere.unwrap_err().contains("nowhere.test"));
    let plain = initial(&[
        "--name=me",
        "--discovery-srv=example.test",
        &server,
        "--initial-advertise-peer-urls=http://m2.example.test:2380",
    ])
    .await;
    assert!(plain.unwrap_err().contains("https://m2.example.test:2380"));
}

#[tokio::test]
async fn flags_name_the_members() {
    let found = initial(&[
        "--name=b",
        "--initial-cluster=a=http://127.0.0.1:1,b=http://127.0.0.1:2,b=http://127.0.0.1:3",
        "--initial-advertise-peer-urls=http://127.0.0.1:2,http://127.0.0.1:3",
        "--initial-cluster-state=existing",
    ])
    .await;
    let expected = InitialCluster::Existing(vec![
        member("a", &["http://127.0.0.1:1"]),
        member("b", &["http://127.0.0.1:2", "http://127.0.0.1:3"]),
    ]);
    assert_eq!(found.unwrap(), expected);
    let alone = initial(&["--name=x", "--initial-advertise-peer-urls=http://127.0.0.1:4"]).await;
    let expected = InitialCluster::New(vec![member("x", &["http://127.0.0.1:4"])]);
    assert_eq!(alone.unwrap(), expected);
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_in_etcds_words() {
    let peers = "--initial-advertise-peer-urls=http://127.0.0.1:2";
    for (flags, told) in [
        (
            &["--name=c", "--initial-cluster=a=http://127.0.0.1:2", peers][..],
            "couldn't find local name \"c\" in the initial cluster configuration",
        ),
        (
            &["--name=a", "--initial-cluster=a=http://127.0.0.1:3", peers],
            "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=a=http://127.0.0.1:3",
        ),
        (
            &[
                "--initial-cluster=default=http://127.0.0.1:2",
                "--discovery-srv=example.test",
                peers,
            ],
            "multiple discovery or bootstrap flags are set. Choose one of",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--listen-peer-urls=http://example.test:2380"],
            "expected IP in URL for binding (http://example.test:2380)",
        ),
        (
            &["--heartbeat-interval=300"],
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (
            &["--heartbeat-interval=300", "--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
        ),
        (
            &["--cert-file=x.crt"],
            "KeyFile and CertFile must both be present[key: , cert: x.crt]",
        ),
        (&["--auto-compaction-retention=soon"], "auto-compaction-retention"),
    ] {
        let refused = initial(flags).await.unwrap_err();
        assert!(refused.contains(told), "{flags:?}: {refused}");
    }
    let https = [
        "--listen-client-urls=https://127.0.0.1:0",
        "--advertise-client-urls=https://127.0.0.1:1",
    ];
    let config = rig::config(&https.map(str::to_owned)).await.unwrap();
    let refused = capstan_etcd::process::Process::start(config).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("TLS key/cert (--cert-file, --key-file) must be provided for client url"),
        "{refused}"
    );
}
