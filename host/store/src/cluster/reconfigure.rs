//! Whether a change of membership is allowed, by etcd's rules with its strict reconfiguration check. Pure.

use std::collections::BTreeSet;

use super::message::Change;
use super::{Member, added_member_id};
use crate::{Error, Refusal, Result};

/// etcd's default.
const LEARNERS_MAX: usize = 1;

/// What the leader knows when it decides.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) members: Vec<Member>,
    /// Members with a vote already; one that was added as a voter gets it when it has caught up.
    pub(crate) voters: BTreeSet<u64>,
    /// Members that answer, the leader among them.
    pub(crate) live: BTreeSet<u64>,
    /// Learners whose log is nearly the leader's.
    pub(crate) caught_up: BTreeSet<u64>,
    pub(crate) leader: u64,
    pub(crate) unix_seconds: u64,
    /// Where in the log the last change is.
    pub(crate) last_change: u64,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Add a node, without a vote at first.
    Add(Member),
    /// Replace what is known of a node.
    Set(Member),
    /// Give a vote.
    Promote(Member),
    RemoveVoter(u64),
    RemoveLearner(u64),
    /// The leader is to go: another must lead first.
    HandOver,
    /// It is so already.
    Nothing(u64),
}

/// Decides on a change.
pub(crate) fn plan(seen: &Seen, change: &Change) -> Result<Plan> {
    match change {
        Change::Add {
            peer_urls,
            is_learner,
        } => add(seen, peer_urls, *is_learner),
        Change::Remove { id } => remove(seen, *id),
        Change::Update { id, peer_urls } => {
            let member = seen.member(*id)?;
            seen.check_urls(peer_urls, *id)?;
            let peer_urls = peer_urls.clone();
            Ok(Plan::Set(Member { peer_urls, ..member }))
        }
        Change::Promote { id } => promote(seen, *id),
        Change::Publish {
            id,
            name,
            client_urls,
        } => {
            let member = seen.member(*id)?;
            if member.name == *name && member.client_urls == *client_urls {
                return Ok(Plan::Nothing(*id));
            }
            let (name, client_urls) = (name.clone(), client_urls.clone());
            Ok(Plan::Set(Member {
                name,
                client_urls,
                ..member
            }))
        }
    }
}

fn add(seen: &Seen, peer_urls: &[String], is_learner: bool) -> Result<Plan> {
    let id = added_member_id(peer_urls, seen.unix_seconds, seen.last_change);
    if seen.members.iter().any(|member| member.id == id) {
        return refuse(Refusal::MemberExists);
    }
    seen.check_urls(peer_urls, id)?;
    if is_learner && seen.members.iter().filter(|member| member.is_learner).count() >= LEARNERS_MAX {
        return refuse(Refusal::TooManyLearners);
    }
    let (started, voting) = seen.started(None);
    // One may become two though the second is not started: how a lost cluster is built up again.
    let may_wait = (started, voting) == (1, 1);
    if !is_learner && !may_wait && started < quorum(voting + 1) {
        return refuse(Refusal::NotEnoughStartedMembers);
    }
    if seen.voting().any(|member| !seen.live.contains(&member.id)) {
        return refuse(Refusal::UnhealthyCluster);
    }
    Ok(Plan::Add(Member {
        id,
        peer_urls: peer_urls.to_vec(),
        is_learner,
        ..Member::default()
    }))
}

fn remove(seen: &Seen, id: u64) -> Result<Plan> {
    let member = seen.member(id)?;
    if !seen.voters.contains(&id) {
        return Ok(Plan::RemoveLearner(member.id));
    }
    let (started, voting) = seen.started(Some(id));
    if started < quorum(voting) {
        return refuse(Refusal::NotEnoughStartedMembers);
    }
    // One that is down is no part of the quorum that works.
    if seen.live.contains(&id) {
        let live = seen
            .voting()
            .filter(|member| seen.live.contains(&member.id))
            .count();
        if live.saturating_sub(1) < 1 + voting / 2 {
            return refuse(Refusal::UnhealthyCluster);
        }
    }
    if id == seen.leader {
        return Ok(Plan::HandOver);
    }
    Ok(Plan::RemoveVoter(id))
}

fn promote(seen: &Seen, id: u64) -> Result<Plan> {
    let member = seen.member(id)?;
    if !member.is_learner {
        return refuse(Refusal::NotLearner);
    }
    if !seen.caught_up.contains(&id) {
        return refuse(Refusal::LearnerNotReady);
    }
    let (started, voting) = seen.started(None);
    if started + 1 < quorum(voting + 1) {
        return refuse(Refusal::NotEnoughStartedMembers);
    }
    Ok(Plan::Promote(Member {
        is_learner: false,
        ..member
    }))
}

fn quorum(voting: usize) -> usize {
    voting / 2 + 1
}

fn refuse<T>(refusal: Refusal) -> Result<T> {
    Err(Error::Refused(refusal))
}

impl Seen {
    fn member(&self, id: u64) -> Result<Member> {
        let found = self.members.iter().find(|member| member.id == id);
        found.cloned().ok_or(Error::Refused(Refusal::MemberNotFound))
    }

    fn voting(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// How many that vote have started, and how many vote, but for one.
    fn started(&self, but: Option<u64>) -> (usize, usize) {
        let voting = self.voting().filter(|member| Some(member.id) != but);
        voting.fold((0, 0), |(started, voting), member| {
            (started + usize::from(!member.name.is_empty()), voting + 1)
        })
    }

    fn check_urls(&self, peer_urls: &[String], own: u64) -> Result<()> {
        if peer_urls.is_empty() {
            return refuse(Refusal::MemberBadUrls);
        }
        let others = self.members.iter().filter(|member| member.id != own);
        for member in others {
            if member.peer_urls.iter().any(|url| peer_urls.contains(url)) {
                return refuse(Refusal::PeerUrlExists);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members 1, 2, 3; the first leads.
    fn three(live: &[u64], names: bool) -> Seen {
        let member = |id| Member {
            id,
            name: if names { format!("m{id}") } else { String::new() },
            peer_urls: vec![format!("http://m{id}")],
            ..Member::default()
        };
        Seen {
            members: [1, 2, 3].map(member).to_vec(),
            voters: [1, 2, 3].into(),
            live: live.iter().copied().collect(),
            leader: 1,
            unix_seconds: 7,
            ..Seen::default()
        }
    }

    fn refused(planned: Result<Plan>) -> Option<Refusal> {
        match planned {
            Err(Error::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    #[test]
    fn etcds_rules() {
        use Refusal::*;
        let add = |url: &str, is_learner| Change::Add {
            peer_urls: vec![url.into()],
            is_learner,
        };
        let all = three(&[1, 2, 3], true);
        let mut learning = all.clone();
        learning.members.push(Member {
            id: 4,
            is_learner: true,
            ..Member::default()
        });
        let cases = [
            (&all, add("http://m4", false), None),
            (&all, add("http://m2", false), Some(PeerUrlExists)),
            (&all, Change::Remove { id: 9 }, Some(MemberNotFound)),
            (&all, Change::Remove { id: 2 }, None),
            (&all, Change::Promote { id: 2 }, Some(NotLearner)),
            (
                &all,
                Change::Update {
                    id: 2,
                    peer_urls: vec!["http://m3".into()],
                },
                Some(PeerUrlExists),
            ),
            (&learning, Change::Promote { id: 4 }, Some(LearnerNotReady)),
            (&learning, Change::Remove { id: 4 }, None),
            (&learning, add("http://m5", true), Some(TooManyLearners)),
            (
                &three(&[1, 2], true),
                add("http://m4", false),
                Some(UnhealthyCluster),
            ),
            (
                &three(&[1, 2], true),
                Change::Remove { id: 2 },
                Some(UnhealthyCluster),
            ),
            (&three(&[1, 2], true), Change::Remove { id: 3 }, None),
            (
                &three(&[1, 2, 3], false),
                Change::Remove { id: 3 },
                Some(NotEnoughStartedMembers),
            ),
        ];
        for (seen, change, expected) in cases {
            assert_eq!(refused(plan(seen, &change)), expected, "{change:?}");
        }
        assert_eq!(plan(&all, &Change::Remove { id: 1 }).ok(), Some(Plan::HandOver));
    }
}
