//! Debian's etcdctl cannot tell our store from Debian's etcd: every script of `fixtures/etcdctl` gives the same
//! output, line by line, on both. `docs/etcdctl.md` says which commands and options that covers.
//!
//! `CAPSTAN_STORE` names another server to compare (a program and its first arguments); with `ETCDCTL_ALONE` only
//! Debian's etcd is run, with `ETCDCTL_SHOW` all output is shown.

use std::process::Command;

use capstan_tests::etcdctl::{compare, table};

/// Whether Debian's etcd and etcdctl are here. Without them there is nothing to compare with, which under `CI` is
/// a failure.
fn equipped() -> bool {
    let missing: Vec<&str> = ["etcd", "etcdctl"]
        .into_iter()
        .filter(|program| Command::new(program).arg("--help").output().is_err())
        .collect();
    if missing.is_empty() {
        return true;
    }
    let said = format!("{missing:?} not found: apt-get install etcd-server etcd-client");
    assert!(std::env::var_os("CI").is_none(), "{said}");
    println!("{said}");
    false
}

macro_rules! scripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            if equipped() {
                compare(stringify!($name));
            }
        }
    )*};
}

scripts! {
    keys
    transactions
    watches
    leases
    concurrency
    maintenance
    space
    limits
    roles
    transport
    members
    mirror
    check_perf
    check_datascale
}

#[test]
fn the_table_of_commands_is_of_these_scripts() {
    if !equipped() {
        return;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/etcdctl.md");
    let made = table().unwrap_or_else(|wrong| panic!("{wrong}"));
    if std::env::var_os("ETCDCTL_WRITE").is_some() {
        std::fs::write(path, &made).expect("docs can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/etcdctl.md is not of these scripts: run with ETCDCTL_WRITE=1"
    );
}
