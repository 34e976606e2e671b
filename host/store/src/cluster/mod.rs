//! Several members, one store: who they are, how one is configured, and what goes between them.
//!
//! Pure but for the traits: ids as etcd computes them ([`Member`]), the decision what a start means
//! ([`bootstrap`]), the checks before a change of membership ([`reconfigure`]), and the messages. How they
//! travel is the transport's ([`PeerTransport`]); what is done with them is `consensus`'s and the server's.

pub(crate) mod bootstrap;
mod member;
pub(crate) mod message;
mod options;
pub(crate) mod reconfigure;
mod transport;
mod view;

pub use member::{Identity, Member};
pub use options::{ClusterOptions, InitialCluster, SNAPSHOT_COUNT};
pub use transport::{Peer, PeerCall, PeerCallKind, PeerChunks, PeerError, PeerTransport};
pub use view::RaftView;

pub(crate) use member::{REMOVED, added_member_id, cluster_id, founding_member_id};
