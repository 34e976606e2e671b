//! Before Raft starts: an interrupted installation of a snapshot is finished, a lost majority is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::log_store::last_log_id;
use super::raft::from_io;
use super::snapshot_in::Spool;
use super::types::{
    CommittedLeaderId, Entry, LogId, Membership, Node, NodeId, SnapshotMeta, StoredMembership, Vote,
    committed, decode, encode,
};
use crate::engine::{LogEngine, LogValue};
use crate::replica::{Mark, Replica};
use crate::{Error, Member, Result};

/// What the state keeps of an installed snapshot beside its content.
pub(super) fn marks(meta: &SnapshotMeta) -> std::io::Result<Vec<(Mark, Bytes)>> {
    let mut marks = vec![
        (Mark::Membership, Bytes::from(encode(&meta.last_membership)?)),
        (Mark::Checkpoint, Bytes::new()),
    ];
    if let Some(log_id) = &meta.last_log_id {
        marks.push((Mark::Applied, encode(log_id)?.into()));
    }
    Ok(marks)
}

/// The entry that a restored state stands for.
const RESTORED: LogId = LogId {
    leader_id: CommittedLeaderId { term: 0 },
    index: 1,
};

/// Founds a cluster on a restored state, the same on all founders: its log begins after that state, so that a
/// member that is added later gets it as a snapshot. Does nothing where the state was not restored.
pub(crate) fn found_on_restored(
    log: &dyn LogEngine,
    replica: &Arc<Replica>,
    founders: &[Member],
) -> Result<()> {
    if last_log_id(log)?.is_some() || !replica.is_restored()? {
        return Ok(());
    }
    let voters: BTreeSet<NodeId> = founders.iter().map(|member| member.id).collect();
    let nodes = founders
        .iter()
        .cloned()
        .map(|member| (member.id, Node::from(member)));
    let nodes: BTreeMap<NodeId, Node> = nodes.collect();
    let membership =
        Membership::new(vec![voters], nodes).map_err(|error| Error::Invalid(error.to_string()))?;
    let meta = SnapshotMeta {
        last_log_id: Some(RESTORED),
        last_membership: StoredMembership::new(Some(RESTORED), membership),
    };
    replica.apply_marks(marks(&meta).map_err(|error| from_io(&error))?)?;
    replica.sync()?;
    forget_log(log, RESTORED)
}

/// A snapshot that was received whole is installed, also when an earlier run began to; and the log that it
/// stands for is forgotten. Its entries are committed, so nothing else can be in their place.
pub(super) async fn finish_install(
    spool: &Arc<Spool>,
    log: &dyn LogEngine,
    replica: &Arc<Replica>,
) -> Result<()> {
    let Some((meta, image)) = spool.left()? else {
        return Ok(());
    };
    let Some(log_id) = meta.last_log_id else {
        return Ok(());
    };
    let applied: Option<LogId> = match replica.mark(Mark::Applied)? {
        Some(bytes) => Some(decode("the applied log id", &bytes).map_err(|error| from_io(&error))?),
        None => None,
    };
    if applied.is_none_or(|applied| applied.index < log_id.index) {
        tracing::info!(
            index = log_id.index,
            "installing a snapshot that was received before"
        );
        let (replica, marks) = (replica.clone(), marks(&meta).map_err(|error| from_io(&error))?);
        let installing = tokio::task::spawn_blocking(move || replica.install(&image, marks));
        installing
            .await
            .map_err(|error| Error::Corrupt(format!("installing a snapshot: {error}")))??;
    }
    if last_log_id(log)?.is_none_or(|last| last.index < log_id.index) {
        forget_log(log, log_id)?;
    }
    spool.purged(log_id.index);
    Ok(())
}

/// The log begins after this entry.
pub(super) fn forget_log(log: &dyn LogEngine, upto: LogId) -> Result<()> {
    log.set(LogValue::Purged, &encode(&upto).map_err(|error| from_io(&error))?)?;
    log.purge(upto.index)?;
    log.sync()
}

/// Makes this member the only one, by an entry at the end of its log as if a leader had proposed it. Entries
/// that were never committed are kept: nobody can tell them apart any more.
pub(super) fn force_new_cluster(log: &dyn LogEngine, replica: &Replica, own_id: NodeId) -> Result<()> {
    let bad = |error: std::io::Error| from_io(&error);
    let Some(last) = last_log_id(log)? else {
        return Ok(());
    };
    let vote: Option<Vote> = match log.get(LogValue::Vote)? {
        Some(bytes) => Some(decode("the vote", &bytes).map_err(bad)?),
        None => None,
    };
    let known: StoredMembership = match replica.mark(Mark::Membership)? {
        Some(bytes) => decode("the membership", &bytes).map_err(bad)?,
        None => StoredMembership::default(),
    };
    let own = known.membership().get_node(&own_id).cloned().unwrap_or_default();
    let term = vote
        .map_or(0, |vote| vote.leader_id.term)
        .max(last.leader_id.term)
        + 1;
    let membership = Membership::new(
        vec![BTreeSet::from([own_id])],
        BTreeMap::from([(
            own_id,
            Node {
                is_learner: false,
                ..own
            },
        )]),
    )
    .map_err(|error| Error::Invalid(error.to_string()))?;
    let entry = Entry {
        log_id: LogId {
            leader_id: committed(term),
            index: last.index + 1,
        },
        payload: openraft::EntryPayload::Membership(membership),
    };
    log.set(LogValue::Vote, &encode(&Vote::new(term, own_id)).map_err(bad)?)?;
    log.append(&[(last.index + 1, encode(&entry).map_err(bad)?)])?;
    log.sync()?;
    tracing::warn!(
        member = format!("{own_id:x}"),
        "this member is now the only one of its cluster"
    );
    Ok(())
}
