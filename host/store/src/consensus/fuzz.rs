//! What peers send and what the log keeps, damaged, for the fuzzer.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::appends::AppendAsk;
use super::network::VoteAsk;
use super::snapshot_in;
use super::snapshot_out::Head;
use super::types::{
    Entry, LogId, Membership, Node, Proposal, SnapshotMeta, StoredMembership, Vote, committed, decode, encode,
};
use crate::cluster::message::{self, Change, Changed, LeaseAnswer, LeaseAsk, Reply, Roster};
use crate::fuzz::Target;
use crate::replica::{ImageHead, Outcome};
use crate::{Error, Member};

fn member(id: u64) -> Member {
    Member {
        id,
        name: format!("member-{id}"),
        peer_urls: vec![format!("http://10.0.0.{id}:2380")],
        client_urls: vec!["http://10.0.0.1:2379".into(); 2],
        is_learner: id == 2,
    }
}

fn log_id(index: u64) -> LogId {
    LogId {
        leader_id: committed(3),
        index,
    }
}

fn membership() -> Membership {
    let nodes: BTreeMap<u64, Node> = (1..4).map(|id| (id, Node::from(member(id)))).collect();
    Membership::new(vec![BTreeSet::from([1, 3])], nodes).unwrap()
}

fn entries() -> Vec<Entry> {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(vec![7; 300].into())),
        EntryPayload::Membership(membership()),
    ];
    let numbered = payloads.into_iter().zip(5..);
    numbered
        .map(|(payload, index)| Entry {
            log_id: log_id(index),
            payload,
        })
        .collect()
}

fn append(place: Option<(u64, u64)>) -> AppendAsk {
    let request = AppendEntriesRequest {
        vote: Vote::new(3, 1),
        prev_log_id: Some(log_id(4)),
        entries: entries(),
        leader_commit: None,
    };
    AppendAsk { place, request }
}

/// What is read as messages and rows of the log are.
fn of<T: Serialize + DeserializeOwned + 'static>(name: &'static str, values: &[T]) -> Target {
    let valid = values.iter().map(|value| encode(value).unwrap()).collect();
    Target::new(name, valid, |bytes| {
        if let Ok(value) = decode::<T>("it", bytes) {
            let again = encode(&value).unwrap();
            assert!(decode::<T>("it", &again).is_ok());
        }
        let _ = message::read::<T>(bytes);
    })
}

fn head() -> Head {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(9)),
        last_membership: StoredMembership::new(Some(log_id(5)), membership()),
    };
    let image = ImageHead::default().encode().unwrap();
    Head {
        vote: Vote::new(3, 1),
        meta,
        image,
    }
}

/// A received snapshot as it lies on disk.
fn spooled() -> Vec<u8> {
    let mut file = Vec::new();
    for part in [encode(&head()).unwrap(), rows()] {
        file.extend_from_slice(&u32::try_from(part.len()).unwrap().to_be_bytes());
        file.extend_from_slice(&part);
    }
    file.extend_from_slice(&0u32.to_be_bytes());
    file.extend_from_slice(&crc32c::crc32c(&rows()).to_be_bytes());
    file
}

fn rows() -> Vec<u8> {
    let mut rows = Vec::new();
    for (key, value) in [(&b"key"[..], &[8; 100][..]), (b"another", b"")] {
        rows.extend_from_slice(&u32::try_from(key.len()).unwrap().to_be_bytes());
        rows.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        rows.extend_from_slice(key);
        rows.extend_from_slice(value);
    }
    rows
}

fn messages() -> Vec<Target> {
    let changes = [
        Change::Add {
            peer_urls: member(4).peer_urls,
            is_learner: true,
        },
        Change::Remove { id: 4 },
        Change::Promote { id: 2 },
        Change::Publish {
            id: 1,
            name: "one".into(),
            client_urls: member(1).client_urls,
        },
    ];
    let members = vec![member(1), member(2)];
    let vote = VoteAsk {
        is_real: true,
        request: VoteRequest::new(Vote::new(4, 2), Some(log_id(8))),
    };
    vec![
        of("append", &[append(None), append(Some((u64::MAX, 7)))]),
        of("vote", &[vote]),
        of("change of members", &changes),
        of(
            "changed members",
            &[Changed {
                id: 1,
                members: members.clone(),
            }],
        ),
        of(
            "roster",
            &[Roster {
                cluster_id: 7,
                index: 5,
                members,
            }],
        ),
        of(
            "lease's question",
            &[LeaseAsk::KeepAlive(7), LeaseAsk::TimeToLive(-1)],
        ),
        of(
            "lease's answer",
            &[Reply::Done(LeaseAnswer {
                granted_ttl_seconds: 60,
                remaining_ttl_seconds: -1,
            })],
        ),
        of(
            "answer to a write",
            &[
                Reply::Done((7u64, Outcome::Done(Ok(())))),
                Reply::NotLeader,
                Reply::Failed(Error::Unavailable("no".into())),
            ],
        ),
        of("forwarded write", &[Bytes::from_static(&[7; 200])]),
    ]
}

pub(crate) fn fuzz_targets() -> Vec<Target> {
    let envelope = message::seal(1, 2, &changes_of_one()).unwrap();
    let mut targets = messages();
    targets.extend([
        of("entry", &entries()),
        of("log id", &[log_id(7)]),
        of("kept vote", &[Vote::new(3, 1)]),
        of(
            "membership",
            &[StoredMembership::new(Some(log_id(5)), membership())],
        ),
        of("snapshot's head", &[head()]),
        Target::new("envelope", vec![envelope.to_vec()], |bytes| {
            if let Ok((_, body)) = message::open(2, &Bytes::copy_from_slice(bytes)) {
                let _ = message::read::<Change>(&body);
            }
        }),
        Target::new("received snapshot", vec![spooled()], |bytes| {
            let mut file = Cursor::new(bytes);
            while let Ok(Some(_)) = snapshot_in::take(&mut file) {}
        }),
        Target::new("rows of a received snapshot", vec![rows()], |bytes| {
            let mut rows = Bytes::copy_from_slice(bytes);
            while !rows.is_empty() && snapshot_in::row(&mut rows).is_ok() {}
        }),
    ]);
    targets
}

fn changes_of_one() -> Change {
    Change::Update {
        id: 1,
        peer_urls: member(1).peer_urls,
    }
}
