//! What a start means: the same member as before, one of a new cluster's founders, or one that joins.
//!
//! Who this member is, is written to the folder (`MEMBER`) before it takes part, and never changes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Options;
use super::folder::{self, Folder};
use super::leases::Leases;
use crate::cluster::bootstrap;
use crate::cluster::message::{self, Roster};
use crate::consensus::{self, Consensus, Start};
use crate::replica::{Mark, Replica};
use crate::{
    ClusterOptions, Error, Identity, InitialCluster, Member, Peer, PeerCall, PeerCallKind, PeerTransport,
    Result,
};

/// How long one that joins looks for a member that answers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
const JOIN_PAUSE: Duration = Duration::from_millis(200);
/// How long a question to another member may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// Who this member is, and what it begins with.
struct Beginning {
    identity: Identity,
    founders: Vec<Member>,
    known: Vec<Member>,
}

pub(super) async fn start_consensus(
    folder: &Folder,
    replica: &Arc<Replica>,
    leases: &Arc<Leases>,
    options: &Options,
) -> Result<(Identity, Consensus)> {
    let cluster = &options.cluster;
    check(cluster)?;
    let beginning = begin(&options.dir, cluster).await?;
    if beginning.founders.is_empty() && replica.is_restored()? && replica.mark(Mark::Applied)?.is_none() {
        return Err(Error::Invalid(
            "a restored store begins a new cluster; it cannot join one that runs".into(),
        ));
    }
    if !beginning.founders.is_empty() {
        consensus::found_on_restored(&*folder.log, replica, &beginning.founders)?;
    }
    let (dir, (cluster_id, member_id)) = (
        options.dir.clone(),
        (beginning.identity.cluster_id, beginning.identity.member_id),
    );
    let on_removed = move || {
        if let Err(error) = folder::write_removed(&dir, cluster_id, member_id) {
            tracing::error!(%error, "marking the folder of a removed member");
        }
    };
    let start = Start {
        log: folder.log.clone(),
        replica: replica.clone(),
        identity: &beginning.identity,
        founders: beginning.founders,
        known: beginning.known,
        options: cluster,
        dir: &options.dir,
        observer: leases.clone(),
        on_removed: Box::new(on_removed),
    };
    let consensus = Consensus::start(start).await?;
    Ok((beginning.identity, consensus))
}

fn check(cluster: &ClusterOptions) -> Result<()> {
    if cluster.peer_urls.is_empty() {
        return Err(Error::Invalid("a member needs a peer URL".into()));
    }
    if cluster.heartbeat.is_zero() || cluster.election < cluster.heartbeat * 5 {
        return Err(Error::Invalid(format!(
            "the election timeout, {:?}, must be at least five times the heartbeat interval, {:?}",
            cluster.election, cluster.heartbeat
        )));
    }
    Ok(())
}

async fn begin(dir: &Path, cluster: &ClusterOptions) -> Result<Beginning> {
    if let Some((cluster_id, member_id)) = folder::read_member(dir)? {
        let name = cluster.name.clone();
        let identity = Identity {
            cluster_id,
            member_id,
            name,
        };
        // As long as it has no log, a founder has to found.
        let founders = bootstrap::found(cluster).ok().filter(|(found, _)| {
            found.cluster_id == cluster_id && matches!(cluster.initial, InitialCluster::New(_))
        });
        let founders = founders.map(|(_, members)| members).unwrap_or_default();
        return Ok(Beginning {
            identity,
            founders,
            known: Vec::new(),
        });
    }
    let beginning = match &cluster.initial {
        InitialCluster::New(_) => {
            let (identity, founders) = bootstrap::found(cluster)?;
            refuse_second_founding(cluster, &identity, &founders).await?;
            Beginning {
                identity,
                founders,
                known: Vec::new(),
            }
        }
        InitialCluster::Existing(listed) => {
            let roster = find_cluster(cluster, listed).await?;
            let identity = bootstrap::join(cluster, &roster)?;
            Beginning {
                identity,
                founders: Vec::new(),
                known: roster.members,
            }
        }
    };
    folder::write_member(dir, beginning.identity.cluster_id, beginning.identity.member_id)?;
    Ok(beginning)
}

/// A member that lost its data must not vote again as if it had never voted.
async fn refuse_second_founding(
    cluster: &ClusterOptions,
    identity: &Identity,
    founders: &[Member],
) -> Result<()> {
    let Some(transport) = &cluster.transport else {
        return Ok(());
    };
    let others = founders.iter().filter(|member| member.id != identity.member_id);
    let asking = others.map(|member| ask_roster(transport, &member.peer_urls));
    let rosters = futures::future::join_all(asking).await;
    if rosters
        .iter()
        .flatten()
        .any(|roster| bootstrap::was_founded(identity, roster))
    {
        return Err(Error::Invalid(format!(
            "member {:x} has already been bootstrapped; remove it from the cluster and add it again",
            identity.member_id
        )));
    }
    Ok(())
}

async fn find_cluster(cluster: &ClusterOptions, listed: &[(String, Vec<String>)]) -> Result<Roster> {
    let Some(transport) = &cluster.transport else {
        return Err(Error::Invalid(
            "joining a cluster needs a transport to its members".into(),
        ));
    };
    let deadline = Instant::now() + JOIN_TIMEOUT;
    loop {
        for (_, urls) in listed.iter().filter(|(name, _)| *name != cluster.name) {
            if let Some(roster) = ask_roster(transport, urls).await
                && bootstrap::join(cluster, &roster).is_ok()
            {
                return Ok(roster);
            }
        }
        if Instant::now() >= deadline {
            return Err(Error::Unavailable(
                "cannot fetch cluster info from peer urls: no member of the running cluster answered, \
                 or none knows this member's peer URLs"
                    .into(),
            ));
        }
        tokio::time::sleep(JOIN_PAUSE).await;
    }
}

async fn ask_roster(transport: &Arc<dyn PeerTransport>, peer_urls: &[String]) -> Option<Roster> {
    let peer = Peer {
        cluster_id: 0,
        id: 0,
        peer_urls: peer_urls.to_vec(),
    };
    let call = PeerCall {
        kind: PeerCallKind::Members,
        body: message::seal(0, 0, &()).ok()?,
        deadline: ASK_TIMEOUT,
    };
    let answer = tokio::time::timeout(ASK_TIMEOUT, transport.call(&peer, call)).await;
    message::read(&answer.ok()?.ok()?).ok()
}
