//! `capstan up`: it starts, stops, resumes, survives kill -9, and says clearly what is wrong.

use std::fs;
use std::process::Command;

use capstan_tests::{Cluster, until};

#[test]
fn a_stopped_cluster_resumes_what_it_had() {
    let mut cluster = Cluster::start();
    cluster
        .kubectl(&["create", "configmap", "kept", "--from-literal=a=b"])
        .clean();
    assert!(cluster.stop(), "Ctrl-C ends it with success:\n{}", cluster.log());
    cluster.up();
    assert_eq!(cluster.get(&["configmap", "kept"]).unwrap()["data"]["a"], "b");
}

#[test]
fn kill_at_random_moments_loses_nothing_acknowledged() {
    let seed: u64 = std::env::var("CAPSTAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(7);
    println!("seed {seed}");
    fastrand::seed(seed);
    let mut cluster = Cluster::start();
    let mut acknowledged = 0;
    for _ in 0..3 {
        let pid = cluster.pid().expect("it runs");
        let after = std::time::Duration::from_millis(fastrand::u64(50..900));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(after);
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        });
        loop {
            let name = format!("n{acknowledged}");
            if !cluster
                .kubectl(&["create", "configmap", &name, "--from-literal=a=b"])
                .ok
            {
                break;
            }
            acknowledged += 1;
        }
        killer.join().expect("the killer does not panic");
        cluster.kill();
        cluster.up();
        let list = cluster.get(&["configmaps"]).unwrap();
        let items = list["items"].as_array().expect("a list");
        for n in 0..acknowledged {
            let name = format!("n{n}");
            assert!(
                items.iter().any(|item| item["metadata"]["name"] == *name),
                "{name} was acknowledged and lost"
            );
        }
        // A create that was cut off may have happened: the next one takes another name.
        acknowledged = items
            .iter()
            .filter_map(|item| {
                item["metadata"]["name"]
                    .as_str()?
                    .strip_prefix('n')?
                    .parse::<usize>()
                    .ok()
            })
            .max()
            .map_or(0, |most| most + 1);
    }
}

#[test]
fn a_second_up_on_the_folder_names_the_first() {
    let cluster = Cluster::start();
    let output = cluster.command().output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains(&format!("in use by process {}", cluster.pid().unwrap_or(0))),
        "{said}"
    );
    cluster.kubectl(&["get", "namespaces"]).clean();
}

#[test]
fn a_busy_port_is_named_and_nothing_is_changed() {
    let cluster = Cluster::start();
    let other = tempfile::tempdir().expect("a temporary folder");
    let data = other.path().join("data");
    let address = cluster
        .kubectl(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"])
        .clean();
    let address = address.trim_start_matches("https://");
    let output = Command::new(cluster.command().get_program())
        .args(["up", "--listen", address, "--data-dir"])
        .arg(&data)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains(address) && said.contains("--listen"),
        "{said}"
    );
    assert!(!data.exists(), "a folder was made for nothing");
}

#[test]
fn a_damaged_data_folder_is_said_and_left_alone() {
    let mut cluster = Cluster::start();
    cluster.stop();
    let key = cluster.data_dir().join("pki/ca.key");
    fs::write(&key, "garbage").expect("the key is a file");
    let output = cluster.command().output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("ca.key is damaged"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(&key).expect("still there"), "garbage");
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let cluster = Cluster::start();
    let folder = cluster.scratch();
    fs::write(folder.join("thesis.txt"), "x").expect("a file in a temporary folder");
    let output = Command::new(cluster.command().get_program())
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&folder)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("not a Capstan data folder"),
        "{said}"
    );
}

#[test]
fn an_unreadable_manifest_changes_nothing() {
    let cluster = Cluster::start();
    let said = cluster
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: [\n")
        .refused();
    assert!(said.contains("error"), "{said}");
    let said = cluster
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\ndatta: { a: b }\n")
        .refused();
    assert!(said.contains("unknown field \"datta\""), "{said}");
    until("the default namespace's own ConfigMap", || {
        let list = cluster.get(&["configmaps"])?;
        let names: Vec<_> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| &item["metadata"]["name"])
            .collect();
        if names == ["kube-root-ca.crt"] {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
}
