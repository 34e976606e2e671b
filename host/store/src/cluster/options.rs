//! How a member is configured: etcd's flags of the cluster, as data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::PeerTransport;

/// etcd's defaults.
const NAME: &str = "default";
const TOKEN: &str = "etcd-cluster";
const PEER_URL: &str = "http://localhost:2380";
const HEARTBEAT: Duration = Duration::from_millis(100);
const ELECTION: Duration = Duration::from_secs(1);

/// Entries that are applied between two snapshots, by default.
pub const SNAPSHOT_COUNT: usize = 20_000;

/// A member's place in its cluster.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Its name, which must be that of an entry of a new initial cluster.
    pub name: String,
    /// Tells clusters with the same URLs apart; part of the ids of a new cluster.
    pub token: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; made known to all members.
    pub client_urls: Vec<String>,
    /// What a start with an empty data folder means. A folder with data ignores it.
    pub initial: InitialCluster,
    /// How often the leader shows that it lives.
    pub heartbeat: Duration,
    /// A follower waits at least so long, and less than twice as long, before it stands for election.
    pub election: Duration,
    /// Entries that are applied between two snapshots; the log goes back a few of them for members that lag.
    pub snapshot_count: usize,
    /// The way to other members; without one there can be none.
    pub transport: Option<Arc<dyn PeerTransport>>,
    /// Make this member, with the data it has, the only one: the way back when a majority is lost for good.
    pub force_new_cluster: bool,
}

/// The members to begin with, as name and peer URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitialCluster {
    /// A new cluster; every member must be started with the same list. Empty: of this member alone.
    New(Vec<(String, Vec<String>)>),
    /// A running cluster that this member was added to before; one of them must answer.
    Existing(Vec<(String, Vec<String>)>),
}

impl Default for ClusterOptions {
    /// A cluster of this member alone, as etcd without flags.
    fn default() -> Self {
        Self {
            name: NAME.into(),
            token: TOKEN.into(),
            peer_urls: vec![PEER_URL.into()],
            client_urls: Vec::new(),
            initial: InitialCluster::New(Vec::new()),
            heartbeat: HEARTBEAT,
            election: ELECTION,
            snapshot_count: SNAPSHOT_COUNT,
            transport: None,
            force_new_cluster: false,
        }
    }
}

impl fmt::Debug for ClusterOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClusterOptions")
            .field("name", &self.name)
            .field("peer_urls", &self.peer_urls)
            .field("initial", &self.initial)
            .finish_non_exhaustive()
    }
}
