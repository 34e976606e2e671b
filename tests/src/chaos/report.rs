//! A line for each fault, and a table at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::faults::{Fault, Who};
use super::field::Pulse;

/// What a fault did.
#[derive(Debug)]
pub struct Line {
    /// Which.
    pub fault: Fault,
    /// Whom it met.
    pub said: String,
    /// When, since the run began.
    pub at: Duration,
    /// How long it took with the recovery.
    pub took: Duration,
    /// From its end until all members were whole.
    pub recovered: Duration,
    /// How answers came meanwhile.
    pub pulse: Pulse,
    /// By how much the term rose.
    pub terms: u64,
    /// Snapshots that members were sent.
    pub snapshots: usize,
}

/// A fault in words.
pub fn name(fault: Fault) -> &'static str {
    use Who::{Follower, Leader};
    match fault {
        Fault::Calm => "calm",
        Fault::Kill(Leader) => "kill -9 the leader",
        Fault::Kill(Follower) => "kill -9 a follower",
        Fault::KillQuorum => "kill -9 a quorum",
        Fault::KillAll => "kill -9 all",
        Fault::Restart => "restart one after the other",
        Fault::Pause(Leader) => "pause the leader",
        Fault::Pause(Follower) => "pause a follower",
        Fault::PauseAll => "pause all",
        Fault::Isolate(Leader) => "cut off the leader",
        Fault::Isolate(Follower) => "cut off a follower",
        Fault::FromLeader => "cut the ways from the leader",
        Fault::ToLeader => "cut the ways to the leader",
        Fault::Split => "split, the leader with the fewer",
        Fault::Shatter => "cut off everyone",
        Fault::Bridge => "only one reaches all",
        Fault::Flapping(Leader) => "flap the leader",
        Fault::Flapping(Follower) => "flap a follower",
        Fault::KillIsolated => "cut off the leader and kill it",
        Fault::SlowDisk(Leader) => "slow disk of the leader",
        Fault::SlowDisk(Follower) => "slow disk of a follower",
        Fault::SlowDisks => "slow disk of all",
        Fault::FullDisk(Leader) => "full disk of the leader",
        Fault::FullDisk(Follower) => "full disk of a follower",
        Fault::FullDisks => "full disk of all",
        Fault::Transfer => "hand leadership on",
        Fault::Swap(Leader) => "swap the leader for a new member",
        Fault::Swap(Follower) => "swap a follower for a new member",
        Fault::Wiped => "remove, wipe and add a member",
        Fault::LongStop => "stop a follower for long",
        Fault::SnapshotCut => "kill a follower in its snapshot",
        Fault::Storm => "storm",
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pulse {
            longest,
            answered,
            unknown,
            refused,
            ..
        } = self.pulse;
        let met = if self.said.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.said)
        };
        write!(
            f,
            "{:4.0} s  {}{met}: {:.1} s; {answered} answered, {unknown} unknown, {refused} refused; longest silence \
             {:.1} s; whole again after {:.1} s; {} terms, {} snapshots",
            self.at.as_secs_f64(),
            name(self.fault),
            self.took.as_secs_f64(),
            longest.as_secs_f64(),
            self.recovered.as_secs_f64(),
            self.terms,
            self.snapshots,
        )
    }
}

/// All faults and all counts as a table.
pub fn table(lines: &[Line], counts: &[(&'static str, usize)]) -> String {
    let mut faults: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        faults.entry(name(line.fault)).or_default().push(line);
    }
    let mut table = String::from(
        "| fault | times | answered | unknown | longest silence | longest recovery | terms | snapshots |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (name, lines) in faults {
        let sum = |of: fn(&Line) -> usize| lines.iter().map(|line| of(line)).sum::<usize>();
        let longest = |of: fn(&Line) -> Duration| {
            let longest = lines.iter().map(|line| of(line)).max().unwrap_or_default();
            format!("{:.1} s", longest.as_secs_f64())
        };
        table += &format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |\n",
            lines.len(),
            sum(|line| line.pulse.answered),
            sum(|line| line.pulse.unknown),
            longest(|line| line.pulse.longest),
            longest(|line| line.recovered),
            lines.iter().map(|line| line.terms).sum::<u64>(),
            sum(|line| line.snapshots),
        );
    }
    table += "\n| checked | count |\n| --- | --- |\n";
    for (what, count) in counts {
        table += &format!("| {what} | {count} |\n");
    }
    table
}
