//! The plugin author's loop: `capstan plugin new | build | test | run | bench | inspect | keygen | sign | verify | push |
//! pull | bundle | load | watch`.
//!
//! Components are loaded and asked by the plugin host itself, in this process and without a cluster, so that a
//! case passes for the same reasons as a request would. Called by the binary. Not here: how a component is
//! verified, limited and called (`capstan-plugin`), and what a template says (`sdk/`).

mod bench;
mod building;
mod cases;
mod component;
mod context;
mod distribution;
mod error;
mod inspection;
mod loading;
mod nothing;
mod project;
mod recording;
mod rig;
mod signing;
mod trial;
mod watching;

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
    Test(Test),
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
    /// Send a component and its signature to a registry
    Push(Push),
    /// Fetch a component and its signature from a registry
    Pull(Pull),
    /// Write a component and its signatures into one file, for where no registry is
    Bundle(Pack),
    /// Load a component into the cluster, and say what came of it
    Load(Load),
    /// Build and load a project now and on every save
    Watch(Watch),
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

/// Options of `push`.
#[derive(Debug, Args)]
pub struct Push {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// Where it goes: registry/name:tag
    pub reference: String,
    /// A private key to sign with; without it, a signature that lies beside the component is sent
    #[arg(long)]
    pub key: Option<PathBuf>,
}

/// Options of `pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// registry/name:tag, or with @digest
    pub reference: String,
    /// Where it goes; NAME.wasm by default
    #[arg(long, short)]
    pub output: Option<PathBuf>,
}

/// Options of `bundle`.
#[derive(Debug, Args)]
pub struct Pack {
    /// A component, a built project's folder, or registry/name:tag
    pub component: String,
    /// The file to write: an OCI layout as a tar
    #[arg(long, short)]
    pub output: PathBuf,
}

/// Options of `load`.
#[derive(Debug, Clone, Args)]
pub struct Load {
    /// A component, a built project's folder, a bundle, or registry/name:tag
    pub component: String,
    /// How it is put to the cluster
    #[command(flatten)]
    pub placement: Placement,
}

/// Where a component goes, and as what.
#[derive(Debug, Clone, Args)]
pub struct Placement {
    /// A Plugin manifest; plugin.yaml beside the component, or the cluster's own object, by default
    #[arg(long, short = 'f')]
    pub manifest: Option<PathBuf>,
    /// The Plugin object's name; the manifest's, or the component's own, by default
    #[arg(long)]
    pub name: Option<String>,
    /// Carry the component in a ConfigMap of this namespace, for a cluster that reaches neither the file nor the
    /// registry; a bundle goes into one of `default` where none is named
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// How long the cluster may take to judge it
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub timeout: u64,
    /// The cluster; KUBECONFIG or ~/.kube/config by default
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// Options of `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// The project
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// How it is put to the cluster
    #[command(flatten)]
    pub placement: Placement,
}

/// Options of `test`.
#[derive(Debug, Args)]
pub struct Test {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// Case files, and recordings ending in .jsonl; cases.yaml beside the component by default
    pub files: Vec<PathBuf>,
    /// Take a recording's answers as right from now on: they are written to RECORDING.golden
    #[arg(long)]
    pub bless: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Trial {
    /// A component, or a built project's folder
    pub component: PathBuf,
    /// Case files or manifests; cases.yaml beside the component by default
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
    /// A component, a built project's folder, a bundle, registry/name:tag, or a Plugin manifest with a file as its
    /// source; with two, what the second newly does
    #[arg(num_args = 1..=2, required = true, value_name = "[OLD] COMPONENT")]
    pub components: Vec<String>,
    /// Another version, to say what changed since
    #[arg(long, value_name = "OLD")]
    pub against: Option<String>,
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
        Command::Push(options) => distribution::push(&options),
        Command::Pull(options) => distribution::pull(&options),
        Command::Bundle(options) => distribution::pack(&options),
        Command::Load(options) => loading::load(&options.component, &options.placement),
        Command::Watch(options) => watching::watch(&options),
    }
}
