//! Debian's `etcdctl` on two stores: the same scripted session on Debian's etcd and on ours, its output
//! compared line by line.
//!
//! A script is a file of `tests/fixtures/etcdctl/`, one command a line ([`Script`] says its language). Both
//! stores are started with the same names and URLs, one after the other, so that even their members' ids are
//! equal; what still must differ is named, with its reason, in `normalise.txt` there. [`table`] makes
//! `docs/etcdctl.md` of the same scripts. Called by `tests/etcdctl.rs`. No expectation is written by hand:
//! Debian's etcd is the expectation.

mod certificates;
mod members;
mod normalise;
mod observe;
mod run;
mod script;
mod table;
mod words;

use std::path::PathBuf;

pub use normalise::Normaliser;
pub use observe::Observed;
pub use script::Script;
pub use table::table;

use crate::cluster::root;

/// How many differences a failing comparison shows.
const SHOWN_MAX: usize = 40;

/// The scripts and the normalisations.
pub(crate) fn fixtures() -> PathBuf {
    root().join("tests/fixtures/etcdctl")
}

/// A store that a script is run on.
#[derive(Debug, Clone)]
pub struct Subject {
    /// For messages.
    pub name: &'static str,
    /// The program and what comes before etcd's own flags.
    pub command: Vec<String>,
}

impl Subject {
    /// Debian's etcd.
    pub fn etcd() -> Self {
        Self {
            name: "etcd",
            command: vec!["etcd".to_owned()],
        }
    }

    /// Ours: what `CAPSTAN_STORE` names (a program and its first arguments), else `capstan store`.
    pub fn ours() -> Self {
        let command = match std::env::var("CAPSTAN_STORE") {
            Ok(named) => named.split_whitespace().map(str::to_owned).collect(),
            Err(_) => vec![crate::cluster::binary().display().to_string(), "store".to_owned()],
        };
        Self {
            name: "capstan",
            command,
        }
    }
}

/// Runs a script on Debian's etcd, then on ours, and fails where their outputs differ.
///
/// # Panics
/// On a difference, which it shows; when a script is wrong.
pub fn compare(name: &str) {
    let script = Script::read(&fixtures().join(name).with_extension("txt"));
    let normaliser = Normaliser::read(&fixtures().join("normalise.txt"));
    let run = |subject: &Subject, addresses: &members::Addresses| {
        run::run(&script, subject, addresses, &normaliser)
    };
    let alone = std::env::var_os("ETCDCTL_ALONE").is_some();
    let addresses = members::Addresses::free();
    let (theirs, ours) = if script.at_once && !alone {
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| run(&Subject::ours(), &members::Addresses::free()));
            let theirs = run(&Subject::etcd(), &addresses);
            (theirs, ours.join().ok())
        })
    } else {
        let theirs = run(&Subject::etcd(), &addresses);
        (theirs, (!alone).then(|| run(&Subject::ours(), &addresses)))
    };
    assert!(alone || ours.is_some(), "{name}.txt panicked on ours");
    if std::env::var_os("ETCDCTL_SHOW").is_some() {
        for (subject, run) in [("etcd", Some(&theirs)), ("capstan", ours.as_ref())] {
            for one in run.into_iter().flatten() {
                println!("{subject} {one}");
            }
        }
    }
    let differences = observe::differences(&theirs, ours.as_deref());
    assert!(
        differences.is_empty(),
        "{name}.txt: {} differences\n{}",
        differences.len(),
        differences[..differences.len().min(SHOWN_MAX)].join("\n")
    );
}
