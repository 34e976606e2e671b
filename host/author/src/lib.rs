//! The plugin author's loop: `capstan plugin new | build | test | run | bench | inspect | keygen | sign | verify`.
//!
//! Components are loaded and asked by the plugin host itself, in this process and without a cluster, so that a
//! case passes for the same reasons as a request would. Called by the binary. Not here: how a component is
//! verified, limited and called (`capstan-plugin`), and what a template says (`sdk/`).

mod bench;
mod building;
mod cases;
mod component;
mod context;
mod error;
mod inspection;
mod nothing;
mod project;
mod rig;
mod signing;
mod trial;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use error::Error;

/// What can be done with a plugin.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new plugin's project from a template
    New(New),
    /// Build a project into a component
    Build(Build),
    /// Ask a component the questions of case files, and compare the answers with what they expect
    Test(Trial),
    /// Ask a component the questions of case files or about Kubernetes objects, and print its answers
    Run(Trial),
    /// Measure a component on the questions of case files, beside one that does nothing
    Bench(Bench),
    /// Print what a component is, needs and takes
    Inspect(Inspect),
    /// Make a pair of keys to sign with
    Keygen(Keygen),
    /// Sign a component, as a Sigstore bundle beside it
    Sign(Sign),
    /// Check a component's signature
    Verify(Verify),
}

/// Options of `keygen`.
#[derive(Debug, Args)]
pub struct Keygen {
    /// Where the private key goes; the public one stands beside it, ending in .pub
    pub key: PathBuf,
}

/// Options of `sign`.
#[derive(Debug, Args)]
pub struct Sign {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// A private key: ECDSA over P-256, PKCS#8 in PEM
    #[arg(long)]
    pub key: PathBuf,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// A public key: ECDSA over P-256, in PEM
    #[arg(long)]
    pub key: PathBuf,
    /// The signature; COMPONENT.sigstore.json by default
    #[arg(long)]
    pub bundle: Option<PathBuf>,
}

/// Options of `new`.
#[derive(Debug, Args)]
pub struct New {
    /// The folder to make; its last part is the plugin's name
    pub folder: PathBuf,
    /// What it decides: admission, problem, remedy, scheduler or sidecar
    #[arg(long, default_value = "admission")]
    pub world: String,
    /// What it is written in: rust, python, javascript or c
    #[arg(long, default_value = "rust")]
    pub language: String,
}

/// Options of `build`.
#[derive(Debug, Args)]
pub struct Build {
    /// The project
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Where the component goes; FOLDER/NAME.wasm by default
    #[arg(long, short)]
    pub output: Option<PathBuf>,
}

/// Options of `test` and `run`.
#[derive(Debug, Args)]
pub struct Trial {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// Case files, or for `run` also manifests; cases.yaml beside the component by default
    pub files: Vec<PathBuf>,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// Case files; cases.yaml beside the component by default
    pub files: Vec<PathBuf>,
    /// How long to ask each question
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    pub seconds: f64,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// A component, a built project's folder, or a Plugin manifest with a file as its source
    pub component: PathBuf,
    /// Another version, to say what changed since
    #[arg(long, value_name = "OTHER")]
    pub against: Option<PathBuf>,
}

/// Carries the command out, and prints what came of it.
///
/// # Errors
/// See [`Error`].
pub fn run(command: Command) -> Result<(), Error> {
    match command {
        Command::New(options) => project::create(&options),
        Command::Build(options) => building::build(&options),
        Command::Test(options) => trial::test(&options),
        Command::Run(options) => trial::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Inspect(options) => inspection::run(&options),
        Command::Keygen(options) => signing::keygen(&options),
        Command::Sign(options) => signing::sign(&options),
        Command::Verify(options) => signing::verify(&options),
    }
}
