//! The first start of a restored member: with the flags of its restore or with none, but not with others.

use std::path::Path;

use capstan_etcd::backup::{self, RestoreOptions};
use capstan_etcd::process::Process;
use capstan_store::{Put, RangeRequest, Store};

use super::{open, rig, save};

/// The file of a store that has one key.
async fn snapshot(folder: &Path) {
    let store = open(&folder.join("store")).await;
    store.put(Put::new("kept", "1")).await.unwrap();
    save(&store, &folder.join("file")).await;
    store.shutdown().await;
}

/// Three members of a new cluster, restored from one file; their peer URLs.
async fn restore_three(folder: &Path) -> Vec<(String, Vec<String>)> {
    let members: Vec<_> = ["a", "b", "c"]
        .map(|name| (name.to_owned(), vec![format!("http://{}:2380", rig::loopback())]))
        .into();
    for (name, peer_urls) in &members {
        let options = RestoreOptions {
            name: name.clone(),
            initial_cluster: members.clone(),
            token: "anew".into(),
            peer_urls: peer_urls.clone(),
            ..RestoreOptions::new(folder.join(name))
        };
        let report = backup::restore(&folder.join("file"), options).await.unwrap();
        assert!(report.is_bound);
    }
    members
}

fn flags(folder: &Path, name: &str, peer_urls: &[String], more: &[String]) -> Vec<String> {
    let mut flags = vec![
        format!("--data-dir={}", folder.join(name).display()),
        format!("--listen-peer-urls={}", peer_urls.join(",")),
        "--listen-client-urls=http://127.0.0.1:0".to_owned(),
        "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
    ];
    flags.extend_from_slice(more);
    flags
}

async fn start(flags: &[String]) -> Process {
    Process::start(rig::config(flags).await.unwrap()).await.unwrap()
}

fn listed(members: &[(String, Vec<String>)]) -> String {
    let pairs = members.iter().map(|(name, urls)| format!("{name}={}", urls[0]));
    format!("--initial-cluster={}", pairs.collect::<Vec<_>>().join(","))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_restored_members_find_one_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    snapshot(folder).await;
    let members = restore_three(folder).await;
    // One without a word, one with all that its restore was told, in another order, one with its name.
    let mut backwards = members.clone();
    backwards.reverse();
    let told = [
        Vec::new(),
        vec![
            "--name=b".to_owned(),
            listed(&backwards),
            "--initial-cluster-token=anew".to_owned(),
            format!("--initial-advertise-peer-urls={}/", members[1].1[0]),
            "--initial-cluster-state=existing".to_owned(),
        ],
        vec!["--name=c".to_owned(), "--discovery-srv=nowhere.test".to_owned()],
    ];
    let all: Vec<_> = members
        .iter()
        .zip(&told)
        .map(|((name, urls), more)| flags(folder, name, urls, more))
        .collect();
    let running = futures::future::join_all(all.iter().map(|flags| start(flags))).await;
    let (first, last) = (running[0].store(), running[2].store());
    assert_eq!(first.identity().name, "a");
    first.put(Put::new("new", "2")).await.unwrap();
    for (key, value) in [("kept", "1"), ("new", "2")] {
        assert_eq!(
            last.range(RangeRequest::key(key)).await.unwrap().kvs[0].value,
            value
        );
    }
    let mut names: Vec<_> = last
        .members(true)
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.name)
        .collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c"]);
    futures::future::join_all(running.into_iter().map(Process::stop)).await;

    // From now on the folder says who it is, and flags of the initial cluster mean nothing.
    let again = vec!["--initial-cluster-token=other".to_owned()];
    let config = rig::config(&flags(folder, "a", &members[0].1, &again))
        .await
        .unwrap();
    assert_eq!(config.store.cluster.name, "a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_as_somebody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    snapshot(folder).await;
    let members = restore_three(folder).await;
    let own = &members[0].1;
    let cases = [
        "--name=b".to_owned(),
        "--initial-cluster-token=other".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:1".to_owned(),
        listed(&members[..2]),
    ];
    for wrong in cases {
        let said = rig::config(&flags(folder, "a", own, std::slice::from_ref(&wrong))).await;
        let said = said.unwrap_err().to_string();
        assert!(
            said.starts_with(&wrong) && said.contains("was restored with"),
            "{wrong}: {said}"
        );
    }
    std::fs::write(folder.join("a/RESTORED"), "{").unwrap();
    let said = rig::config(&flags(folder, "a", own, &[])).await.unwrap_err();
    assert!(said.to_string().contains("RESTORED"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_without_flags_leaves_it_to_the_first_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    snapshot(folder).await;
    let restored = backup::restore(&folder.join("file"), RestoreOptions::new(folder.join("one"))).await;
    let report = restored.unwrap();
    let text = report.to_string();
    let facts = [
        "one",
        "revision   2",
        "records    1",
        "old members default",
        "reset",
        "first start say",
    ];
    for said in facts {
        assert!(text.contains(said), "{text}");
    }
    let urls = [format!("http://{}:2380", rig::loopback())];
    let more = [
        "--name=one".to_owned(),
        format!("--initial-advertise-peer-urls={}", urls[0]),
    ];
    let one = start(&flags(folder, "one", &urls, &more)).await;
    assert_eq!(one.store().members(true).await.unwrap()[0].name, "one");
    assert_eq!(
        one.store()
            .range(RangeRequest::key("kept"))
            .await
            .unwrap()
            .kvs
            .len(),
        1
    );
    one.stop().await;
}
