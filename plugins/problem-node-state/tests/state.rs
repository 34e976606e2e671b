//! What the kernel's files mean.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, HandOff, Plugin,
    problem::{ConditionStatus, Finding},
};
use problem_node_state::NodeState;
use std::collections::BTreeMap;

type Files = BTreeMap<&'static str, String>;

fn daemon() -> NodeState {
    NodeState::new(Config::read(r#"{"readings": 2, "writable": ["/", "/data"]}"#).unwrap()).unwrap()
}

fn well() -> Files {
    let interfaces = "Inter-|   Receive   |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
        \u{20} lo: 1 1 9 9 0 0 0 0 1 1 9 9 0 0 0 0\n  eth0: 100 10 1 2 0 0 0 0 200 20 3 4 0 0 0 0\n";
    [
        (
            "/proc/1/mounts",
            "/dev/a / ext4 rw,relatime 0 0\n/dev/b /data ext4 rw 0 0\n".to_owned(),
        ),
        ("/proc/1/net/dev", interfaces.to_owned()),
        ("/proc/sys/net/netfilter/nf_conntrack_count", "10\n".to_owned()),
        ("/proc/sys/net/netfilter/nf_conntrack_max", "100\n".to_owned()),
        (
            "/proc/sys/fs/file-nr",
            "1000\t0\t9223372036854775807\n".to_owned(),
        ),
        (
            "/proc/pressure/memory",
            "some avg10=9.00 avg60=9.00\nfull avg10=0.00 avg60=0.50 avg300=0\n".to_owned(),
        ),
    ]
    .into()
}

fn look(daemon: &mut NodeState, files: &Files, now_ms: u64) -> Vec<String> {
    let mut found = Vec::new();
    daemon.judge(|path| files.get(path).cloned(), now_ms, &mut found);
    let short = |finding: &Finding| match finding {
        Finding::Condition(c) => format!(
            "{}={}: {}",
            c.type_name,
            c.status == ConditionStatus::Yes,
            c.message
        ),
        Finding::Event(event) => event.reason.clone(),
    };
    found.iter().map(short).collect()
}

#[test]
fn a_healthy_node_says_so_once() {
    let mut daemon = daemon();
    let said = look(&mut daemon, &well(), 0);
    assert_eq!(said.len(), 4, "errors need two readings: {said:?}");
    let said = look(&mut daemon, &well(), 10_000);
    assert_eq!(said, ["NetworkErrors=false: the interfaces make few errors"]);
    assert_eq!(look(&mut daemon, &well(), 20_000), Vec::<String>::new());
}

#[test]
fn each_file_can_set_its_condition_and_clear_it() {
    let errors = "  eth0: 100 10 51 2 0 0 0 0 200 20 3 4 0 0 0 0\n";
    for (path, text, said) in [
        (
            "/proc/1/mounts",
            "/dev/b /data ext4 rw 0 0\n/dev/b /data ext4 noatime,ro 0 0\n",
            "ReadonlyMount=true: mounted read-only: /data",
        ),
        (
            "/proc/sys/net/netfilter/nf_conntrack_count",
            "95\n",
            "ConntrackLow=true: 95 of 100 tracked connections are in use",
        ),
        (
            "/proc/sys/fs/file-nr",
            "95\t0\t100\n",
            "FileHandlesLow=true: 95 of 100 file handles are in use",
        ),
        (
            "/proc/pressure/memory",
            "full avg10=0.00 avg60=31.40 avg300=0\n",
            "Stalled=true: all processes waited for memory 31% of the last minute",
        ),
    ] {
        let (mut daemon, mut files) = (daemon(), well());
        look(&mut daemon, &files, 0);
        look(&mut daemon, &files, 10_000);
        let healthy = files.insert(path, text.to_owned()).unwrap();
        assert_eq!(
            look(&mut daemon, &files, 20_000),
            Vec::<String>::new(),
            "one reading is none"
        );
        assert_eq!(look(&mut daemon, &files, 30_000), [said]);
        files.insert(path, healthy);
        look(&mut daemon, &files, 40_000);
        let cleared = look(&mut daemon, &files, 50_000);
        assert!(cleared.len() == 1 && cleared[0].contains("=false"), "{cleared:?}");
    }
    let (mut daemon, mut files) = (daemon(), well());
    look(&mut daemon, &files, 0);
    look(&mut daemon, &files, 10_000);
    files.insert("/proc/1/net/dev", errors.to_owned());
    look(&mut daemon, &files, 20_000);
    files.insert("/proc/1/net/dev", errors.replace(" 51 ", " 101 "));
    assert_eq!(
        look(&mut daemon, &files, 30_000),
        ["NetworkErrors=true: eth0 had 300 errors and drops a minute; 100 are tolerated"]
    );
}

#[test]
fn what_is_not_there_is_not_judged_and_state_is_handed_over() {
    let mut first = daemon();
    assert_eq!(look(&mut first, &Files::new(), 0), Vec::<String>::new());
    let bad: Files = [("/proc/1/mounts", "/dev/a / ext4 ro 0 0\n".to_owned())].into();
    look(&mut first, &bad, 10_000);
    assert_eq!(look(&mut first, &bad, 20_000).len(), 1);
    let mut next = daemon();
    next.restore(&first.save()).unwrap();
    assert_eq!(
        look(&mut next, &bad, 30_000),
        ["ReadonlyMount=true: mounted read-only: /"]
    );
    assert_eq!(look(&mut next, &bad, 40_000), Vec::<String>::new());
}
