//! Debian's container registry on this machine, which lets in who knows its password.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::cluster::free_port;
use crate::until;

const PROGRAM: &str = "docker-registry";
const PASSWORD: &str = "secret";
/// `robot` with that password, as htpasswd writes it.
const USERS: &str = "robot:$2b$04$ZHJURUOTsokvJV2nKZ4hpey2iM5qjbPfYwpsE34ZrqgeF.qWqsdBC\n";

/// A registry, empty, ended with the value.
pub struct Registry {
    process: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Registry {
    /// Starts one; none where the program is missing, which under CI is a failure.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let found =
            std::env::split_paths(&std::env::var_os("PATH")?).any(|path| path.join(PROGRAM).is_file());
        if !found {
            let missing = format!("{PROGRAM} is missing: `cargo xtask test` installs it");
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{missing}");
            eprintln!("{missing}");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let address = format!("127.0.0.1:{}", free_port());
        let users = folder.path().join("users");
        fs::write(&users, USERS).expect("a file");
        let config = json!({
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("blobs")}},
            "http": {"addr": address},
            "auth": {"htpasswd": {"realm": "test", "path": users}},
        });
        let path = folder.path().join("config.json");
        fs::write(&path, config.to_string()).expect("a file");
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let process = Command::new(PROGRAM)
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{PROGRAM}: {error}"));
        let registry = Self {
            process,
            address,
            folder,
        };
        until("the registry to serve", || {
            std::net::TcpStream::connect(&registry.address).map_err(|error| error.to_string())
        });
        Some(registry)
    }

    /// What stands before the first slash of its images.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What `docker login` would write.
    pub fn login(&self) -> Value {
        json!({"auths": {&self.address: {"username": "robot", "password": PASSWORD}}})
    }

    /// A folder with that as `config.json`, for `DOCKER_CONFIG`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn docker_config(&self) -> PathBuf {
        let folder = self.folder.path().join("docker");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("config.json"), self.login().to_string()).expect("a file");
        folder
    }

    /// A document of its API, as another tool would ask for it.
    ///
    /// # Errors
    /// What it said instead.
    pub fn document(&self, path: &str) -> Result<Value, String> {
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail",
                "--user",
                &format!("robot:{PASSWORD}"),
            ])
            .args(["--header", "Accept: application/vnd.oci.image.manifest.v1+json"])
            .args(["--header", "Accept: application/vnd.oci.image.index.v1+json"])
            .arg(format!("http://{}/v2/{path}", self.address))
            .output()
            .map_err(|error| format!("curl: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{path}: {error} {text}"))
    }

    /// Ends it, as a registry that is away.
    pub fn stop(&mut self) {
        // One that ended already is away too.
        let _ = (self.process.kill(), self.process.wait());
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
