//! What the machine has: processors, memory, disk, names. Read from `/proc`, `/sys` and `statvfs`; the
//! parsers are pure.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::error::{Error, Result};

/// Facts that do not change while the kubelet runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) processors: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) kernel_version: String,
    pub(crate) os_image: String,
    pub(crate) machine_id: String,
    pub(crate) system_uuid: String,
    pub(crate) boot_id: String,
}

impl Machine {
    /// Reads them; `root` is on the file system that pods use.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let text = |path: &str| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let memory = memory(&text("/proc/meminfo")).ok_or_else(|| Error::Machine {
            what: "MemTotal of /proc/meminfo",
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        let machine_id = text("/etc/machine-id");
        let uuid = text("/sys/class/dmi/id/product_uuid");
        Ok(Self {
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: memory.total_bytes,
            disk_bytes: Disk::of(root)?.total_bytes,
            kernel_version: text("/proc/sys/kernel/osrelease"),
            os_image: os_image(&text("/etc/os-release")),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: text("/proc/sys/kernel/random/boot_id"),
        })
    }
}

/// The architecture as Kubernetes names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

fn os_image(release: &str) -> String {
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// Memory as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
}

/// From the text of `/proc/meminfo`.
pub(crate) fn memory(text: &str) -> Option<MemoryUse> {
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    };
    Some(MemoryUse {
        total_bytes: value("MemTotal")?,
        available_bytes: value("MemAvailable")?,
    })
}

/// The file system under a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) total_bytes: u64,
    pub(crate) available_bytes: u64,
    pub(crate) total_inodes: u64,
    pub(crate) available_inodes: u64,
}

impl Disk {
    /// Asks the kernel.
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let stat = statvfs(folder).map_err(|errno| Error::Machine {
            what: "the data folder's file system",
            source: errno.into(),
        })?;
        let block = stat.fragment_size();
        Ok(Self {
            total_bytes: stat.blocks() * block,
            available_bytes: stat.blocks_available() * block,
            total_inodes: stat.files(),
            available_inodes: stat.files_available(),
        })
    }
}

/// Tasks in use and the most there may be, from `/proc/loadavg` and `/proc/sys/kernel/pid_max`; with the
/// load of the last minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tasks {
    pub(crate) used: u64,
    pub(crate) maximum: u64,
    pub(crate) load_1m: f64,
}

/// From the texts of the two files.
pub(crate) fn tasks(loadavg: &str, pid_max: &str) -> Option<Tasks> {
    let mut fields = loadavg.split_whitespace();
    let load_1m = fields.next()?.parse().ok()?;
    let (_, used) = fields.nth(2)?.split_once('/')?;
    Some(Tasks {
        used: used.parse().ok()?,
        maximum: pid_max.trim().parse().ok()?,
        load_1m,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_understood() {
        let text = "MemTotal:        8039916 kB\nMemFree:  1 kB\nMemAvailable:    5120000 kB\n";
        let expected = MemoryUse {
            total_bytes: 8_039_916 * 1024,
            available_bytes: 5_120_000 * 1024,
        };
        assert_eq!(memory(text), Some(expected));
        assert_eq!(memory("MemTotal: x kB"), None);
        let expected = Tasks {
            used: 321,
            maximum: 32768,
            load_1m: 0.5,
        };
        assert_eq!(tasks("0.50 0.40 0.30 2/321 4242\n", "32768\n"), Some(expected));
        assert_eq!(
            os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
            "Debian GNU/Linux 12"
        );
    }
}
