//! Whole members: what monitors see of one on its client and its metrics URLs, and three that talk mutual TLS.

#![allow(clippy::unwrap_used)]

mod rig;

use std::sync::Arc;

use capstan_etcd::remote::{RemoteOptions, RemoteStore};
use capstan_store::{Alarm, AlarmKind, Put, RangeRequest, Store};
use rig::authority::Authority;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer over plain HTTP.
#[derive(Debug)]
struct Page {
    status: u16,
    kind: String,
    text: String,
}

async fn ask(address: &str, method: &str, path: &str) -> Page {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    Page {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        kind: kind.unwrap_or_default().to_owned(),
        text: text.to_owned(),
    }
}

/// A path, and what its answer's status and text must be.
type Expected = (&'static str, u16, &'static str);

const WELL: [Expected; 9] = [
    ("/health", 200, r#"{"health":"true","reason":""}"#),
    (
        "/health?serializable=true",
        200,
        r#"{"health":"true","reason":""}"#,
    ),
    ("/livez", 200, "ok\n"),
    ("/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
    ("/readyz", 200, "ok\n"),
    (
        "/readyz?verbose",
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
    ),
    (
        "/readyz?verbose&exclude=linearizable_read",
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\nok\n",
    ),
    (
        "/version",
        200,
        r#"{"etcdserver":"3.6.14","etcdcluster":"3.6.0","storage":"3.6.0"}"#,
    ),
    ("/v3/kv/range", 404, "404 page not found\n"),
];
const NO_SPACE: [Expected; 3] = [
    ("/health", 503, r#"{"health":"false","reason":"ALARM NOSPACE"}"#),
    ("/health?exclude=NOSPACE", 200, r#"{"health":"true","reason":""}"#),
    ("/readyz", 200, "ok\n"),
];
const CORRUPT: [Expected; 4] = [
    ("/health", 503, r#"{"health":"false","reason":"ALARM CORRUPT"}"#),
    ("/livez", 200, "ok\n"),
    ("/readyz?exclude=data_corruption", 200, "ok\n"),
    (
        "/readyz",
        503,
        "[-]data_corruption failed: ALARM CORRUPT\n[+]serializable_read ok\n[+]linearizable_read ok\nnot ok\n",
    ),
];

async fn check(addresses: &[String], expected: &[Expected]) {
    for address in addresses {
        for (path, status, text) in expected {
            let page = ask(address, "GET", path).await;
            assert_eq!(
                (page.status, page.text.as_str()),
                (*status, *text),
                "{address}{path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_see_on_both_urls_what_etcd_shows() {
    let metrics = format!("{}:2381", rig::loopback());
    let member = rig::Member::start(&[&format!("--listen-metrics-urls=http://{metrics}")]).await;
    let client = member.process().client_addresses()[0].to_string();
    let addresses = [client.clone(), metrics.clone()];
    let store = RemoteStore::connect(RemoteOptions::new([member.url()]))
        .await
        .unwrap();
    store.put(Put::new("a", "b")).await.unwrap();

    check(&addresses, &WELL).await;
    for address in &addresses {
        assert_eq!(ask(address, "POST", "/health").await.status, 405);
        let page = ask(address, "GET", "/metrics").await;
        assert!(
            page.status == 200 && page.kind.starts_with("text/plain; version=0.0.4"),
            "{page:?}"
        );
        for line in [
            "etcd_server_has_leader 1",
            "etcd_server_is_leader 1",
            "# TYPE etcd_disk_wal_fsync_duration_seconds histogram",
            "# TYPE etcd_disk_backend_commit_duration_seconds histogram",
            "# TYPE etcd_server_proposals_committed_total gauge",
            "etcd_debugging_mvcc_keys_total 1",
        ] {
            assert!(
                page.text.lines().any(|one| one == line),
                "{line} is not in\n{}",
                page.text
            );
        }
    }
    let options = RemoteOptions {
        request_timeout: std::time::Duration::from_secs(1),
        ..RemoteOptions::new([format!("http://{metrics}")])
    };
    assert!(
        RemoteStore::connect(options).await.is_err(),
        "the metrics URL answers no clients"
    );

    let local = member.process().store();
    let member_id = local.identity().member_id;
    for (kind, expected) in [
        (AlarmKind::NoSpace, &NO_SPACE[..]),
        (AlarmKind::Corrupt, &CORRUPT),
    ] {
        let alarm = Alarm { member_id, kind };
        local.alarm_activate(alarm).await.unwrap();
        check(&addresses, expected).await;
        local.alarm_disarm(alarm).await.unwrap();
    }
    check(&addresses, &WELL[..1]).await;
    drop(store);
    member.stop().await;
}

/// Whether a peer listener goes on talking after this handshake.
async fn is_let_in(address: &str, trusted: &Authority, own: Option<&Authority>) -> bool {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted.path("ca.crt")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = CertificateDer::pem_file_iter(own.path("peer.crt")).unwrap();
            let chain = chain.map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(own.path("peer.key")).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let Ok(mut stream) = connector.connect(name, stream).await else {
        return false;
    };
    // HTTP/2's preface and empty settings; the answer begins with the other side's settings.
    let asked = stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    asked.is_ok() && stream.read_u8().await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_talk_mutual_tls() {
    let hosts = [rig::loopback(), rig::loopback(), rig::loopback()];
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.sign_for("peer", "peer", &hosts);
    stranger.sign_for("peer", "peer", &hosts);
    let flag = |name: &str, file: &str| format!("--peer-{name}={}", authority.path(file).display());
    let flags = [
        flag("cert-file", "peer.crt"),
        flag("key-file", "peer.key"),
        flag("trusted-ca-file", "ca.crt"),
        "--peer-client-cert-auth".to_owned(),
    ];
    let flags = flags.each_ref().map(String::as_str);
    let mut members = rig::Member::start_three("https", &hosts, &flags).await;

    let peer = format!("{}:2380", hosts[0]);
    assert!(is_let_in(&peer, &authority, Some(&authority)).await);
    assert!(
        !is_let_in(&peer, &authority, None).await,
        "a certificate must be shown"
    );
    assert!(
        !is_let_in(&peer, &authority, Some(&stranger)).await,
        "and be the authority's"
    );

    for (n, member) in members.iter().enumerate() {
        let store = RemoteStore::connect(RemoteOptions::new([member.url()]))
            .await
            .unwrap();
        store.put(Put::new(format!("k/{n}"), "v")).await.unwrap();
        let read = store.range(RangeRequest::prefix("k/")).await.unwrap();
        assert_eq!(read.kvs.len(), n + 1, "each sees what the others wrote");
    }
    // One goes away; who has all the URLs does not mind.
    let all = RemoteStore::connect(RemoteOptions::new(members.iter().map(rig::Member::url)))
        .await
        .unwrap();
    let leads = |member: &rig::Member| {
        let store = member.process().store();
        store.raft().leader == store.identity().member_id
    };
    let leader = members.iter().position(leads).unwrap();
    members.remove(leader).stop().await;
    let mut written = 0;
    while written < 10 {
        // While a new leader is found, writes fail or are of unknown outcome.
        written += usize::from(all.put(Put::new("k/after", written.to_string())).await.is_ok());
    }
    assert_eq!(all.range(RangeRequest::prefix("k/")).await.unwrap().kvs.len(), 4);
    drop(all);
    futures::future::join_all(members.into_iter().map(rig::Member::stop)).await;
}
