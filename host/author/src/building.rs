//! `plugin build`: a project's component, by the tools of its language.
//!
//! A project tells its language by its file. The Rust compiler and `zig cc` make a core module that carries its
//! contract and is made a component here; `componentize-py` and `componentize-js` make the component themselves.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::error::Error;
use crate::{Build, component};

const TARGET: &str = "wasm32-unknown-unknown";
/// The script that drives the JavaScript tool, which is a library.
const COMPONENTIZE_JS: &str = include_str!("componentize.mjs");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    Python,
    JavaScript,
    C,
}

/// A plugin's project.
pub(crate) struct Project {
    folder: PathBuf,
    language: Language,
    name: String,
}

impl Project {
    /// Looks into the folder.
    pub(crate) fn open(folder: &Path) -> Result<Self, Error> {
        let languages = [
            ("Cargo.toml", Language::Rust),
            ("plugin.py", Language::Python),
            ("plugin.js", Language::JavaScript),
            ("plugin.c", Language::C),
        ];
        let folder = std::path::absolute(folder).map_err(|source| Error::Read {
            path: folder.to_owned(),
            source,
        })?;
        let language = languages
            .into_iter()
            .find(|(file, _)| folder.join(file).exists())
            .map(|(_, language)| language)
            .ok_or_else(|| Error::NoProject(folder.clone()))?;
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        Ok(Self {
            folder,
            language,
            name,
        })
    }

    /// Where its component is left.
    pub(crate) fn component(&self) -> PathBuf {
        self.folder.join(&self.name).with_extension("wasm")
    }

    fn command(&self, variable: &str, program: &str) -> Command {
        let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| program.into()));
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn rust(&self) -> Result<Vec<u8>, Error> {
        has_target(&self.folder)?;
        let mut cargo = self.command("CARGO", "cargo");
        cargo.args(["build", "--release", "--target", TARGET, "--message-format"]);
        cargo.arg("json-render-diagnostics").stdout(Stdio::piped());
        let output = finish(cargo, "install Rust from rustup.rs")?;
        let module = String::from_utf8_lossy(&output)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["reason"] == "compiler-artifact")
            .filter_map(|message| {
                let files = message["filenames"].as_array()?.iter();
                let module = files
                    .filter_map(Value::as_str)
                    .find(|file| file.ends_with(".wasm"))?;
                Some(PathBuf::from(module))
            })
            .next_back()
            .ok_or_else(|| Error::Encode {
                path: self.folder.join("Cargo.toml"),
                message: "it builds no module; [lib] needs crate-type = [\"cdylib\", \"rlib\"]".into(),
            })?;
        component::encode(&module, &component::read(&module)?)
    }

    fn python(&self, draft: &Path) -> Result<(), Error> {
        let mut tool = self.command("CAPSTAN_COMPONENTIZE_PY", "componentize-py");
        tool.args(["--wit-path", "wit", "--world", "plugin", "componentize", "plugin"]);
        tool.args(["--python-path", ".", "--python-path", "capstan/sdk/python"]);
        tool.args(["--stub-wasi", "--output"])
            .arg(draft)
            .stdout(Stdio::null());
        finish(tool, "install it with `pip install componentize-py`").map(drop)
    }

    fn javascript(&self, draft: &Path) -> Result<(), Error> {
        let mut node = self.command("CAPSTAN_NODE", "node");
        node.args(["--input-type=module", "--eval", COMPONENTIZE_JS, "--"])
            .arg(draft);
        let way_out = "install Node.js, and in the project \
                       `npm install --save-dev @bytecodealliance/componentize-js`";
        finish(node, way_out).map(drop)
    }

    fn c(&self, draft: &Path) -> Result<Vec<u8>, Error> {
        let python = std::env::var_os("CAPSTAN_ZIG_PYTHON");
        let mut zig = match &python {
            Some(python) => Command::new(python),
            None => Command::new("zig"),
        };
        zig.args(python.iter().flat_map(|_| ["-m", "ziglang"]));
        zig.current_dir(&self.folder).stdin(Stdio::null());
        zig.args(["cc", "-target", "wasm32-freestanding", "-nostdlib", "-Os", "-s"]);
        zig.args([
            "-Wall",
            "-Wextra",
            "-Icapstan/sdk/c",
            "-Wl,--no-entry",
            "-Wl,-z,stack-size=65536",
        ]);
        zig.arg("-o")
            .arg(draft)
            .args(["plugin.c", "capstan/sdk/c/capstan.c"]);
        finish(
            zig,
            "install it with `pip install ziglang` and set CAPSTAN_ZIG_PYTHON=python3, or from ziglang.org",
        )?;
        let module = component::read(draft)?;
        let wit = self.folder.join("wit");
        let module = component::with_world(&wit, module)?;
        component::encode(&self.folder.join("plugin.c"), &module)
    }
}

/// Builds, and says what came of it.
pub(crate) fn build(options: &Build) -> Result<(), Error> {
    let project = Project::open(&options.folder)?;
    let output = options.output.clone().unwrap_or_else(|| project.component());
    let output = std::path::absolute(&output).unwrap_or(output);
    // What is there stays until there is something better: a host may be reading it.
    let draft = output.with_extension("draft.wasm");
    let made = match project.language {
        Language::Rust => project.rust().map(Some),
        Language::C => project.c(&draft).map(Some),
        Language::Python => project.python(&draft).map(|()| None),
        Language::JavaScript => project.javascript(&draft).map(|()| None),
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let moved = made.and_then(|bytes| {
        if let Some(bytes) = bytes {
            fs::write(&draft, bytes).map_err(failed(&draft))?;
        }
        fs::rename(&draft, &output).map_err(failed(&output))
    });
    if moved.is_err() {
        // There may be no draft yet.
        let _ = fs::remove_file(&draft);
    }
    moved?;
    let size = fs::metadata(&output).map_or(0, |metadata| metadata.len());
    println!("{} ({size} bytes)", output.display());
    Ok(())
}

/// Runs to success; its standard output where that is piped.
fn finish(mut command: Command, way_out: &str) -> Result<Vec<u8>, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|source| Error::Start {
            way_out: match source.kind() {
                ErrorKind::NotFound => way_out.to_owned(),
                _ => "see the message before".to_owned(),
            },
            program: program.clone(),
            source,
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Failed {
        program,
        status: output.status,
    })
}

/// A compiler without the target gives an error that nobody understands. Whoever builds `std` needs none.
fn has_target(folder: &Path) -> Result<(), Error> {
    if std::env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some() {
        return Ok(());
    }
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    rustc.current_dir(folder).stdout(Stdio::piped());
    let output = finish(rustc, "install Rust from rustup.rs")?;
    if Path::new(String::from_utf8_lossy(&output).trim()).is_dir() {
        return Ok(());
    }
    Err(Error::Toolchain(format!(
        "this Rust toolchain has no {TARGET}; run `rustup target add {TARGET}`"
    )))
}
