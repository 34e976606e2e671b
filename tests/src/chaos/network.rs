//! A network of the run's own: a namespace for each member and one for the clients, joined by a bridge in yet
//! another. Nothing of it is visible outside, and all of it goes with the value.
//!
//! Links are cut at the sender, one direction each: its neighbour entry for the receiver is made to point at
//! nobody, so that packets leave and never arrive, as on a broken wire; nothing is refused. Only `ip` is needed.
//! Where namespaces are not permitted, members listen on loopback addresses of their own and links cannot be cut.
//! Names carry the process; what a dead one left behind is removed by the next.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use super::command::run;

/// Names of all namespaces start with this, then the process, then the place.
const PREFIX: &str = "cchaos";

/// A hardware address that no interface has.
const NOBODY: &str = "02:00:00:00:ff:ff";

/// The most members that a network is made for.
pub const PLACES: usize = 8;

/// Where members live.
#[derive(Debug)]
pub struct Network {
    isolated: bool,
    /// Why it is not isolated.
    missing: String,
    cut: BTreeSet<(usize, usize)>,
}

fn namespace(place: &str) -> String {
    format!("{PREFIX}-{}-{place}", std::process::id())
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// A network with room for [`PLACES`] members.
    ///
    /// One of loopback addresses where namespaces cannot be made.
    pub fn new() -> Self {
        let mut network = Self {
            isolated: true,
            missing: String::new(),
            cut: BTreeSet::new(),
        };
        sweep();
        if let Err(error) = network.build() {
            remove_own();
            network.isolated = false;
            network.missing = format!("{error:#}");
        }
        network
    }

    /// Why members are not apart.
    pub fn missing(&self) -> &str {
        &self.missing
    }

    /// Whether members are apart, so that links can be cut.
    pub fn is_isolated(&self) -> bool {
        self.isolated
    }

    fn build(&self) -> anyhow::Result<()> {
        ensure!(nix::unistd::geteuid().is_root(), "only root makes namespaces");
        let switch = namespace("switch");
        run("ip", &format!("netns add {switch}"))?;
        run("ip", &format!("-n {switch} link add bridge type bridge"))?;
        run("ip", &format!("-n {switch} link set bridge up"))?;
        for place in 0..=PLACES {
            let own = self.namespace(place);
            run("ip", &format!("netns add {own}"))?;
            run(
                "ip",
                &format!("link add to{place} netns {switch} type veth peer name eth0 netns {own}"),
            )?;
            run("ip", &format!("-n {switch} link set to{place} master bridge up"))?;
            run(
                "ip",
                &format!("-n {own} address add {}/24 dev eth0", self.address(place)),
            )?;
            run("ip", &format!("-n {own} link set eth0 up"))?;
            run("ip", &format!("-n {own} link set lo up"))?;
        }
        // Whether threads may enter is known only by doing it.
        let entrance = self.entrance();
        let entered = std::thread::spawn(move || entrance.enter()).join();
        entered.unwrap_or_else(|_| Err(anyhow::anyhow!("the thread that tried panicked")))
    }

    /// The namespace of a member's place; the clients' is the one after the members'.
    fn namespace(&self, place: usize) -> String {
        namespace(&if place == PLACES {
            "clients".to_owned()
        } else {
            place.to_string()
        })
    }

    /// The address of a place.
    pub fn address(&self, place: usize) -> String {
        if self.isolated {
            format!("10.77.7.{}", place + 1)
        } else {
            let process = std::process::id();
            format!(
                "127.{}.{}.{}",
                100 + process % 100,
                process / 100 % 250,
                place + 1
            )
        }
    }

    /// `program` as run at `place`; the process is the program itself.
    pub fn command(&self, place: usize, program: &Path) -> Command {
        if self.isolated {
            let mut command = Command::new("ip");
            command
                .args(["netns", "exec", &self.namespace(place)])
                .arg(program);
            command
        } else {
            Command::new(program)
        }
    }

    /// The way into the clients' namespace, for threads.
    pub fn entrance(&self) -> Entrance {
        Entrance {
            namespace: self.isolated.then(|| self.namespace(PLACES)),
        }
    }

    /// Cuts the way from one member to another; the way back stays.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn cut(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        if self.isolated && self.cut.insert((from, to)) {
            let (own, address) = (self.namespace(from), self.address(to));
            run(
                "ip",
                &format!("-n {own} neigh replace {address} lladdr {NOBODY} dev eth0 nud permanent"),
            )?;
        }
        Ok(())
    }

    /// Cuts both ways between each member of one side and each of the other.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn part(&mut self, one: &[usize], other: &[usize]) -> anyhow::Result<()> {
        for &one in one {
            for &other in other {
                self.cut(one, other)?;
                self.cut(other, one)?;
            }
        }
        Ok(())
    }

    /// Joins everything again.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn heal(&mut self) -> anyhow::Result<()> {
        for (from, to) in std::mem::take(&mut self.cut) {
            let (own, address) = (self.namespace(from), self.address(to));
            run("ip", &format!("-n {own} neigh del {address} dev eth0"))?;
        }
        Ok(())
    }
}

/// The way to where the clients are.
#[derive(Debug, Clone)]
pub struct Entrance {
    namespace: Option<String>,
}

impl Entrance {
    /// Moves the calling thread there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> anyhow::Result<()> {
        if let Some(namespace) = &self.namespace {
            let path = Path::new("/run/netns").join(namespace);
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).context("setns")?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.isolated {
            remove_own();
        }
    }
}

/// Removes this process's namespaces with everything in them.
pub fn remove_own() {
    for place in (0..PLACES)
        .map(|place| place.to_string())
        .chain(["clients".to_owned(), "switch".to_owned()])
    {
        let name = namespace(&place);
        if Path::new("/run/netns").join(&name).exists() {
            remove(&name);
        }
    }
}

/// Ends what runs in a namespace that this program made, and removes it.
fn remove(name: &str) {
    for line in run("ip", &format!("netns pids {name}"))
        .unwrap_or_default()
        .lines()
    {
        // The clients' threads are this process's own.
        if let Ok(pid) = line.trim().parse::<i32>()
            && pid != std::process::id().cast_signed()
        {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    let _ = run("ip", &format!("netns delete {name}"));
}

/// Removes what runs that no longer live have left.
fn sweep() {
    let Ok(names) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for name in names
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1));
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            remove(&name);
        }
    }
}
