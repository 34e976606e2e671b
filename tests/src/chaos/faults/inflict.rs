//! Does a fault: one function for each kind of thing that is done.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use capstan_etcd::proto::etcdserverpb as pb;

use super::membership::{swap, wiped};
use super::recovery::{leader, recover, statuses};
use super::{Fault, Who};
use crate::chaos::client::within;
use crate::chaos::disk::Speed;
use crate::chaos::field::Field;
use crate::chaos::members::{Members, State};
use crate::chaos::traffic;

/// How often a member is killed while it gets a snapshot.
const SNAPSHOT_CUTS: u32 = 3;

/// After a member missed so much, the others have purged it within this time.
const PURGED_WITHIN: Duration = Duration::from_secs(30);

/// What a fault is done with.
struct Inflict<'r> {
    members: &'r mut Members,
    field: &'r Arc<Field>,
    random: &'r mut fastrand::Rng,
    hold: Duration,
    missed: usize,
    lead: usize,
    follower: usize,
    running: Vec<usize>,
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
    let mut this = Inflict {
        members,
        field,
        random,
        hold,
        missed,
        lead,
        follower,
        running,
    };
    this.inflict(fault).await
}

impl Inflict<'_> {
    fn met(&self, who: Who) -> usize {
        if who == Who::Leader {
            self.lead
        } else {
            self.follower
        }
    }

    fn rest(&self, one: usize) -> Vec<usize> {
        let mut rest = self.running.clone();
        rest.retain(|place| *place != one);
        rest
    }

    async fn wait(&self, part: f64) {
        tokio::time::sleep(self.hold.mul_f64(part)).await;
    }

    async fn inflict(&mut self, fault: Fault) -> anyhow::Result<String> {
        match fault {
            Fault::Calm => {
                self.wait(1.0).await;
                Ok(String::new())
            }
            Fault::Kill(who) => self.kill(vec![self.met(who)], 0.5).await,
            Fault::KillQuorum => {
                let mut victims = self.running.clone();
                self.random.shuffle(&mut victims);
                victims.truncate(self.running.len() / 2 + 1);
                self.kill(victims, 0.5).await
            }
            Fault::KillAll => self.kill(self.running.clone(), 0.25).await,
            Fault::Restart => self.restart().await,
            Fault::Pause(who) => self.pause(vec![self.met(who)], 1.0).await,
            Fault::PauseAll => self.pause(self.running.clone(), 0.5).await,
            Fault::Flapping(who) => self.flap(self.met(who)).await,
            Fault::Isolate(_)
            | Fault::FromLeader
            | Fault::ToLeader
            | Fault::Split
            | Fault::Shatter
            | Fault::Bridge => {
                let said = self.cut(fault)?;
                self.wait(1.0).await;
                Ok(said)
            }
            Fault::KillIsolated => {
                self.members.network.part(&[self.lead], &self.rest(self.lead))?;
                self.wait(0.5).await;
                self.kill(vec![self.lead], 0.5).await
            }
            Fault::SlowDisk(who) => self.slow(vec![self.met(who)]).await,
            Fault::SlowDisks => self.slow(self.running.clone()).await,
            Fault::FullDisk(who) => self.fill(vec![self.met(who)]).await,
            Fault::FullDisks => self.fill(self.running.clone()).await,
            Fault::Transfer => self.transfer().await,
            Fault::Swap(who) => {
                let leaves = self.met(who);
                swap(self.members, self.field, self.random, leaves, self.hold).await
            }
            Fault::Wiped => wiped(self.members, self.field, self.random, self.follower, self.hold).await,
            Fault::LongStop => self.miss(0).await,
            Fault::SnapshotCut => self.miss(SNAPSHOT_CUTS).await,
            Fault::Storm => self.storm().await,
        }
    }

    async fn kill(&mut self, victims: Vec<usize>, part: f64) -> anyhow::Result<String> {
        for place in &victims {
            self.members.kill(*place)?;
        }
        self.wait(part).await;
        Ok(format!("members {victims:?}"))
    }

    async fn restart(&mut self) -> anyhow::Result<String> {
        for place in self.running.clone() {
            self.members.end(place).await?;
            self.wait(0.05).await;
            recover(self.members, self.field).await?;
        }
        Ok(format!("members {:?}", self.running))
    }

    async fn pause(&mut self, victims: Vec<usize>, part: f64) -> anyhow::Result<String> {
        for place in &victims {
            self.members.pause(*place)?;
        }
        self.wait(part).await;
        let mut order = victims.clone();
        self.random.shuffle(&mut order);
        for place in order {
            self.members.go_on(place)?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(..500))).await;
        }
        Ok(format!("members {victims:?}"))
    }

    /// Cuts ways between members, as the fault says.
    fn cut(&mut self, fault: Fault) -> anyhow::Result<String> {
        let (lead, others) = (self.lead, self.rest(self.lead));
        let network = &mut self.members.network;
        match fault {
            Fault::FromLeader => others.iter().try_for_each(|place| network.cut(lead, *place))?,
            Fault::ToLeader => others.iter().try_for_each(|place| network.cut(*place, lead))?,
            Fault::Split => {
                let minority = (self.running.len() - 1) / 2;
                let mut one = others[..minority - 1].to_vec();
                one.push(lead);
                network.part(&one, &others[minority - 1..])?;
                return Ok(format!("members {one:?} from {:?}", &others[minority - 1..]));
            }
            Fault::Shatter => {
                for place in &self.running {
                    let rest: Vec<usize> = self.running.iter().copied().filter(|at| at != place).collect();
                    network.part(&[*place], &rest)?;
                }
            }
            // Either the leader is in the middle, or one that follows is.
            Fault::Bridge if self.random.bool() => {
                let half = others.len() / 2;
                network.part(&others[..half], &others[half..])?;
            }
            Fault::Bridge => {
                let mut far = others;
                far.retain(|place| *place != self.follower);
                network.part(&[lead], &far)?;
                return Ok(format!("member{} does", self.follower));
            }
            Fault::Isolate(Who::Follower) => {
                let rest = self.rest(self.follower);
                self.members.network.part(&[self.follower], &rest)?;
                return Ok(format!("member{}", self.follower));
            }
            _ => network.part(&[lead], &others)?,
        }
        Ok(format!("member{lead}"))
    }

    async fn flap(&mut self, place: usize) -> anyhow::Result<String> {
        let (ends, rest) = (Instant::now() + self.hold, self.rest(place));
        let mut times = 0;
        while Instant::now() < ends {
            self.members.network.part(&[place], &rest)?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(100..1_500))).await;
            self.members.network.heal()?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..700))).await;
            times += 1;
        }
        Ok(format!("member{place} {times} times"))
    }

    async fn slow(&mut self, victims: Vec<usize>) -> anyhow::Result<String> {
        let speed = [Speed::Crawling, Speed::Slow, Speed::Slowish][self.random.usize(..3)];
        for place in &victims {
            self.members.disk(*place).set_speed(speed)?;
        }
        self.wait(1.0).await;
        for place in &victims {
            self.members.disk(*place).set_speed(Speed::Full)?;
        }
        Ok(format!("members {victims:?}, {speed:?}"))
    }

    /// Fills disks, kills a member on a full one or not, and frees them again.
    async fn fill(&mut self, victims: Vec<usize>) -> anyhow::Result<String> {
        for place in &victims {
            self.members.disk(*place).fill(true)?;
        }
        self.wait(1.0).await;
        let mut said = format!("members {victims:?}");
        let killed = self
            .random
            .bool()
            .then(|| victims[self.random.usize(..victims.len())]);
        for place in &victims {
            if let Some(status) = self.members.ended(*place) {
                said += &format!("; member{place} ended: {status}");
            } else if killed == Some(*place) {
                self.members.kill(*place)?;
                said += &format!("; member{place} killed");
            }
            self.members.disk(*place).fill(false)?;
        }
        Ok(said)
    }

    async fn transfer(&mut self) -> anyhow::Result<String> {
        let ends = Instant::now() + self.hold;
        let (mut handed, mut refused) = (0, String::new());
        while Instant::now() < ends {
            let lead = leader(self.members, self.field).await?;
            let mut places = self.members.that_are(State::Running);
            places.retain(|at| *at != lead);
            let to = places[self.random.usize(..places.len())];
            let told = statuses(self.field, &[to]).await.remove(0);
            let Some(target) = told.and_then(|status| status.header) else {
                continue;
            };
            let request = pb::MoveLeaderRequest {
                target_id: target.member_id,
            };
            match within(self.field.client(lead).maintenance().move_leader(request)).await {
                Ok(_) => handed += 1,
                Err(status) => refused = format!(", one refused: {}", status.message()),
            }
            tokio::time::sleep(Duration::from_millis(self.random.u64(200..900))).await;
        }
        Ok(format!("{handed} times{refused}"))
    }

    /// Has a member miss so much that it needs a snapshot, and kills it `cuts` times as it starts again.
    async fn miss(&mut self, cuts: u32) -> anyhow::Result<String> {
        let place = self.follower;
        self.members.kill(place)?;
        // What the others have now is no less than what it had.
        let told = statuses(self.field, &self.rest(place)).await;
        let had = told.iter().flatten().map(|status| status.raft_index).max();
        let had = had.context("no member tells its status")?;
        traffic::burst(self.field, self.rest(place), self.missed).await;
        self.purged(place, had).await?;
        for _ in 0..cuts {
            self.members.run(place)?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..1_500))).await;
            self.members.kill(place)?;
        }
        Ok(format!("member{place}, which missed {} writes", self.missed))
    }

    /// Waits until no member but that at `place` has entry `index` still, while clients go on: logs are purged
    /// at the checkpoint after the next.
    async fn purged(&self, place: usize, index: u64) -> anyhow::Result<()> {
        let started = Instant::now();
        let has = |place: &usize| self.members.purged(*place) <= index;
        while !self.members.are_original() && self.rest(place).iter().any(has) {
            anyhow::ensure!(
                started.elapsed() < PURGED_WITHIN,
                "entry {index} is still in a log after {PURGED_WITHIN:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn storm(&mut self) -> anyhow::Result<String> {
        let ends = Instant::now() + self.hold;
        let mut acts = 0;
        while Instant::now() < ends {
            let of = |places: Vec<usize>, random: &mut fastrand::Rng| {
                (!places.is_empty()).then(|| places[random.usize(..places.len())])
            };
            let running = of(self.members.that_are(State::Running), self.random);
            let paused = of(self.members.that_are(State::Paused), self.random);
            let down = of(self.members.that_are(State::Down), self.random);
            match (self.random.u8(..9), running, paused, down) {
                (0, Some(place), _, _) => self.members.kill(place)?,
                (1 | 2, _, _, Some(place)) => self.members.run(place)?,
                (3, Some(place), _, _) => self.members.pause(place)?,
                (4 | 5, _, Some(place), _) => self.members.go_on(place)?,
                (6 | 7, _, _, _) => {
                    let from = self.running[self.random.usize(..self.running.len())];
                    let to = self.running[self.random.usize(..self.running.len())];
                    if from != to {
                        self.members.network.cut(from, to)?;
                    }
                }
                (8, _, _, _) => self.members.network.heal()?,
                _ => continue,
            }
            acts += 1;
            tokio::time::sleep(Duration::from_millis(self.random.u64(20..500))).await;
        }
        Ok(format!("{acts} acts"))
    }
}
