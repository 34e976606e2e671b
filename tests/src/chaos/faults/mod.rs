//! What is done to members while clients go on. Each fault holds for a time and is undone by its end or by
//! [`recover`]; which member it meets is by role, so that leaders are met as often as followers.

mod inflict;
mod membership;
mod recovery;

use super::members::Members;

pub use inflict::inflict;
pub use recovery::{RECOVERY_MAX, recover, statuses};

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
    /// Each is asked to end and started again, one after the other.
    Restart,
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
    /// The leader and a minority on one side, the others on the other.
    Split,
    /// Nobody reaches anybody.
    Shatter,
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
    /// The same, and it is killed while it gets the snapshot.
    SnapshotCut,
    /// Kills, pauses, and cuts of anyone, many a second, whatever is left of a majority.
    Storm,
}

impl Fault {
    /// Those that make sense for so many members and on this machine.
    pub fn all(members: &Members) -> Vec<Self> {
        use Fault::*;
        use Who::*;
        let many = members.present().len() > 1;
        let mut faults = vec![Calm, Kill(Leader), Pause(Leader), Restart];
        if many {
            faults.extend([
                Kill(Follower),
                Pause(Follower),
                KillQuorum,
                KillAll,
                PauseAll,
                Transfer,
            ]);
            faults.extend([Swap(Leader), Swap(Follower), Wiped, LongStop, SnapshotCut, Storm]);
            if members.network.is_isolated() {
                faults.extend([Isolate(Leader), Isolate(Follower), FromLeader, ToLeader, Bridge]);
                faults.extend([Flapping(Leader), Flapping(Follower), KillIsolated, Shatter]);
                // Of three a minority is one: that is the leader cut off.
                faults.extend((members.present().len() > 3).then_some(Split));
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
        !matches!(
            self,
            KillQuorum | KillAll | PauseAll | Shatter | Storm | SlowDisks | FullDisks
        )
    }
}
