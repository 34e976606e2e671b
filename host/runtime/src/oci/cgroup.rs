//! A container's use of resources, read from its cgroup: version 1, 2, or a mixture.

use std::path::{Path, PathBuf};

use super::spec::cgroup_path;
use crate::ContainerStats;

const ROOT: &str = "/sys/fs/cgroup";

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
