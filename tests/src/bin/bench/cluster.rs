//! Start to Ready, idle memory, and the time from `kubectl apply` to three running pods.

use std::time::{Duration, Instant};

use capstan_tests::{Cluster, until};

use crate::figure::{Figure, median};

const HELLO: &str = include_str!("../../../fixtures/hello.yaml");

/// How long the cluster is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(5);

pub(crate) fn measure(runs: usize) -> Vec<Figure> {
    let (mut fresh, mut resumed, mut memory, mut running) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut cluster = Cluster::start();
        fresh.push(cluster.ready_after().as_secs_f64());
        std::thread::sleep(IDLE);
        memory.push(resident_megabytes(&cluster));
        running.push(apply_to_running(&cluster));
        cluster.stop();
        cluster.up();
        resumed.push(cluster.ready_after().as_secs_f64());
    }
    vec![
        Figure::new("start to Ready, from nothing", median(fresh), "s")
            .goal(1.0)
            .original(5.3),
        Figure::new("start to Ready, resumed with three pods", median(resumed), "s"),
        Figure::new("idle memory of the whole (resident)", median(memory), "MB")
            .goal(100.0)
            .original(730.0),
        Figure::new(
            "apply of a three-pod Deployment to all running",
            median(running),
            "s",
        )
        .goal(0.3)
        .original(1.15),
    ]
}

/// `VmRSS` of the process, megabytes of 10^6 bytes.
pub(crate) fn resident_megabytes(cluster: &Cluster) -> f64 {
    let pid = cluster.pid().unwrap_or(0);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<f64>()
        .unwrap_or(f64::NAN)
        * 1024.0
        / 1e6
}

/// From the start of `kubectl apply` until a watch that was open before has seen three running pods.
fn apply_to_running(cluster: &Cluster) -> f64 {
    let mut watch = cluster
        .kubectl_command(&[
            "get",
            "pods",
            "--watch",
            "--no-headers",
            "-o",
            "custom-columns=N:.metadata.name,P:.status.phase",
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("kubectl starts");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(
        watch.stdout.take().expect("its output is piped"),
    ));
    // The watch says nothing before there are pods: wait until it must be open.
    std::thread::sleep(Duration::from_secs(1));
    let started = Instant::now();
    cluster.apply(HELLO).clean();
    let mut up = std::collections::BTreeSet::new();
    let mut taken = f64::NAN;
    for line in lines.map_while(Result::ok) {
        if let Some(name) = line.strip_suffix("Running") {
            up.insert(name.trim().to_owned());
        }
        if up.len() == 3 {
            taken = started.elapsed().as_secs_f64();
            break;
        }
    }
    let _ = watch.kill();
    let _ = watch.wait();
    until("the Deployment to be available", || {
        let ready = cluster.get(&["deployment", "hello"])?["status"]["readyReplicas"].clone();
        if ready == 3 {
            Ok(())
        } else {
            Err(ready.to_string())
        }
    });
    taken
}
