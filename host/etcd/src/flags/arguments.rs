//! The flags as clap reads them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::discovery;

/// etcd's flags of a member.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Human-readable name for this member
    #[arg(long, env = "ETCD_NAME", default_value = super::NAME)]
    pub name: String,
    /// Path to the data directory [default: ${name}.etcd]
    #[arg(long, env = "ETCD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// URLs to listen on for client traffic [default: http://localhost:2379]
    #[arg(
        long,
        env = "ETCD_LISTEN_CLIENT_URLS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    pub listen_client_urls: Vec<String>,
    /// This member's client URLs to advertise [default: http://localhost:2379]
    #[arg(
        long,
        env = "ETCD_ADVERTISE_CLIENT_URLS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    pub advertise_client_urls: Vec<String>,
    /// URLs to listen on for peer traffic [default: http://localhost:2380]
    #[arg(
        long,
        env = "ETCD_LISTEN_PEER_URLS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    pub listen_peer_urls: Vec<String>,
    /// This member's peer URLs to advertise to the rest of the cluster [default: http://localhost:2380]
    #[arg(
        long,
        env = "ETCD_INITIAL_ADVERTISE_PEER_URLS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    pub initial_advertise_peer_urls: Vec<String>,
    /// Initial cluster configuration [default: ${name}=${initial-advertise-peer-urls}]
    #[arg(long, env = "ETCD_INITIAL_CLUSTER", value_name = "NAME=URL,..")]
    pub initial_cluster: Option<String>,
    /// Initial cluster state
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_STATE", default_value = "new")]
    pub initial_cluster_state: ClusterState,
    /// Tells clusters with the same URLs apart
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_TOKEN", default_value = super::TOKEN)]
    pub initial_cluster_token: String,
    /// DNS SRV domain that names the members
    #[arg(long, env = "ETCD_DISCOVERY_SRV", value_name = "DOMAIN")]
    pub discovery_srv: Option<String>,
    /// Suffix to the DNS SRV name
    #[arg(long, env = "ETCD_DISCOVERY_SRV_NAME", value_name = "SUFFIX")]
    pub discovery_srv_name: Option<String>,
    /// DNS server to ask instead of those of /etc/resolv.conf
    #[arg(long, env = "ETCD_DISCOVERY_SRV_SERVER", value_name = "IP:PORT")]
    pub discovery_srv_server: Option<SocketAddr>,
    /// Reject reconfiguration requests that would cause quorum loss
    #[arg(long, env = "ETCD_STRICT_RECONFIG_CHECK", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub strict_reconfig_check: bool,
    /// Make this member, with its data, the only one of a new cluster
    #[arg(long, env = "ETCD_FORCE_NEW_CLUSTER", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub force_new_cluster: bool,
    /// Time (in milliseconds) of a heartbeat interval
    #[arg(
        long,
        env = "ETCD_HEARTBEAT_INTERVAL",
        default_value_t = 100,
        value_name = "MS"
    )]
    pub heartbeat_interval: u64,
    /// Time (in milliseconds) for an election to timeout
    #[arg(
        long,
        env = "ETCD_ELECTION_TIMEOUT",
        default_value_t = 1000,
        value_name = "MS"
    )]
    pub election_timeout: u64,
    /// Number of committed transactions to trigger a snapshot to disk
    #[arg(long, env = "ETCD_SNAPSHOT_COUNT", default_value_t = capstan_store::SNAPSHOT_COUNT)]
    pub snapshot_count: usize,
    /// Raise alarms when the data exceeds the given quota (0: 2 GiB; below 0: no quota)
    #[arg(
        long,
        env = "ETCD_QUOTA_BACKEND_BYTES",
        default_value_t = 0,
        allow_negative_numbers = true,
        value_name = "BYTES"
    )]
    pub quota_backend_bytes: i64,
    /// Interpret 'auto-compaction-retention' as a duration or as a number of revisions
    #[arg(long, env = "ETCD_AUTO_COMPACTION_MODE", default_value = "periodic")]
    pub auto_compaction_mode: CompactionMode,
    /// Auto compaction retention: '5m' or '8' (hours) in mode periodic, revisions in mode revision; 0 is off
    #[arg(long, env = "ETCD_AUTO_COMPACTION_RETENTION", default_value = "0")]
    pub auto_compaction_retention: String,
    /// Maximum client request size in bytes the server will accept
    #[arg(long, env = "ETCD_MAX_REQUEST_BYTES", default_value_t = capstan_store::REQUEST_BYTES_MAX, value_name = "BYTES")]
    pub max_request_bytes: usize,
    /// Maximum number of operations permitted in a transaction
    #[arg(long, env = "ETCD_MAX_TXN_OPS", default_value_t = capstan_store::TXN_OPS_MAX)]
    pub max_txn_ops: usize,
    /// How often idle watches are told how far they are
    #[arg(
        long,
        alias = "experimental-watch-progress-notify-interval",
        env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "10m"
    )]
    pub watch_progress_notify_interval: String,
    /// Specify the cost of the bcrypt algorithm for hashing auth passwords
    #[arg(long, env = "ETCD_BCRYPT_COST", default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=31))]
    pub bcrypt_cost: u32,
    /// Time (in seconds) of the auth-token-ttl
    #[arg(
        long,
        env = "ETCD_AUTH_TOKEN_TTL",
        default_value_t = 300,
        value_name = "SECONDS"
    )]
    pub auth_token_ttl: u64,
    /// Authentication token type; only 'simple'
    #[arg(long, env = "ETCD_AUTH_TOKEN", default_value = "simple")]
    pub auth_token: String,
    /// URLs that answer health and metrics only
    #[arg(
        long,
        env = "ETCD_LISTEN_METRICS_URLS",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    pub listen_metrics_urls: Vec<String>,
    /// Where the log is kept: 'sled', or 'plain' preallocated files
    #[arg(long, env = "ETCD_LOG_ENGINE", default_value_t = capstan_store::LogEngineKind::default())]
    pub log_engine: capstan_store::LogEngineKind,
    /// What is logged to standard error
    #[arg(long, env = "ETCD_LOG_LEVEL", default_value = "info")]
    pub log_level: LogLevel,
    #[command(flatten)]
    pub(crate) tls: TlsArguments,
    #[command(flatten)]
    pub(crate) ignored: Ignored,
}

/// Certificates.
#[derive(Debug, Clone, Args)]
pub(crate) struct TlsArguments {
    /// Path to the client server TLS cert file
    #[arg(long, env = "ETCD_CERT_FILE", value_name = "FILE")]
    pub(crate) cert_file: Option<PathBuf>,
    /// Path to the client server TLS key file
    #[arg(long, env = "ETCD_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Enable client cert authentication
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) client_cert_auth: bool,
    /// Path to the client server TLS trusted CA cert file
    #[arg(long, env = "ETCD_TRUSTED_CA_FILE", value_name = "FILE")]
    pub(crate) trusted_ca_file: Option<PathBuf>,
    /// Client TLS using generated certificates
    #[arg(long, env = "ETCD_AUTO_TLS", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) auto_tls: bool,
    /// Path to the peer server TLS cert file
    #[arg(long, env = "ETCD_PEER_CERT_FILE", value_name = "FILE")]
    pub(crate) peer_cert_file: Option<PathBuf>,
    /// Path to the peer server TLS key file
    #[arg(long, env = "ETCD_PEER_KEY_FILE", value_name = "FILE")]
    pub(crate) peer_key_file: Option<PathBuf>,
    /// Enable peer client cert authentication
    #[arg(long, env = "ETCD_PEER_CLIENT_CERT_AUTH", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) peer_client_cert_auth: bool,
    /// Path to the peer server TLS trusted CA file
    #[arg(long, env = "ETCD_PEER_TRUSTED_CA_FILE", value_name = "FILE")]
    pub(crate) peer_trusted_ca_file: Option<PathBuf>,
    /// Required CN for client certs connecting to the peer endpoint
    #[arg(long, env = "ETCD_PEER_CERT_ALLOWED_CN", value_name = "CN")]
    pub(crate) peer_cert_allowed_cn: Option<String>,
    /// Peer TLS using self-generated certificates if --peer-key-file and --peer-cert-file are not provided
    #[arg(long, env = "ETCD_PEER_AUTO_TLS", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) peer_auto_tls: bool,
}

/// Flags of etcd that are taken and mean nothing here.
#[derive(Debug, Clone, Args)]
pub(crate) struct Ignored {
    #[arg(long, hide = true)]
    pub(crate) max_snapshots: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) max_wals: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) logger: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) log_outputs: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) metrics: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) feature_gates: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) backend_batch_interval: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) backend_batch_limit: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) initial_election_tick_advance: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) pre_vote: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) enable_v2: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) experimental_initial_corrupt_check: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) grpc_keepalive_min_time: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) grpc_keepalive_interval: Option<String>,
    #[arg(long, hide = true)]
    pub(crate) grpc_keepalive_timeout: Option<String>,
}

/// `--initial-cluster-state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum ClusterState {
    New,
    Existing,
}

/// `--auto-compaction-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum CompactionMode {
    Periodic,
    Revision,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

impl LogLevel {
    /// As a filter of `tracing`; what consensus says of itself counts from warnings on.
    pub fn filter(self) -> &'static str {
        match self {
            Self::Debug => "debug,openraft=info,h2=info,hyper=info",
            Self::Info => "info,openraft=error",
            Self::Warn => "warn,openraft=error",
            Self::Error | Self::Panic | Self::Fatal => "error",
        }
    }
}

impl Arguments {
    /// What the DNS is to be asked, if anything.
    pub(crate) fn srv_question(&self) -> Option<discovery::Question<'_>> {
        let domain = self.discovery_srv.as_deref()?;
        Some(discovery::Question {
            domain,
            suffix: self.discovery_srv_name.as_deref(),
            server: self.discovery_srv_server,
        })
    }
}
