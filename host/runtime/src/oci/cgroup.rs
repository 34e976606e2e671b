//! A container's use of resources, read from its cgroup: version 1, 2, or a mixture.

use std::path::{Path, PathBuf};

use super::spec::cgroup_path;
use crate::{ContainerStats, Error, LinuxContainerResources, Result};

const ROOT: &str = "/sys/fs/cgroup";
/// The kernel's own period, for containers without a quota.
const CPU_PERIOD_US: i64 = 100_000;

/// CPU time and memory in use; 0 where the kernel does not say.
pub(crate) fn stats(id: &str) -> ContainerStats {
    let cpu_usage_ns = number(&file(id, "cpuacct", "cpuacct.usage"))
        .or_else(|| field(&file(id, "", "cpu.stat"), "usage_usec").map(|usec| usec.saturating_mul(1000)));
    let memory_bytes = number(&file(id, "memory", "memory.usage_in_bytes"))
        .or_else(|| number(&file(id, "", "memory.current")));
    ContainerStats {
        id: id.to_owned(),
        cpu_usage_ns: cpu_usage_ns.unwrap_or(0),
        memory_bytes: memory_bytes.unwrap_or(0),
    }
}

/// Whether the kernel killed something in the container for want of memory.
pub(crate) fn ran_out_of_memory(id: &str) -> bool {
    let kills = field(&file(id, "memory", "memory.oom_control"), "oom_kill")
        .or_else(|| field(&file(id, "", "memory.events"), "oom_kill"));
    kills.is_some_and(|count| count > 0)
}

/// The weight that cgroup version 2 has for version 1's shares, as runc converts them.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Writes new limits: version 1's files where they are, else version 2's. Memory below what is in use is
/// refused by the kernel (version 1), and said so.
pub(crate) fn update(id: &str, new: &LinuxContainerResources) -> Result<()> {
    let is_limited = new.cpu_quota_us > 0 && new.cpu_period_us > 0;
    let quota = if is_limited { new.cpu_quota_us } else { -1 };
    let period = if is_limited {
        new.cpu_period_us
    } else {
        CPU_PERIOD_US
    };
    let memory = if new.memory_limit_bytes > 0 {
        new.memory_limit_bytes
    } else {
        -1
    };
    if file(id, "cpu", "cpu.cfs_quota_us").exists() {
        write(&file(id, "cpu", "cpu.cfs_period_us"), &period.to_string())?;
        write(&file(id, "cpu", "cpu.cfs_quota_us"), &quota.to_string())?;
        if new.cpu_shares > 0 {
            write(&file(id, "cpu", "cpu.shares"), &new.cpu_shares.to_string())?;
        }
    } else if file(id, "", "cpu.max").exists() {
        let most = if is_limited {
            quota.to_string()
        } else {
            "max".into()
        };
        write(&file(id, "", "cpu.max"), &format!("{most} {period}"))?;
        if new.cpu_shares > 0 {
            write(&file(id, "", "cpu.weight"), &weight(new.cpu_shares).to_string())?;
        }
    }
    if file(id, "memory", "memory.limit_in_bytes").exists() {
        write(&file(id, "memory", "memory.limit_in_bytes"), &memory.to_string())?;
    } else if file(id, "", "memory.max").exists() {
        let most = if memory > 0 {
            memory.to_string()
        } else {
            "max".into()
        };
        write(&file(id, "", "memory.max"), &most)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(Error::io(format!("setting {} to {text}", path.display())))
}

fn file(id: &str, controller: &str, name: &str) -> PathBuf {
    Path::new(ROOT)
        .join(controller)
        .join(cgroup_path(id).trim_start_matches('/'))
        .join(name)
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after a name in a file of `name number` lines.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line?.trim().parse().ok()
}
