use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Answer;

/// How long a cluster may take to say that it is ready.
const READY_BOUND: Duration = Duration::from_secs(90);

/// How long it may take to stop when asked.
const STOP_BOUND: Duration = Duration::from_secs(30);

/// What a cluster is started with.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Nodes in the process.
    pub nodes: usize,
    /// The binary; `CAPSTAN_BIN`, else the newest of the target folder.
    pub binary: PathBuf,
    /// More flags of `up`.
    pub flags: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            binary: binary(),
            flags: Vec::new(),
        }
    }
}

/// A running cluster in a data folder of its own.
pub struct Cluster {
    options: ClusterOptions,
    folder: tempfile::TempDir,
    port: u16,
    /// Second octet of its loopback networks.
    network: u8,
    process: Option<Child>,
    ready_after: Duration,
}

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The `capstan` under test: `CAPSTAN_BIN`, else of this build.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("CAPSTAN_BIN") {
        return named.into();
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    root().join("target").join(profile).join("capstan")
}

fn kubectl() -> PathBuf {
    std::env::var_os("CAPSTAN_KUBECTL").map_or_else(|| "kubectl".into(), PathBuf::from)
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener
        .local_addr()
        .expect("a bound listener has an address")
        .port()
}

impl Cluster {
    /// A fresh cluster with one node, ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn start() -> Self {
        Self::with(ClusterOptions::default())
    }

    /// A fresh cluster, ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub fn with(options: ClusterOptions) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("capstan-test-")
            .tempdir()
            .expect("a temporary folder");
        let port = free_port();
        let mut cluster = Self {
            options,
            folder,
            port,
            network: (port % 100) as u8 + 100,
            process: None,
            ready_after: Duration::ZERO,
        };
        cluster.up();
        cluster
    }

    /// The command that starts this cluster.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.options.binary);
        command.arg("up").arg("--data-dir").arg(self.data_dir());
        command.args(["--listen", &format!("127.0.0.1:{}", self.port)]);
        command.args(["--nodes", &self.options.nodes.to_string()]);
        command.args(["--cluster-cidr", &format!("127.{}.0.0/17", self.network)]);
        command.args([
            "--service-cluster-ip-range",
            &format!("127.{}.128.0/17", self.network),
        ]);
        command.args(&self.options.flags);
        command
    }

    /// Starts it (again) and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends or stays silent instead.
    pub fn up(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        let started = Instant::now();
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.options.binary.display()));
        let output = child.stdout.take().expect("its output is piped");
        let (tell, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.contains("Ready") {
                    let _ = tell.send(started.elapsed());
                }
            }
        });
        self.process = Some(child);
        match ready.recv_timeout(READY_BOUND) {
            Ok(after) => self.ready_after = after,
            Err(_) => panic!("the cluster is not ready; its log:\n{}", self.log()),
        }
    }

    /// From the start of the process to its saying that it is ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for the test's own files.
    pub fn scratch(&self) -> PathBuf {
        let path = self.folder.path().join("scratch");
        fs::create_dir_all(&path).expect("a folder in a temporary folder");
        path
    }

    /// Writes a file for the test and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch().join(name);
        fs::write(&path, text).expect("a file in a temporary folder");
        path
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("kubeconfig")
    }

    /// Its process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Asks it to stop, as Ctrl-C does; returns whether it ended with 0.
    ///
    /// # Panics
    /// When it does not end.
    pub fn stop(&mut self) -> bool {
        let Some(mut process) = self.process.take() else {
            return true;
        };
        signal("-INT", process.id());
        let started = Instant::now();
        loop {
            if let Some(status) = process.try_wait().expect("our own child") {
                return status.success();
            }
            if started.elapsed() > STOP_BOUND {
                let _ = process.kill();
                let _ = process.wait();
                panic!("the cluster did not stop; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a power cut of the process would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Runs kubectl on it.
    pub fn kubectl(&self, arguments: &[&str]) -> Answer {
        self.run(arguments, "")
    }

    /// `kubectl apply -f -` of this text.
    pub fn apply(&self, manifest: &str) -> Answer {
        self.run(&["apply", "-f", "-"], manifest)
    }

    /// `kubectl get … -o json`.
    ///
    /// # Errors
    /// With what kubectl said.
    pub fn get(&self, arguments: &[&str]) -> Result<serde_json::Value, String> {
        let mut all = vec!["get"];
        all.extend(arguments);
        all.extend(["-o", "json"]);
        self.kubectl(&all).json()
    }

    /// Whether there is nothing that `kubectl get` with these arguments finds; what there is, if there is.
    ///
    /// # Errors
    /// What kubectl said, or the objects as JSON.
    pub fn none(&self, arguments: &[&str]) -> Result<(), String> {
        let left = self.get(arguments)?;
        match left["items"].as_array() {
            Some(items) if items.is_empty() => Ok(()),
            _ => Err(left["items"].to_string()),
        }
    }

    /// Deletes an object, and returns when it is gone.
    pub fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name, "--timeout=60s"]).clean();
    }

    /// Creates the ConfigMap `settings` and the Secret `keys`, each of one `name=value`.
    pub fn settings_and_keys(&self, setting: &str, key: &str) {
        let [setting, key] = [setting, key].map(|literal| format!("--from-literal={literal}"));
        self.kubectl(&["create", "configmap", "settings", &setting])
            .clean();
        self.kubectl(&["create", "secret", "generic", "keys", &key])
            .clean();
    }

    /// kubectl with more environment variables.
    pub fn kubectl_with_env(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Answer {
        self.launch(arguments, "", variables)
    }

    /// kubectl with this text on its standard input.
    pub fn run(&self, arguments: &[&str], input: &str) -> Answer {
        self.launch(arguments, input, &[])
    }

    /// kubectl, ready to start.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(kubectl());
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        // Discovery caches of other clusters on the same port must not be seen.
        command.env("HOME", self.folder.path()).env_remove("KUBECONFIG");
        command
    }

    fn launch(&self, arguments: &[&str], input: &str, variables: &[(&str, &str)]) -> Answer {
        let mut command = self.kubectl_command(arguments);
        command.envs(variables.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("kubectl: {error}"));
        let mut stdin = child.stdin.take().expect("its input is piped");
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("our own child");
        Answer::new(format!("kubectl {}", arguments.join(" ")), &output)
    }
}

/// Sends a signal by `kill`, which every machine has.
fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").arg(name).arg(pid.to_string()).status();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(80).collect();
            eprintln!("--- the cluster's log, its end ---");
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
        self.kill();
    }
}
