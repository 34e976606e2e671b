//! What is done to members while clients go on. Each fault holds for a time and is undone by its end or by
//! [`recover`]; which member it meets is by role, so that leaders are met as often as followers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capstan_etcd::proto::etcdserverpb as pb;

use super::client::within;
use super::field::Field;
use super::history::{Outcome, Request, Step};
use super::members::{Members, State};
use super::traffic;

/// How long a cluster may take to be whole again after a fault.
pub const RECOVERY_MAX: Duration = Duration::from_secs(90);

/// How often the cluster is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Who is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The leader.
    Leader,
    /// One that follows.
    Follower,
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing, to compare with.
    Calm,
    /// kill -9 of one.
    Kill(Who),
    /// kill -9 of a majority.
    KillQuorum,
    /// kill -9 of all.
    KillAll,
    /// SIGSTOP of one, SIGCONT later.
    Pause(Who),
    /// SIGSTOP of all.
    PauseAll,
    /// No packets between one and the others.
    Isolate(Who),
    /// No packets from the leader to the others.
    FromLeader,
    /// No packets from the others to the leader.
    ToLeader,
    /// Two that follow do not reach one another; both reach the leader, or one another through nobody.
    Bridge,
    /// One is cut off and joined again, over and over.
    Flapping(Who),
    /// Cut off, then killed, then joined.
    KillIsolated,
    /// A slow disk.
    SlowDisk(Who),
    /// All disks slow.
    SlowDisks,
    /// A full disk.
    FullDisk(Who),
    /// All disks full.
    FullDisks,
    /// Leadership handed on, several times.
    Transfer,
    /// A learner joins, is promoted, and another member leaves.
    Swap(Who),
    /// One is removed, wiped, and added anew.
    Wiped,
    /// One stops for so long that it needs a snapshot.
    LongStop,
}

impl Fault {
    /// Those that make sense for so many members and on this machine.
    pub fn all(members: &Members) -> Vec<Self> {
        use Fault::*;
        use Who::*;
        let many = members.present().len() > 1;
        let mut faults = vec![Calm, Kill(Leader), Pause(Leader)];
        if many {
            faults.extend([
                Kill(Follower),
                Pause(Follower),
                KillQuorum,
                KillAll,
                PauseAll,
                Transfer,
            ]);
            faults.extend([Swap(Leader), Swap(Follower), Wiped, LongStop]);
            if members.network.is_isolated() {
                faults.extend([Isolate(Leader), Isolate(Follower), FromLeader, ToLeader, Bridge]);
                faults.extend([Flapping(Leader), Flapping(Follower), KillIsolated]);
            }
        }
        if members.disk(0).can_slow() {
            faults.push(SlowDisk(Leader));
            faults.extend(
                many.then_some([SlowDisk(Follower), SlowDisks])
                    .into_iter()
                    .flatten(),
            );
        }
        if members.disk(0).can_fill() {
            faults.push(FullDisk(Leader));
            faults.extend(
                many.then_some([FullDisk(Follower), FullDisks])
                    .into_iter()
                    .flatten(),
            );
        }
        faults
    }

    /// Whether a majority is in order and connected all the while, so that answers must go on.
    pub fn leaves_majority(self) -> bool {
        use Fault::*;
        !matches!(self, KillQuorum | KillAll | PauseAll | SlowDisks | FullDisks)
    }

    /// Whether a leader that was fine stays so: nobody has a reason for an election.
    pub fn leaves_leader(self) -> bool {
        use Fault::*;
        use Who::Follower;
        matches!(
            self,
            Calm | Kill(Follower)
                | Pause(Follower)
                | Isolate(Follower)
                | Flapping(Follower)
                | FullDisk(Follower)
        )
    }
}

/// What members say of themselves, by place.
pub async fn statuses(field: &Field, places: &[usize]) -> Vec<Option<pb::StatusResponse>> {
    futures::future::join_all(
        places
            .iter()
            .map(async |place| field.client(*place).status().await.ok()),
    )
    .await
}

/// The place of the leader, as the newest term knows it.
async fn leader(members: &Members, field: &Field) -> anyhow::Result<usize> {
    let started = Instant::now();
    while started.elapsed() < RECOVERY_MAX {
        let places = members.that_are(State::Running);
        let told = statuses(field, &places).await;
        let newest = told
            .iter()
            .flatten()
            .max_by_key(|status| status.raft_term)
            .map(|status| status.leader);
        for (place, status) in places.iter().zip(&told) {
            let Some(header) = status.as_ref().and_then(|status| status.header.as_ref()) else {
                continue;
            };
            if newest.is_some_and(|leader| leader != 0 && leader == header.member_id) {
                return Ok(*place);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("no leader within {RECOVERY_MAX:?}")
}

/// Does `fault`, holds it for `hold`, and undoes what does not undo itself in [`recover`]. Says what was done.
///
/// # Errors
/// When the machine or the cluster refuses what the fault needs.
pub async fn inflict(
    fault: Fault,
    members: &mut Members,
    field: &Arc<Field>,
    random: &mut fastrand::Rng,
    hold: Duration,
    missed: usize,
) -> anyhow::Result<String> {
    let lead = leader(members, field).await?;
    let running = members.that_are(State::Running);
    let others: Vec<usize> = running.iter().copied().filter(|place| *place != lead).collect();
    let follower = others
        .get(random.usize(..others.len().max(1)))
        .copied()
        .unwrap_or(lead);
    let met = |who| if who == Who::Leader { lead } else { follower };
    let rest = |one: usize| {
        running
            .iter()
            .copied()
            .filter(move |place| *place != one)
            .collect::<Vec<_>>()
    };
    let mut said = String::new();
    match fault {
        Fault::Calm => tokio::time::sleep(hold).await,
        Fault::Kill(who) => {
            members.kill(met(who))?;
            tokio::time::sleep(hold / 2).await;
            said = format!("member{}", met(who));
        }
        Fault::KillQuorum => {
            let mut victims = running.clone();
            random.shuffle(&mut victims);
            victims.truncate(running.len() / 2 + 1);
            for place in &victims {
                members.kill(*place)?;
            }
            tokio::time::sleep(hold / 2).await;
            said = format!("members {victims:?}");
        }
        Fault::KillAll => {
            for place in &running {
                members.kill(*place)?;
            }
            tokio::time::sleep(hold / 4).await;
        }
        Fault::Pause(who) => {
            members.pause(met(who))?;
            tokio::time::sleep(hold).await;
            members.go_on(met(who))?;
            said = format!("member{}", met(who));
        }
        Fault::PauseAll => {
            for place in &running {
                members.pause(*place)?;
            }
            tokio::time::sleep(hold / 2).await;
            random.shuffle(&mut members.that_are(State::Paused));
            for place in members.that_are(State::Paused) {
                members.go_on(place)?;
                tokio::time::sleep(Duration::from_millis(random.u64(..500))).await;
            }
        }
        Fault::Isolate(who) => {
            members.network.part(&[met(who)], &rest(met(who)))?;
            tokio::time::sleep(hold).await;
            said = format!("member{}", met(who));
        }
        Fault::FromLeader | Fault::ToLeader => {
            for place in &others {
                let (from, to) = if fault == Fault::FromLeader {
                    (lead, *place)
                } else {
                    (*place, lead)
                };
                members.network.cut(from, to)?;
            }
            tokio::time::sleep(hold).await;
            said = format!("member{lead}");
        }
        Fault::Bridge => {
            let half = others.len() / 2;
            members.network.part(&others[..half], &others[half..])?;
            if random.bool() {
                // Now the middle is one that follows: the leader does not reach the rest.
                members.network.heal()?;
                members.network.part(
                    &[lead],
                    &rest(follower)
                        .into_iter()
                        .filter(|place| *place != lead)
                        .collect::<Vec<_>>(),
                )?;
            }
            tokio::time::sleep(hold).await;
        }
        Fault::Flapping(who) => {
            let ends = Instant::now() + hold;
            let mut times = 0;
            while Instant::now() < ends {
                members.network.part(&[met(who)], &rest(met(who)))?;
                tokio::time::sleep(Duration::from_millis(random.u64(100..1_500))).await;
                members.network.heal()?;
                tokio::time::sleep(Duration::from_millis(random.u64(50..700))).await;
                times += 1;
            }
            said = format!("member{} {times} times", met(who));
        }
        Fault::KillIsolated => {
            members.network.part(&[lead], &others)?;
            tokio::time::sleep(hold / 2).await;
            members.kill(lead)?;
            tokio::time::sleep(hold / 2).await;
            said = format!("member{lead}");
        }
        Fault::SlowDisk(_) | Fault::SlowDisks => {
            let victims = if let Fault::SlowDisk(who) = fault {
                vec![met(who)]
            } else {
                running.clone()
            };
            for place in &victims {
                members.disk(*place).slow(true)?;
            }
            tokio::time::sleep(hold).await;
            for place in &victims {
                members.disk(*place).slow(false)?;
            }
            said = format!("members {victims:?}");
        }
        Fault::FullDisk(_) | Fault::FullDisks => {
            let victims = if let Fault::FullDisk(who) = fault {
                vec![met(who)]
            } else {
                running.clone()
            };
            for place in &victims {
                members.disk(*place).fill(true)?;
            }
            tokio::time::sleep(hold).await;
            said = format!("members {victims:?}");
            for place in &victims {
                members.disk(*place).fill(false)?;
                if let Some(status) = members.ended(*place) {
                    said += &format!("; member{place} ended: {status}");
                }
            }
        }
        Fault::Transfer => said = transfer(members, field, random, hold).await?,
        Fault::Swap(who) => said = swap(members, field, random, met(who), hold).await?,
        Fault::Wiped => said = wiped(members, field, random, follower, hold).await?,
        Fault::LongStop => {
            members.kill(follower)?;
            traffic::burst(field, rest(follower), missed).await;
            said = format!("member{follower}, which missed {missed} writes");
        }
    }
    Ok(said)
}

async fn transfer(
    members: &Members,
    field: &Field,
    random: &mut fastrand::Rng,
    hold: Duration,
) -> anyhow::Result<String> {
    let ends = Instant::now() + hold;
    let (mut handed, mut refused) = (0, String::new());
    while Instant::now() < ends {
        let lead = leader(members, field).await?;
        let places: Vec<usize> = members
            .that_are(State::Running)
            .into_iter()
            .filter(|at| *at != lead)
            .collect();
        let to = places[random.usize(..places.len())];
        let Some(target) = statuses(field, &[to])
            .await
            .remove(0)
            .and_then(|status| status.header)
        else {
            continue;
        };
        let request = pb::MoveLeaderRequest {
            target_id: target.member_id,
        };
        match within(field.client(lead).maintenance().move_leader(request)).await {
            Ok(_) => handed += 1,
            Err(status) => refused = format!(", one refused: {}", status.message()),
        }
        tokio::time::sleep(Duration::from_millis(random.u64(200..900))).await;
    }
    Ok(format!("{handed} times{refused}"))
}

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

async fn swap(
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

async fn wiped(
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

/// Whether a member reads and writes; takes back the alarm of a full disk, which is the operator's to do.
async fn works(field: &Field, place: usize) -> bool {
    let client = field.client(place);
    if client.linearizable().await.is_err() {
        return false;
    }
    let request = Request::single(Step::Put {
        key: "l/works".to_owned(),
        value: field.value(),
        lease: 0,
        previous: false,
    });
    let writer = 800 + u32::try_from(place).unwrap_or(0);
    match field.perform(writer, place, client, request, true).await {
        Outcome::Ok { .. } => true,
        Outcome::Refused(message) if message.contains("space") => {
            let disarm = pb::AlarmRequest {
                action: pb::alarm_request::AlarmAction::Deactivate as i32,
                member_id: 0,
                alarm: pb::AlarmType::Nospace as i32,
            };
            let alarms = within(client.maintenance().alarm(pb::AlarmRequest::default())).await;
            for alarm in alarms.into_iter().flat_map(|told| told.alarms) {
                let disarm = pb::AlarmRequest {
                    member_id: alarm.member_id,
                    ..disarm
                };
                let _ = within(client.maintenance().alarm(disarm)).await;
            }
            false
        }
        Outcome::Refused(_) | Outcome::Unknown(_) => false,
    }
}

/// Undoes everything and waits until all members are there, agree on a leader, and answer; how long that took.
///
/// # Errors
/// When they do not within [`RECOVERY_MAX`], with what each said last.
pub async fn recover(members: &mut Members, field: &Field) -> anyhow::Result<Duration> {
    members.network.heal()?;
    for place in members.that_are(State::Paused) {
        members.go_on(place)?;
    }
    for place in members.that_are(State::Down) {
        members.run(place)?;
    }
    let started = Instant::now();
    loop {
        let places = members.present();
        for place in &places {
            if let Some(status) = members.ended(*place) {
                bail!(
                    "member{place} ended by itself: {status}; see {}",
                    members.log(*place).display()
                );
            }
        }
        let told = statuses(field, &places).await;
        let mut leaders: Vec<u64> = told
            .iter()
            .map(|status| status.as_ref().map_or(0, |status| status.leader))
            .collect();
        leaders.dedup();
        let answers = async |place: &usize| works(field, *place).await;
        if leaders.len() == 1 && leaders[0] != 0 {
            let answered = futures::future::join_all(places.iter().map(answers)).await;
            if answered.into_iter().all(|works| works) {
                return Ok(started.elapsed());
            }
        }
        if started.elapsed() > RECOVERY_MAX {
            bail!("not whole {RECOVERY_MAX:?} after the fault was undone: {told:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
