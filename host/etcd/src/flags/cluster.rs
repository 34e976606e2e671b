//! Who the members are to begin with, out of the flags that say so.

use capstan_store::InitialCluster;

use super::FlagError;
use super::arguments::{Arguments, ClusterState};
use crate::discovery;
use crate::link::Address;

const PEER_URL: &str = "http://localhost:2380";

/// Members by name, each with all its peer URLs, in the order of their first mention.
pub type Members = Vec<(String, Vec<String>)>;

/// This member's peer URLs, for others.
pub(super) fn peer_urls(arguments: &Arguments) -> Result<Vec<String>, FlagError> {
    let given = &arguments.initial_advertise_peer_urls;
    let urls = if given.is_empty() {
        vec![PEER_URL.to_owned()]
    } else {
        given.clone()
    };
    for url in &urls {
        Address::parse(url).map_err(|error| FlagError::bad(error.to_string()))?;
    }
    Ok(urls)
}

/// The initial cluster.
pub(super) async fn initial(
    arguments: &Arguments,
    peer_urls: &[String],
) -> Result<InitialCluster, FlagError> {
    let members = match (&arguments.initial_cluster, arguments.srv_question()) {
        (Some(_), Some(_)) => {
            return Err(FlagError::bad(
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
                 \"discovery\" or \"discovery-srv\"",
            ));
        }
        (None, Some(question)) => {
            let found = discovery::members(&question, &arguments.name, peer_urls).await?;
            group(found.into_iter())
        }
        (Some(text), None) => members(text)?,
        (None, None) => vec![(arguments.name.clone(), peer_urls.to_vec())],
    };
    check(&members, &arguments.name, peer_urls)?;
    Ok(match arguments.initial_cluster_state {
        ClusterState::New => InitialCluster::New(members),
        ClusterState::Existing => InitialCluster::Existing(members),
    })
}

/// Reads `NAME=URL,NAME=URL,..`; a name may have several.
///
/// # Errors
/// When a part is not of that form.
pub fn members(text: &str) -> Result<Members, FlagError> {
    let mut pairs = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let pair = part.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, url) = pair.ok_or_else(|| {
            FlagError::bad(format!(
                "error setting up initial cluster: \"{part}\" is not NAME=URL"
            ))
        })?;
        Address::parse(url).map_err(|error| FlagError::bad(error.to_string()))?;
        pairs.push((name.to_owned(), url.to_owned()));
    }
    Ok(group(pairs.into_iter()))
}

fn group(pairs: impl Iterator<Item = (String, String)>) -> Members {
    let mut members = Members::new();
    for (name, url) in pairs {
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, urls)) => urls.push(url),
            None => members.push((name, vec![url])),
        }
    }
    members
}

/// This member must be among them, with the URLs that it tells others, and no URL may be two members'.
fn check(members: &Members, name: &str, peer_urls: &[String]) -> Result<(), FlagError> {
    let Some((_, listed)) = members.iter().find(|(known, _)| known == name) else {
        return Err(FlagError::bad(format!(
            "couldn't find local name \"{name}\" in the initial cluster configuration"
        )));
    };
    let trimmed = |url: &String| url.trim_end_matches('/').to_owned();
    let has = |urls: &[String], url: &String| urls.iter().any(|one| trimmed(one) == trimmed(url));
    if let Some(missing) = peer_urls.iter().find(|url| !has(listed, url)) {
        return Err(FlagError::bad(format!(
            "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={name}={}",
            listed.join(&format!(",{name}="))
        )));
    }
    if let Some(missing) = listed.iter().find(|url| !has(peer_urls, url)) {
        return Err(FlagError::bad(format!(
            "--initial-cluster has {name}={missing} but missing from --initial-advertise-peer-urls={}",
            peer_urls.join(",")
        )));
    }
    let mut all: Vec<String> = members
        .iter()
        .flat_map(|(_, urls)| urls.iter().map(trimmed))
        .collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    if all.len() != count {
        return Err(FlagError::bad(
            "error setting up initial cluster: duplicate URLs in the cluster configuration",
        ));
    }
    Ok(())
}
