//! What the flags may say of a member that was restored from a backup.
//!
//! Its restore said who it is to be. On its first start flags that say nothing mean that, and those that say
//! something else are refused, or the member would found another cluster than its siblings. Later its folder
//! says who it is, and flags of the initial cluster mean nothing, as in etcd.

use super::arguments::{Arguments, ClusterState};
use super::cluster::{Members, members};
use super::{FlagError, NAME, TOKEN};
use crate::backup::Founder;

/// Fills in what the flags leave open.
pub(super) fn settle(arguments: &mut Arguments, founder: Founder, is_started: bool) -> Result<(), FlagError> {
    if arguments.name == NAME {
        arguments.name.clone_from(&founder.name);
    }
    if arguments.initial_advertise_peer_urls.is_empty() {
        arguments
            .initial_advertise_peer_urls
            .clone_from(&founder.peer_urls);
    }
    if arguments.initial_cluster_token == TOKEN {
        arguments.initial_cluster_token.clone_from(&founder.token);
    }
    let given = arguments.initial_cluster.as_deref().map(members).transpose()?;
    let differs = [
        difference("--name", &arguments.name, &founder.name),
        difference(
            "--initial-cluster-token",
            &arguments.initial_cluster_token,
            &founder.token,
        ),
        difference(
            "--initial-advertise-peer-urls",
            &urls(&arguments.initial_advertise_peer_urls),
            &urls(&founder.peer_urls),
        ),
        given.and_then(|given| {
            let restored = text(&founder.initial_cluster);
            difference("--initial-cluster", &text(&given), &restored)
        }),
    ];
    match differs.into_iter().flatten().next() {
        Some(_) if is_started => return Ok(()),
        Some(difference) => return Err(FlagError::Bad(difference)),
        None => {}
    }
    // To the letter as its siblings have them: ids are made of them.
    arguments.initial_advertise_peer_urls = trimmed(&founder.peer_urls).map(str::to_owned).collect();
    arguments.initial_cluster = Some(text(&founder.initial_cluster));
    // Who its siblings are, it knows from the restore.
    arguments.discovery_srv = None;
    arguments.initial_cluster_state = ClusterState::New;
    Ok(())
}

fn difference(flag: &str, given: &str, restored: &str) -> Option<String> {
    (given != restored).then(|| {
        format!(
            "{flag}={given}, but the data folder was restored with {flag}={restored}: start it with the flags of \
             its restore, or without them, or restore the backup anew"
        )
    })
}

fn trimmed(urls: &[String]) -> impl Iterator<Item = &str> {
    urls.iter().map(|url| url.trim_end_matches('/'))
}

fn urls(urls: &[String]) -> String {
    let mut urls: Vec<&str> = trimmed(urls).collect();
    urls.sort_unstable();
    urls.join(",")
}

/// The same text for the same members, in whatever order they were named.
fn text(members: &Members) -> String {
    let mut pairs: Vec<String> = members
        .iter()
        .flat_map(|(name, urls)| trimmed(urls).map(move |url| format!("{name}={url}")))
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}
