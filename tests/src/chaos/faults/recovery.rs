//! Undoes whatever was done, and waits until the cluster is whole again.

use std::time::{Duration, Instant};

use anyhow::bail;
use capstan_etcd::proto::etcdserverpb as pb;

use crate::chaos::client::within;
use crate::chaos::field::Field;
use crate::chaos::history::{Outcome, Request, Step};
use crate::chaos::members::{Members, State};

/// How long a cluster may take to be whole again after a fault.
pub const RECOVERY_MAX: Duration = Duration::from_secs(90);

/// How often the cluster is looked at meanwhile.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

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
pub(super) async fn leader(members: &Members, field: &Field) -> anyhow::Result<usize> {
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
