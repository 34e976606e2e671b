//! Members over TLS: clients must show certificates, files are read again when they change, a common name is a
//! user, and etcdctl gets in.

#![allow(clippy::unwrap_used)]

mod rig;

use std::path::Path;
use std::process::Command;

use capstan_etcd::remote::{RemoteOptions, RemoteStore};
use capstan_etcd::tls::ClientTls;
use capstan_store::{Put, RangeRequest, Store};
use rig::authority::Authority;

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

async fn start(authority: &Authority) -> rig::Member {
    let flags = [
        flag("cert-file", &authority.path("server.crt")),
        flag("key-file", &authority.path("server.key")),
        flag("trusted-ca-file", &authority.path("ca.crt")),
        "--client-cert-auth".to_owned(),
    ];
    rig::Member::start(&flags.each_ref().map(String::as_str)).await
}

async fn connect(url: &str, tls: ClientTls) -> capstan_store::Result<RemoteStore> {
    let mut options = RemoteOptions::new([url]);
    options.tls = tls;
    options.dial_timeout = std::time::Duration::from_secs(1);
    options.request_timeout = std::time::Duration::from_secs(1);
    RemoteStore::connect(options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_must_show_a_certificate_of_the_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.sign("server", "server");
    authority.sign("client", "root");
    stranger.sign("client", "root");
    let member = start(&authority).await;
    let store = connect(&member.url(), authority.client("client")).await.unwrap();
    store.put(Put::new("a", "b")).await.unwrap();

    let none = ClientTls {
        ca: Some(authority.path("ca.crt")),
        ..ClientTls::default()
    };
    assert!(connect(&member.url(), none).await.is_err());
    let foreign = ClientTls {
        ca: Some(authority.path("ca.crt")),
        ..stranger.client("client")
    };
    assert!(connect(&member.url(), foreign).await.is_err());
    let untrusting = ClientTls {
        ca: Some(stranger.path("ca.crt")),
        ..authority.client("client")
    };
    assert!(connect(&member.url(), untrusting).await.is_err());

    if rig::has_tool("etcdctl") {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &member.url(), "get", "a", "--print-value-only"])
            .args([
                flag("cacert", &authority.path("ca.crt")),
                flag("cert", &authority.path("client.crt")),
                flag("key", &authority.path("client.key")),
            ])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "b", "{output:?}");
    }
    drop(store);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_read_again_when_they_change() {
    let (old, new) = (Authority::new(), Authority::new());
    old.sign("server", "server");
    old.sign("client", "client");
    new.sign("server", "server");
    new.sign("client", "client");
    let member = start(&old).await;
    connect(&member.url(), old.client("client")).await.unwrap();
    assert!(connect(&member.url(), new.client("client")).await.is_err());

    std::fs::write(old.path("server.crt"), "half a certifi").unwrap();
    let kept = connect(&member.url(), old.client("client")).await;
    kept.expect("what cannot be read leaves what there was");

    let old_client = old.client("client");
    let old_ca = std::fs::read(old.path("ca.crt")).unwrap();
    let trust = old.path("old-ca.crt");
    std::fs::write(&trust, old_ca).unwrap();
    for name in ["server.crt", "server.key", "ca.crt"] {
        std::fs::copy(new.path(name), old.path(name)).unwrap();
    }
    connect(&member.url(), new.client("client")).await.unwrap();
    let refused = ClientTls {
        ca: Some(trust),
        ..old_client
    };
    assert!(connect(&member.url(), refused).await.is_err());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_members_make_for_themselves() {
    let member = rig::Member::start(&["--auto-tls"]).await;
    let trusting = ClientTls {
        trust_any: true,
        ..ClientTls::default()
    };
    let store = connect(&member.url(), trusting).await.unwrap();
    store.put(Put::new("a", "b")).await.unwrap();
    assert!(connect(&member.url(), ClientTls::default()).await.is_err());
    drop(store);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_common_name_is_a_user() {
    let authority = Authority::new();
    authority.sign("server", "server");
    authority.sign("root", "root");
    authority.sign("guest", "guest");
    let member = start(&authority).await;
    let ctl = |arguments: &[&str], who: &str| {
        Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &member.url()])
            .args([
                flag("cacert", &authority.path("ca.crt")),
                flag("cert", &authority.path(&format!("{who}.crt"))),
                flag("key", &authority.path(&format!("{who}.key"))),
            ])
            .args(arguments)
            .output()
            .unwrap()
    };
    if !rig::has_tool("etcdctl") {
        return;
    }
    for arguments in [
        &["user", "add", "root:pw"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "guest:pw"],
        &["auth", "enable"],
    ] {
        let output = ctl(arguments, "root");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    assert!(ctl(&["put", "a", "b"], "root").status.success());
    let refused = ctl(&["get", "a"], "guest");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("permission denied"), "{said}");

    let mut options = RemoteOptions::new([member.url()]);
    options.tls = authority.client("guest");
    options.user = Some(("root".into(), "pw".into()));
    let store = RemoteStore::connect(options).await.unwrap();
    let read = store.range(RangeRequest::key("a")).await.unwrap();
    assert_eq!(read.kvs[0].value, "b", "a login counts before the certificate");
    drop(store);
    member.stop().await;
}
