//! Members that come and go while clients go on: swapped for new ones, or wiped and added again.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capstan_etcd::proto::etcdserverpb as pb;

use super::recovery::{LOOK_EVERY, RECOVERY_MAX, recover};
use crate::chaos::client::within;
use crate::chaos::field::Field;
use crate::chaos::members::{Members, State};

/// The identity of the member at `place`, by its peer address.
async fn identity(members: &Members, field: &Field, through: usize, place: usize) -> anyhow::Result<u64> {
    let request = pb::MemberListRequest { linearizable: true };
    let told = within(field.client(through).cluster().member_list(request)).await?;
    let url = members.peer_url(place);
    let found = told.members.iter().find(|member| member.peer_urls.contains(&url));
    Ok(found
        .with_context(|| format!("{url} is not of the cluster: {:?}", told.members))?
        .id)
}

/// Asks again until the cluster agrees: it may just be electing, or wait for a learner.
async fn insist<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, tonic::Status>) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        match ask().await {
            Ok(told) => return Ok(told),
            Err(status) if started.elapsed() > RECOVERY_MAX => {
                bail!("{what} was refused for {RECOVERY_MAX:?}: {status}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY * 4).await,
        }
    }
}

/// Adds a member at an absent place, by way of a learner or at once, and waits until it is whole.
async fn add(
    members: &mut Members,
    field: &Field,
    through: usize,
    place: usize,
    learner: bool,
) -> anyhow::Result<()> {
    let url = members.peer_url(place);
    insist("adding a member", async || {
        let request = pb::MemberAddRequest {
            peer_urls: vec![url.clone()],
            is_learner: learner,
        };
        match within(field.client(through).cluster().member_add(request)).await {
            // The answer to an earlier try was lost.
            Err(status) if status.message().contains("exist") => Ok(()),
            answer => answer.map(drop),
        }
    })
    .await?;
    members.join(place)?;
    members.run(place)?;
    if learner {
        let id = identity(members, field, through, place).await?;
        insist("promoting a learner", async || {
            let request = pb::MemberPromoteRequest { id };
            match within(field.client(through).cluster().member_promote(request)).await {
                // It was promoted by an earlier try. One that is not in sync yet is refused with more words.
                Err(status) if status.message() == "etcdserver: can only promote a learner member" => Ok(()),
                answer => answer.map(drop),
            }
        })
        .await?;
    }
    field.set_present(members.present());
    Ok(())
}

async fn remove(members: &mut Members, field: &Field, through: usize, place: usize) -> anyhow::Result<()> {
    let id = identity(members, field, through, place).await?;
    insist("removing a member", async || {
        let request = pb::MemberRemoveRequest { id };
        match within(field.client(through).cluster().member_remove(request)).await {
            Err(status) if status.message().contains("not found") => Ok(()),
            answer => answer.map(drop),
        }
    })
    .await?;
    members.leave(place)?;
    field.set_present(members.present());
    Ok(())
}

/// A member joins, by way of a learner or at once, and the one at `leaves` is removed.
pub(super) async fn swap(
    members: &mut Members,
    field: &Field,
    random: &mut fastrand::Rng,
    leaves: usize,
    hold: Duration,
) -> anyhow::Result<String> {
    let place = members
        .that_are(State::Absent)
        .first()
        .copied()
        .context("no place for another member")?;
    let through = members
        .present()
        .into_iter()
        .find(|at| *at != leaves)
        .context("one member stays")?;
    let learner = random.bool();
    add(members, field, through, place, learner).await?;
    recover(members, field).await?;
    tokio::time::sleep(hold / 2).await;
    remove(members, field, through, leaves).await?;
    tokio::time::sleep(hold / 2).await;
    let how = if learner { " by way of a learner" } else { "" };
    Ok(format!("member{place} came{how}, member{leaves} left"))
}

/// The member at `place` is removed, loses its data, and is added again.
pub(super) async fn wiped(
    members: &mut Members,
    field: &Field,
    random: &mut fastrand::Rng,
    place: usize,
    hold: Duration,
) -> anyhow::Result<String> {
    let through = members
        .present()
        .into_iter()
        .find(|at| *at != place)
        .context("one member stays")?;
    remove(members, field, through, place).await?;
    tokio::time::sleep(hold / 2).await;
    add(members, field, through, place, random.bool()).await?;
    Ok(format!("member{place}"))
}
