//! A disk for each member: a file system in an image of its own, so that it can be slowed and filled alone.
//!
//! The image lies in memory where there is room, else in the temporary folder; it is sparse. Slowing is the
//! kernel's own throttle of block devices (cgroup v1 `blkio` or v2 `io`). Where mounting is not permitted a
//! disk is a plain folder, and can be neither slowed nor filled. Names carry the process; what a dead one left
//! behind is removed by the next.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};

use super::command::run;

/// The size of a member's file system.
const SIZE: u64 = 1 << 30;

/// What is left free when a disk is filled.
const LEFT: u64 = 64 << 10;

/// How often, and after how long, a group is tried again that still has a process.
const GROUP_TRIES: u32 = 50;
const GROUP_PAUSE: Duration = Duration::from_millis(20);

/// How often the room is measured anew.
const FILL_TRIES: usize = 20;
/// The file that fills a disk.
const BALLAST: &str = "ballast";

/// All images, groups and folders of runs are named so, followed by the process.
const PREFIX: &str = "capstan-chaos-";

/// What a run keeps in its folder when a promise was broken.
pub const HISTORY: &str = "history.jsonl";

/// How quickly a disk takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// As quickly as it can.
    Full,
    /// A little slower.
    Slowish,
    /// Slow.
    Slow,
    /// So slow that one sync takes about a second.
    Crawling,
}

impl Speed {
    /// Writes a second; 0 for no bound.
    fn writes(self) -> u32 {
        match self {
            Self::Full => 0,
            Self::Slowish => 60,
            Self::Slow => 20,
            Self::Crawling => 5,
        }
    }
}

/// A member's disk.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    image: Option<Image>,
    /// Why it is only a folder.
    missing: String,
}

#[derive(Debug)]
struct Image {
    path: PathBuf,
    /// `major:minor` of its loop device.
    device: String,
    group: Option<PathBuf>,
}

/// Where the kernel throttles block devices, and the file that says how much.
fn throttle() -> Option<(PathBuf, &'static str)> {
    let old = Path::new("/sys/fs/cgroup/blkio");
    if old.join("blkio.throttle.write_iops_device").exists() {
        return Some((old.to_path_buf(), "blkio.throttle.write_iops_device"));
    }
    let new = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_to_string(new.join("cgroup.controllers")).ok()?;
    controllers.split_whitespace().find(|name| *name == "io")?;
    fs::write(new.join("cgroup.subtree_control"), "+io").ok()?;
    Some((new.to_path_buf(), "io.max"))
}

/// Where images are made.
fn images() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room =
        nix::sys::statvfs::statvfs(memory).map_or(0, |stat| stat.blocks_available() * stat.fragment_size());
    if room > 8 * SIZE {
        memory.to_path_buf()
    } else {
        std::env::temp_dir()
    }
}

impl Disk {
    /// A disk under `folder`, which the run owns; `name` is unique in it.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let missing = match Self::image(folder.clone(), name) {
            Ok(disk) => return Ok(disk),
            Err(error) => format!("{error:#}"),
        };
        Ok(Self {
            folder,
            image: None,
            missing,
        })
    }

    fn image(folder: PathBuf, name: &str) -> anyhow::Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "only root mounts");
        let process = std::process::id();
        let path = images().join(format!("{PREFIX}{process}-{name}.img"));
        File::create(&path)?.set_len(SIZE)?;
        let mut disk = Self {
            folder,
            missing: String::new(),
            image: Some(Image {
                path: path.clone(),
                device: String::new(),
                group: None,
            }),
        };
        run(
            "mkfs.ext4",
            &format!("-q -m 0 -F -E lazy_itable_init=1 {}", path.display()),
        )?;
        run(
            "mount",
            &format!("-o loop,discard {} {}", path.display(), disk.folder.display()),
        )?;
        let device = nix::sys::stat::stat(&disk.folder)?.st_dev;
        if let Some(image) = &mut disk.image {
            image.device = format!(
                "{}:{}",
                nix::sys::stat::major(device),
                nix::sys::stat::minor(device)
            );
            if let Some((root, _)) = throttle() {
                let group = root.join(format!("{PREFIX}{process}-{name}"));
                match fs::create_dir_all(&group) {
                    Ok(()) => image.group = Some(group),
                    Err(error) => disk.missing = format!("{}: {error}", group.display()),
                }
            } else {
                disk.missing = "there is no throttle of a cgroup, blkio or io".to_owned();
            }
        }
        Ok(disk)
    }

    /// Where a member keeps its data.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Whether it can be filled.
    pub fn can_fill(&self) -> bool {
        self.image.is_some()
    }

    /// Whether it can be slowed.
    pub fn can_slow(&self) -> bool {
        self.image.as_ref().is_some_and(|image| image.group.is_some())
    }

    /// Why it cannot be filled or slowed.
    pub fn missing(&self) -> &str {
        &self.missing
    }

    /// Puts a member's process under this disk's throttle.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn adopt(&self, process: u32) -> anyhow::Result<()> {
        if let Some(group) = self.image.as_ref().and_then(|image| image.group.as_ref()) {
            fs::write(group.join("cgroup.procs"), process.to_string())?;
        }
        Ok(())
    }

    /// Slows writes, or lets them run again. It holds for the processes that were put under the throttle.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_speed(&self, speed: Speed) -> anyhow::Result<()> {
        let (Some(image), Some((_, file))) = (&self.image, throttle()) else {
            return Ok(());
        };
        let Some(group) = &image.group else { return Ok(()) };
        let rate = match (file, speed.writes()) {
            ("io.max", 0) => format!("{} wiops=max", image.device),
            ("io.max", writes) => format!("{} wiops={writes}", image.device),
            (_, writes) => format!("{} {writes}", image.device),
        };
        Ok(fs::write(group.join(file), rate)?)
    }

    /// Fills the disk, or frees it again.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn fill(&self, full: bool) -> anyhow::Result<()> {
        let path = self.folder.join(BALLAST);
        if !full {
            return Ok(fs::remove_file(path)?);
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(path)?;
        for _ in 0..FILL_TRIES {
            let stat = nix::sys::statvfs::statvfs(&self.folder)?;
            let free = (stat.blocks_available() * stat.fragment_size()).saturating_sub(LEFT);
            match nix::fcntl::posix_fallocate(&file, 0, i64::try_from(free)?) {
                // The member, which runs, took some of it meanwhile.
                Err(nix::errno::Errno::ENOSPC) => file.set_len(0)?,
                filled => return filled.context("fill the disk"),
            }
        }
        anyhow::bail!("the disk's room changes faster than it can be filled")
    }

    /// Removes everything a member had.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn wipe(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(self.data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(image) = &self.image {
            let _ = run("umount", &format!("-l {}", self.folder.display()));
            let _ = fs::remove_file(&image.path);
            if let Some(group) = &image.group {
                remove_group(group);
            }
        }
    }
}

/// A group goes once its last process has; one that was just killed may be a moment from it.
fn remove_group(group: &Path) {
    for _ in 0..GROUP_TRIES {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(GROUP_PAUSE);
            }
            _ => return,
        }
    }
}

/// Removes the disks of this process, after something went wrong. Its members must have ended.
pub fn remove_own() {
    remove(std::process::id());
}

/// Removes what runs that no longer live have left, but what one kept of a broken promise.
pub fn sweep() {
    let entries = [images(), std::env::temp_dir()]
        .into_iter()
        .filter_map(|folder| fs::read_dir(folder).ok());
    let mut dead: Vec<u32> = entries
        .flat_map(Iterator::flatten)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
        })
        .filter(|process: &u32| !Path::new("/proc").join(process.to_string()).exists())
        .collect();
    dead.sort_unstable();
    dead.dedup();
    for process in dead {
        remove(process);
        let folder = folder(process);
        if !folder.join(HISTORY).exists() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// Where the run of a process has its disks and its members' output.
pub fn folder(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{process}"))
}

/// Removes the mounts, images and groups of a process.
fn remove(process: u32) {
    let own = format!("{PREFIX}{process}");
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for line in mounts.lines().filter(|line| line.contains(&format!("/{own}/"))) {
        if let Some(folder) = line.split_whitespace().nth(1) {
            let _ = run("umount", &format!("-l {folder}"));
        }
    }
    let groups = throttle().map(|(root, _)| root);
    for folder in [Some(images()), groups].into_iter().flatten() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry
                .file_name()
                .to_string_lossy()
                .starts_with(&format!("{own}-"))
            {
                continue;
            }
            if entry.path().is_dir() {
                remove_group(&entry.path());
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
