//! The command line. Flags carry the original's names wherever the original has them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;

#[derive(Parser)]
#[command(
    name = "capstan",
    version,
    about = "A Kubernetes cluster whose every policy is a Wasm component"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a whole cluster in this process until Ctrl-C
    Up(Up),
    /// Run a member of the store by itself, with etcd's flags, or work with its backups
    Store(crate::store::Store),
    /// Work with a node's image store
    #[command(subcommand)]
    Image(Image),
    /// Write, build, try and measure plugins, and look after those of a cluster
    #[command(subcommand)]
    Plugin(Plugin),
    /// Compile the embedded plugins into a folder; part of the build, not for people
    #[command(hide = true)]
    Precompile { folder: PathBuf },
    /// Runs one OCI container; started by the node, not by people
    #[command(hide = true)]
    Shim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// An author's and an operator's commands.
#[derive(Subcommand)]
pub(crate) enum Plugin {
    #[command(flatten)]
    Author(capstan_author::Command),
    #[command(flatten)]
    Operate(capstan_operate::Command),
}

/// Options of `up`.
#[derive(Args)]
pub(crate) struct Up {
    /// Where the cluster keeps everything; started again on it, it resumes what it had
    #[arg(long, env = "CAPSTAN_DATA_DIR", default_value_os_t = default_data_dir())]
    pub(crate) data_dir: PathBuf,

    /// Where the API server listens
    #[arg(long, default_value = "127.0.0.1:6443", value_name = "ADDR:PORT")]
    pub(crate) listen: SocketAddr,

    /// Nodes in this process
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) nodes: u8,

    /// Addresses of pods; without root they are loopback addresses
    #[arg(long, default_value = "127.64.0.0/16", value_name = "CIDR")]
    pub(crate) cluster_cidr: Ipv4Net,

    /// Addresses of services
    #[arg(long, default_value = "127.96.0.0/16", value_name = "CIDR")]
    pub(crate) service_cluster_ip_range: Ipv4Net,

    #[command(flatten)]
    pub(crate) external_store: ExternalStore,

    /// Also answer etcd's clients on the cluster's own store here; https takes certificates of DATA-DIR/pki/etcd
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL,..",
        conflicts_with = "etcd_servers"
    )]
    pub(crate) listen_client_urls: Vec<String>,

    #[command(flatten)]
    pub(crate) api_server: crate::apiserver::ApiServerFlags,

    /// What is logged to standard error, as `level` or `part=level,...`
    #[arg(long, env = "CAPSTAN_LOG", default_value = "warn,openraft=error")]
    pub(crate) log: String,
}

/// An etcd as the store, by kube-apiserver's flags.
#[derive(Args)]
pub(crate) struct ExternalStore {
    /// Keep the cluster's state in this etcd, v3.4 or newer, instead of a store of its own
    #[arg(long, value_delimiter = ',', value_name = "URL,..")]
    pub(crate) etcd_servers: Vec<String>,

    /// Authorities that sign the etcd's certificates
    #[arg(long, value_name = "FILE", requires = "etcd_servers")]
    pub(crate) etcd_cafile: Option<PathBuf>,

    /// This cluster's certificate for the etcd
    #[arg(long, value_name = "FILE", requires_all = ["etcd_servers", "etcd_keyfile"])]
    pub(crate) etcd_certfile: Option<PathBuf>,

    /// The certificate's key
    #[arg(long, value_name = "FILE", requires_all = ["etcd_servers", "etcd_certfile"])]
    pub(crate) etcd_keyfile: Option<PathBuf>,
}

/// What can be done with images.
#[derive(Subcommand)]
pub(crate) enum Image {
    /// Put an image into the store: an OCI layout (folder or tar), a docker-archive, or a .wasm component
    Load {
        /// The file or folder
        path: PathBuf,
        /// Its name where the file has none, for instance `example.com/web:1`
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        store: ImageStore,
    },
    /// List the images
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        store: ImageStore,
    },
    /// Remove an image
    #[command(alias = "rm")]
    Remove {
        /// Its name or id
        reference: String,
        #[command(flatten)]
        store: ImageStore,
    },
}

/// Whose images.
#[derive(Args)]
pub(crate) struct ImageStore {
    /// The cluster's data folder
    #[arg(long, env = "CAPSTAN_DATA_DIR", default_value_os_t = default_data_dir())]
    pub(crate) data_dir: PathBuf,
}

fn default_data_dir() -> PathBuf {
    let below =
        |variable: &str, rest: &str| std::env::var_os(variable).map(|base| PathBuf::from(base).join(rest));
    below("XDG_DATA_HOME", "capstan")
        .or_else(|| below("HOME", ".local/share/capstan"))
        .unwrap_or_else(|| PathBuf::from("capstan-data"))
}
