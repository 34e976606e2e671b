//! What a cluster does when the ground gives way: a full disk, kill -9 in the middle of work.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use capstan_tests::{Cluster, get, until};

const HELLO: &str = include_str!("../fixtures/hello.yaml");

/// Enough for a fresh cluster and the 64 MiB that its store keeps free.
const DISK_BYTES: u64 = 256 * 1024 * 1024;

/// Below what the store keeps free; the rest of the process may still write.
const LEFT_BYTES: u64 = 8 * 1024 * 1024;

/// A small filesystem over a folder, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn over(folder: &Path) -> Result<Self, String> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
            .arg(folder)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if mount.status.success() {
            Ok(Self(folder.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).into_owned())
        }
    }

    fn free_bytes(&self) -> u64 {
        let asked = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&self.0)
            .output();
        let said = String::from_utf8(asked.expect("df runs").stdout).expect("df says text");
        said.lines()
            .nth(1)
            .and_then(|free| free.trim().parse().ok())
            .expect("df says a number")
    }

    /// Takes all space but so much.
    fn fill(&self, left_bytes: u64) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.0.join("filler"))
            .expect("a file");
        let block = vec![1; 64 * 1024];
        while self.free_bytes_of(&file) > left_bytes {
            if file.write_all(&block).is_err() {
                break;
            }
        }
    }

    fn free_bytes_of(&self, file: &File) -> u64 {
        // df is a process: asked once a mebibyte.
        let length = file.metadata().map_or(0, |file| file.len());
        if length.is_multiple_of(1024 * 1024) {
            self.free_bytes()
        } else {
            u64::MAX
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn is_root() -> bool {
    let asked = Command::new("id").arg("-u").output().expect("id runs");
    asked.stdout == b"0\n"
}

/// Moves a stopped cluster's data to a small disk.
fn move_to_small_disk(cluster: &Cluster) -> Result<SmallDisk, String> {
    let (data, aside) = (cluster.data_dir(), cluster.scratch().join("data"));
    fs::rename(&data, &aside).expect("a folder in a temporary folder");
    fs::create_dir(&data).expect("a folder in a temporary folder");
    let disk = SmallDisk::over(&data)?;
    let copy = Command::new("cp")
        .arg("-a")
        .arg(aside.join("."))
        .arg(&data)
        .status();
    assert!(copy.expect("cp runs").success());
    Ok(disk)
}

#[test]
fn a_full_disk_refuses_writes_says_so_and_is_got_over() {
    let mut cluster = Cluster::start();
    assert!(cluster.stop(), "{}", cluster.log());
    let disk = match move_to_small_disk(&cluster) {
        Ok(disk) => disk,
        Err(why) => {
            println!("no small disk can be mounted here: {why}");
            assert!(!is_root(), "root can mount: {why}");
            return;
        }
    };
    cluster.up();
    cluster
        .kubectl(&["create", "configmap", "before", "--from-literal=a=b"])
        .clean();
    for left_bytes in [LEFT_BYTES, 0] {
        disk.fill(left_bytes);
        let said = cluster
            .kubectl(&["create", "configmap", "during", "--from-literal=a=b"])
            .refused();
        assert!(
            said.contains("space exceeded") && said.contains("must stay free"),
            "{said}"
        );
        assert_eq!(
            cluster.get(&["configmap", "before"]).expect("reads go on")["data"]["a"],
            "b"
        );
        cluster.kubectl(&["get", "nodes,pods", "-A"]).clean_or_warned();
    }
    disk.free();
    cluster
        .kubectl(&["create", "configmap", "after", "--from-literal=a=b"])
        .clean();
    let absent = cluster.kubectl(&["get", "configmap", "during"]).refused();
    assert!(absent.contains("NotFound"), "a refused write happened: {absent}");
    assert!(cluster.stop(), "it was alive all the time:\n{}", cluster.log());
    cluster.up();
    assert_eq!(
        cluster.get(&["configmap", "after"]).expect("it was acknowledged")["data"]["a"],
        "b"
    );
}

#[test]
fn kill_in_the_middle_of_a_rollout_only_delays_it() {
    let mut cluster = Cluster::start();
    cluster.apply(HELLO).clean();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .clean();
    cluster
        .kubectl(&["set", "env", "deployment/hello", "GREETING=again"])
        .clean();
    until("a pod of the new kind", || {
        let list = cluster.get(&["replicasets", "-l", "app=hello"])?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        if count == 2 {
            Ok(())
        } else {
            Err(format!("{count} ReplicaSets"))
        }
    });
    cluster.kill();
    cluster.up();
    cluster
        .kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])
        .clean();
    until("three pods of the new kind and no other", || {
        let pods = cluster.get(&["pods", "-l", "app=hello"])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let is_new = |pod: &serde_json::Value| {
            let env = pod["spec"]["containers"][0]["env"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            env.iter().any(|entry| entry["name"] == "GREETING")
        };
        let running = pods
            .iter()
            .filter(|pod| is_new(pod) && pod["status"]["phase"] == "Running")
            .count();
        if (running, pods.len()) == (3, 3) {
            Ok(())
        } else {
            Err(format!("{running} of {}", pods.len()))
        }
    });
    let service = cluster.get(&["service", "hello"]).expect("it was acknowledged");
    let address = format!(
        "{}:8080",
        service["spec"]["clusterIP"].as_str().expect("a cluster IP")
    );
    until("the service to answer", || get(&address, "/"));
}

/// How to start kubectl while the cluster itself is being restarted.
struct Kubectl {
    program: OsString,
    arguments: Vec<OsString>,
    home: PathBuf,
}

impl Kubectl {
    fn of(cluster: &Cluster) -> Self {
        let command = cluster.kubectl_command(&[]);
        Self {
            program: command.get_program().to_owned(),
            arguments: command.get_args().map(ToOwned::to_owned).collect(),
            home: cluster.scratch(),
        }
    }

    /// Creates ConfigMaps of these names in one process; returns the names that were acknowledged.
    fn create(&self, names: &BTreeSet<String>) -> BTreeSet<String> {
        let mut manifest = String::new();
        for name in names {
            let _ = writeln!(
                manifest,
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}"
            );
        }
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .args(["create", "--validate=false", "-o", "name", "-f", "-"])
            .env("HOME", &self.home)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("kubectl starts");
        let _ = child
            .stdin
            .take()
            .expect("its input is piped")
            .write_all(manifest.as_bytes());
        let output = child.wait_with_output().expect("our own child");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.lines()
            .filter_map(|line| line.strip_prefix("configmap/"))
            .map(ToOwned::to_owned)
            .collect()
    }
}

#[test]
fn a_burst_of_creates_over_a_kill_keeps_all_that_was_acknowledged() {
    const PROCESSES: usize = 6;
    const EACH: usize = 50;
    const BATCH: usize = 10;
    const BOUND: Duration = Duration::from_secs(60);
    let mut cluster = Cluster::start();
    let kubectl = Kubectl::of(&cluster);
    let acknowledged = Mutex::new(BTreeSet::new());
    let count = || acknowledged.lock().expect("no writer panics").len();
    std::thread::scope(|scope| {
        for process in 0..PROCESSES {
            let (kubectl, acknowledged) = (&kubectl, &acknowledged);
            scope.spawn(move || {
                let mut left: BTreeSet<String> = (0..EACH).map(|n| format!("burst-{process}-{n}")).collect();
                let (started, mut attempt) = (Instant::now(), 0);
                while !left.is_empty() && started.elapsed() < BOUND {
                    // One that was cut off may be there already; it is asked for again by another name.
                    let batch = left.iter().take(BATCH).cloned().collect();
                    let created = kubectl.create(&batch);
                    for name in batch {
                        left.remove(&name);
                        if !created.contains(&name) {
                            left.insert(format!("burst-{process}-again-{attempt}"));
                            attempt += 1;
                        }
                    }
                    acknowledged.lock().expect("no writer panics").extend(created);
                }
            });
        }
        until("a third of the burst", || {
            let count = count();
            if count >= PROCESSES * EACH / 3 {
                Ok(())
            } else {
                Err(format!("{count} acknowledged"))
            }
        });
        cluster.kill();
        cluster.up();
    });
    assert_eq!(count(), PROCESSES * EACH, "not all got through");
    let list = cluster.get(&["configmaps"]).expect("reads work");
    let kept: BTreeSet<_> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str().map(ToOwned::to_owned))
        .collect();
    let acknowledged = acknowledged.into_inner().expect("no writer panics");
    let lost: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
