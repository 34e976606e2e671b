//! What the first start of a member means: whom it founds a cluster with, or which one it joins. Pure.

use super::message::Roster;
use super::{ClusterOptions, Identity, InitialCluster, Member, cluster_id, founding_member_id};
use crate::{Error, Result};

/// A new cluster as these options describe it.
pub(crate) fn found(options: &ClusterOptions) -> Result<(Identity, Vec<Member>)> {
    let alone = [(options.name.clone(), options.peer_urls.clone())];
    let listed = match &options.initial {
        InitialCluster::New(members) if !members.is_empty() => members.as_slice(),
        _ => &alone,
    };
    let own = listed.iter().find(|(name, _)| *name == options.name);
    let Some((_, urls)) = own else {
        let name = &options.name;
        return Err(Error::Invalid(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        )));
    };
    if sorted(urls) != sorted(&options.peer_urls) {
        return Err(Error::Invalid(format!(
            "the initial cluster gives {:?} the peer URLs {urls:?}, it is to advertise {:?}",
            options.name, options.peer_urls
        )));
    }
    if listed.len() > 1 && options.transport.is_none() {
        return Err(Error::Invalid(
            "several members need a transport between them".into(),
        ));
    }
    let members: Vec<Member> = listed
        .iter()
        .map(|(name, urls)| founder(options, name, urls))
        .collect();
    check_distinct(&members)?;
    let identity = Identity {
        cluster_id: cluster_id(members.iter().map(|member| member.id)),
        member_id: founding_member_id(&options.peer_urls, &options.token),
        name: options.name.clone(),
    };
    Ok((identity, members))
}

fn founder(options: &ClusterOptions, name: &str, peer_urls: &[String]) -> Member {
    Member {
        id: founding_member_id(peer_urls, &options.token),
        name: name.to_owned(),
        peer_urls: peer_urls.to_vec(),
        // One alone needs nobody to make them known to.
        client_urls: match &options.initial {
            InitialCluster::New(members) if members.len() <= 1 => options.client_urls.clone(),
            _ => Vec::new(),
        },
        is_learner: false,
    }
}

fn check_distinct(members: &[Member]) -> Result<()> {
    for (place, member) in members.iter().enumerate() {
        if members[..place]
            .iter()
            .any(|other| other.id == member.id || other.name == member.name)
        {
            let name = &member.name;
            return Err(Error::Invalid(format!(
                "the initial cluster has {name:?}, or its peer URLs, twice"
            )));
        }
    }
    Ok(())
}

/// Who this member is in a running cluster that it was added to.
pub(crate) fn join(options: &ClusterOptions, roster: &Roster) -> Result<Identity> {
    let own = sorted(&options.peer_urls);
    let member = roster
        .members
        .iter()
        .find(|member| sorted(&member.peer_urls) == own);
    let member = member.ok_or_else(|| {
        Error::Invalid(format!(
            "the running cluster has no member with the peer URLs {:?}; add it first",
            options.peer_urls
        ))
    })?;
    Ok(Identity {
        cluster_id: roster.cluster_id,
        member_id: member.id,
        name: options.name.clone(),
    })
}

/// Whether the cluster that is to be founded exists, and this member was in it with data that is now gone.
pub(crate) fn was_founded(identity: &Identity, roster: &Roster) -> bool {
    let own = roster
        .members
        .iter()
        .find(|member| member.id == identity.member_id);
    roster.cluster_id == identity.cluster_id && own.is_some_and(|member| !member.client_urls.is_empty())
}

fn sorted(urls: &[String]) -> Vec<&str> {
    let mut urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    urls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, listed: &[(&str, &str)]) -> ClusterOptions {
        let url = |name: &str| vec![format!("http://{name}:2380")];
        ClusterOptions {
            name: name.into(),
            peer_urls: url(name),
            initial: InitialCluster::New(
                listed
                    .iter()
                    .map(|(name, host)| ((*name).into(), url(host)))
                    .collect(),
            ),
            ..ClusterOptions::default()
        }
    }

    #[test]
    fn a_list_without_this_member_or_with_other_urls_is_refused() {
        assert!(found(&options("a", &[])).is_ok());
        assert!(found(&options("a", &[("a", "a")])).is_ok());
        for listed in [
            &[("b", "b")][..],
            &[("a", "b")],
            &[("a", "a"), ("b", "b")],
            &[("a", "a"), ("a", "a")],
        ] {
            assert!(found(&options("a", listed)).is_err(), "{listed:?}");
        }
    }
}
