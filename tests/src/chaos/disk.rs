//! A disk for each member: a file system in an image of its own, so that it can be slowed and filled alone.
//!
//! The image lies in memory where there is room, else in the temporary folder; it is sparse. Slowing is the
//! kernel's own throttle of block devices (cgroup v1 `blkio` or v2 `io`). Without root a disk is a plain
//! folder, and can be neither slowed nor filled.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::command::{has, run};

/// The size of a member's file system.
const SIZE: u64 = 1 << 30;

/// What is left free when a disk is filled.
const LEFT: u64 = 64 << 10;

/// Writes a second that a slowed disk does.
const SLOW_WRITES: u32 = 30;

/// The file that fills a disk.
const BALLAST: &str = "ballast";

/// A member's disk.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    image: Option<Image>,
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
    /// When it cannot be made though the process is root.
    pub fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        if !nix::unistd::geteuid().is_root() || !has("mkfs.ext4") {
            return Ok(Self { folder, image: None });
        }
        let process = std::process::id();
        let path = images().join(format!("capstan-chaos-{process}-{name}.img"));
        File::create(&path)?.set_len(SIZE)?;
        let mut disk = Self {
            folder,
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
                let group = root.join(format!("capstan-chaos-{process}-{name}"));
                fs::create_dir_all(&group).with_context(|| group.display().to_string())?;
                image.group = Some(group);
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

    /// Slows writes, or lets them run again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn slow(&self, slow: bool) -> anyhow::Result<()> {
        let (Some(image), Some((_, file))) = (&self.image, throttle()) else {
            return Ok(());
        };
        let Some(group) = &image.group else { return Ok(()) };
        let rate = match (file, slow) {
            ("io.max", true) => format!("{} wiops={SLOW_WRITES}", image.device),
            ("io.max", false) => format!("{} wiops=max", image.device),
            (_, true) => format!("{} {SLOW_WRITES}", image.device),
            (_, false) => format!("{} 0", image.device),
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
        let stat = nix::sys::statvfs::statvfs(&self.folder)?;
        let free = (stat.blocks_available() * stat.fragment_size()).saturating_sub(LEFT);
        nix::fcntl::posix_fallocate(&file, 0, i64::try_from(free)?).context("fill the disk")?;
        Ok(())
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
                let _ = fs::remove_dir(group);
            }
        }
    }
}

/// Removes the images of this process, mounted or not, after something went wrong.
pub fn remove_own() {
    let name = format!("capstan-chaos-{}-", std::process::id());
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let own = |line: &&str| line.contains(&format!("/capstan-chaos-{}/", std::process::id()));
    for line in mounts.lines().filter(own) {
        if let Some(folder) = line.split_whitespace().nth(1) {
            let _ = run("umount", &format!("-l {folder}"));
        }
    }
    for entry in fs::read_dir(images()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&name) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
