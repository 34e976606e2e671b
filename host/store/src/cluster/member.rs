//! A member, and ids exactly as etcd makes them, so that the same configuration has the same ids.

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until an added member has started.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// It receives the log and has no vote.
    pub is_learner: bool,
}

/// Why a member that was removed does not go on, in etcd's words.
pub(crate) const REMOVED: &str = "the member has been permanently removed from the cluster";

/// Who this member is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The cluster's id, the same on all members.
    pub cluster_id: u64,
    /// This member's id.
    pub member_id: u64,
    /// This member's name.
    pub name: String,
}

/// The id of a member that a new cluster begins with.
pub(crate) fn founding_member_id(peer_urls: &[String], token: &str) -> u64 {
    member_id(peer_urls, token)
}

/// The id of a member that is added to a running cluster: made as etcd makes it, of the time, and of the place
/// of the change before in the log, which no two additions share. So it is none that a removed member had.
pub(crate) fn added_member_id(peer_urls: &[String], unix_seconds: u64, last_change: u64) -> u64 {
    member_id(peer_urls, &format!("{unix_seconds}.{last_change}"))
}

fn member_id(peer_urls: &[String], salt: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(salt);
    leading(&hash.finalize())
}

/// The id of a cluster that begins with these members.
pub(crate) fn cluster_id(members: impl Iterator<Item = u64>) -> u64 {
    let mut ids: Vec<u64> = members.collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    ids.iter().for_each(|id| hash.update(id.to_be_bytes()));
    leading(&hash.finalize())
}

fn leading(hash: &[u8]) -> u64 {
    hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an etcd started without flags prints.
    #[test]
    fn ids_are_those_of_etcd() {
        let member = founding_member_id(&["http://localhost:2380".into()], "etcd-cluster");
        assert_eq!(format!("{member:x}"), "8e9e05c52164694d");
        assert_eq!(
            format!("{:x}", cluster_id([member].into_iter())),
            "cdf818194e3a8c32"
        );
    }
}
