use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Script, Subject, certificates};

/// How long members may take until they serve.
const READY_BOUND: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(30);

/// Members that a script may have, those that it adds included.
const MEMBERS_MAX: u8 = 5;

/// A loopback network of a run's own: the same for both stores, so that ids made of URLs are equal.
#[derive(Debug)]
pub(crate) struct Addresses {
    network: [u8; 2],
    /// Keeps other runs of this machine out of the network.
    _held: TcpListener,
}

impl Addresses {
    /// A network that no other run has.
    pub(crate) fn free() -> Self {
        const TRIES_MAX: usize = 1_000;
        for _ in 0..TRIES_MAX {
            let network = [fastrand::u8(10..90), fastrand::u8(100..200)];
            if let Ok(held) = TcpListener::bind((Ipv4Addr::new(127, network[0], network[1], 1), 2379)) {
                return Self { network, _held: held };
            }
        }
        panic!("no loopback network is free");
    }

    /// The address of the `number`th member, from 1; two digits, so that tables are as wide for all.
    fn of(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, self.network[0], self.network[1], 10 + number as u8)
    }

    pub(crate) fn client(&self, number: usize) -> String {
        format!("{}:2379", self.of(number))
    }

    pub(crate) fn peer(&self, number: usize) -> String {
        format!("{}:2380", self.of(number))
    }
}

/// The processes of one store, their folders, and the folder of the script itself; all gone with the value.
pub(crate) struct Members<'a> {
    subject: &'a Subject,
    script: &'a Script,
    addresses: &'a Addresses,
    folder: tempfile::TempDir,
    processes: Vec<(usize, Child)>,
}

impl<'a> Members<'a> {
    pub(crate) fn start(subject: &'a Subject, script: &'a Script, addresses: &'a Addresses) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("capstan-etcdctl-")
            .tempdir()
            .expect("a temporary folder");
        let mut members = Self {
            subject,
            script,
            addresses,
            folder,
            processes: Vec::new(),
        };
        fs::create_dir(members.scratch()).expect("a folder in a temporary folder");
        if script.tls {
            let all: Vec<Ipv4Addr> = (1..=usize::from(MEMBERS_MAX))
                .map(|number| addresses.of(number))
                .collect();
            certificates::write(&members.scratch(), &all).expect("certificates");
        }
        let initial: Vec<String> = (1..=script.members)
            .map(|number| format!("m{number}=http://{}", addresses.peer(number)))
            .collect();
        for number in 1..=script.members {
            members.launch(number, &["--initial-cluster".to_owned(), initial.join(",")]);
        }
        for number in 1..=script.members {
            members.until_healthy(number);
        }
        members
    }

    /// `${DIR}`.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.folder.path().join("scratch")
    }

    fn scheme(&self) -> &'static str {
        if self.script.tls { "https" } else { "http" }
    }

    /// Starts (again) a member with its own URLs and these flags.
    pub(crate) fn launch(&mut self, number: usize, flags: &[String]) {
        let client = format!("{}://{}", self.scheme(), self.addresses.client(number));
        let peer = format!("http://{}", self.addresses.peer(number));
        let mut arguments: Vec<String> = [
            ("--name", format!("m{number}")),
            (
                "--data-dir",
                self.folder
                    .path()
                    .join(format!("m{number}"))
                    .display()
                    .to_string(),
            ),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        if self.script.tls {
            for (flag, file) in [
                ("--cert-file", "server.crt"),
                ("--key-file", "server.key"),
                ("--trusted-ca-file", "ca.crt"),
            ] {
                arguments.extend([flag.to_owned(), self.scratch().join(file).display().to_string()]);
            }
            arguments.push("--client-cert-auth".to_owned());
        }
        arguments.extend(self.script.server.iter().chain(flags).cloned());
        let process = self.spawn(&self.subject.command, &arguments, &format!("m{number}"));
        self.processes.push((number, process));
    }

    /// Debian's etcd, whatever the subject, on a folder of the script's.
    pub(crate) fn launch_etcd(&mut self, name: &str, folder: &str, flags: &[String]) {
        let mut arguments = vec![
            "--name".to_owned(),
            name.to_owned(),
            "--data-dir".to_owned(),
            folder.to_owned(),
        ];
        arguments.extend_from_slice(flags);
        let process = self.spawn(&["etcd".to_owned()], &arguments, name);
        self.processes.push((usize::MAX, process));
    }

    fn spawn(&self, command: &[String], arguments: &[String], name: &str) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(name))
            .expect("a log file");
        let (program, first) = command.split_first().expect("a subject has a program");
        Command::new(program)
            .args(first)
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).with_extension("log")
    }

    /// The end of a member's log.
    pub(crate) fn log(&self, number: usize) -> String {
        let text = fs::read_to_string(self.log_path(&format!("m{number}"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Ends a member as kill -9 does.
    pub(crate) fn halt(&mut self, number: usize) {
        self.processes.retain_mut(|(other, process)| {
            if *other == number {
                end(process);
            }
            *other != number
        });
    }

    fn until_healthy(&mut self, number: usize) {
        let started = Instant::now();
        loop {
            let asked = self
                .etcdctl(&[
                    "endpoint",
                    "health",
                    "--endpoints",
                    &self.addresses.client(number),
                ])
                .output()
                .expect("etcdctl runs");
            if asked.status.success() {
                return;
            }
            let ended = self
                .processes
                .iter_mut()
                .find(|(other, _)| *other == number)
                .and_then(|(_, process)| process.try_wait().ok()?);
            if ended.is_some() || started.elapsed() > READY_BOUND {
                panic!(
                    "{} m{number} does not serve ({ended:?}): {}\n{}",
                    self.subject.name,
                    String::from_utf8_lossy(&asked.stderr),
                    self.log(number)
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// etcdctl for the first member, in the script's folder and without the environment's own settings.
    pub(crate) fn etcdctl(&self, arguments: &[impl AsRef<str>]) -> Command {
        let mut command = Command::new("etcdctl");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ETCDCTL_") {
                command.env_remove(name);
            }
        }
        command
            .env("ETCDCTL_API", "3")
            .args(arguments.iter().map(AsRef::as_ref))
            .current_dir(self.scratch());
        // A variable that a flag shadows is warned of.
        let names = |flag: &str| {
            arguments
                .iter()
                .any(|one| one.as_ref().split('=').next() == Some(flag))
        };
        if !names("--endpoints") {
            command.env("ETCDCTL_ENDPOINTS", self.addresses.client(1));
        }
        if self.script.tls {
            for (flag, name, file) in [
                ("--cacert", "ETCDCTL_CACERT", "ca.crt"),
                ("--cert", "ETCDCTL_CERT", "root.crt"),
                ("--key", "ETCDCTL_KEY", "root.key"),
            ] {
                if !names(flag) && !names("--insecure-skip-tls-verify") && !names("--insecure-transport") {
                    command.env(name, self.scratch().join(file));
                }
            }
        }
        command
    }

    /// The variables of a script: their names and values, longest values first.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let mut all = vec![("DIR".to_owned(), self.scratch().display().to_string())];
        for number in 1..=usize::from(MEMBERS_MAX) {
            all.push((format!("E{number}"), self.addresses.client(number)));
            all.push((format!("P{number}"), self.addresses.peer(number)));
        }
        all
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        for (_, process) in &mut self.processes {
            end(process);
        }
    }
}

fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}
