//! A model of power loss for tests: of a database, what its files held at their syncs survives, and of what was
//! written since, any part or none.
//!
//! Switched on by a file in the database's folder. Then each part of a file that is synced is also written to a
//! shadow of it, and after a power loss the shadow is what there is.

use std::fs::{self, File};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

const SWITCH: &str = "power-loss-model";
const SHADOW: &str = "shadow";
const WRITTEN: &str = "written";
/// What a file system writes by itself at a time.
const BLOCK_BYTES: usize = 4096;

/// Held while a shadow is written: its length is that of the file, which others change meanwhile.
static CUTTING: Mutex<()> = Mutex::new(());

/// Switches the model on for a database that is opened later.
pub(crate) fn watch(directory: &Path) {
    fs::create_dir_all(directory.join(SHADOW)).unwrap();
    fs::write(directory.join(SWITCH), "").unwrap();
}

/// The power goes, for all of these databases at once. They go on, and nobody learns what they do. Meanwhile no sync
/// ends: so what is written to their files now is what has been written and not synced.
pub(crate) fn cut(directories: &[&Path]) {
    let _cutting = CUTTING.lock().unwrap();
    for directory in directories {
        fs::create_dir_all(directory.join(WRITTEN)).unwrap();
        copy_data(directory, &directory.join(WRITTEN));
    }
    for directory in directories {
        fs::remove_file(directory.join(SWITCH)).unwrap();
    }
}

fn copy_data(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "db" || name.ends_with(".segment") {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn in_model(directory: &Path, work: impl FnOnce()) {
    if !directory.join(SWITCH).exists() {
        return;
    }
    let _cutting = CUTTING.lock().unwrap();
    if directory.join(SWITCH).exists() {
        work();
    }
}

/// Called when a part of an open file is on disk.
pub(super) fn wrote_by(file: RawFd, at: i64, bytes: i64) {
    let path = fs::read_link(format!("/proc/self/fd/{file}")).unwrap();
    let (directory, at) = (path.parent().unwrap(), u64::try_from(at).unwrap());
    in_model(directory, || {
        let mut part = vec![0; usize::try_from(bytes).unwrap()];
        // sled may have cut it off meanwhile.
        if File::open(&path).unwrap().read_exact_at(&mut part, at).is_ok() {
            shadow(directory, &path, at, &part);
        }
    });
}

/// Called when a database was opened: all of its files are on disk.
pub(super) fn opened(directory: &Path) {
    in_model(directory, || copy_data(directory, &directory.join(SHADOW)));
}

/// Called when a part of a segment of the plain log is on disk.
pub(super) fn wrote(directory: &Path, path: &Path, at: u64, bytes: &[u8]) {
    in_model(directory, || shadow(directory, path, at, bytes));
}

fn shadow(directory: &Path, path: &Path, at: u64, bytes: &[u8]) {
    let shadow = directory.join(SHADOW).join(path.file_name().unwrap());
    let mut options = File::options();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(shadow)
        .unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.set_len(fs::metadata(path).unwrap().len()).unwrap();
}

/// Called when a segment of the plain log is gone.
pub(super) fn removed(directory: &Path, path: &Path) {
    in_model(directory, || {
        let _ = fs::remove_file(directory.join(SHADOW).join(path.file_name().unwrap()));
    });
}

/// Copies a database as it is after the power came back. Of the blocks that were written and not synced, so many
/// of a hundred are there too.
pub(crate) fn survive(from: &Path, to: &Path, unsynced_percent: u32, random: &mut fastrand::Rng) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from.join(SHADOW)).unwrap() {
        let shadow = entry.unwrap().path();
        let (now, to) = (
            from.join(WRITTEN).join(shadow.file_name().unwrap()),
            to.join(shadow.file_name().unwrap()),
        );
        fs::copy(&shadow, &to).unwrap();
        if unsynced_percent > 0 && now.exists() {
            mix_in(&fs::read(now).unwrap(), &to, unsynced_percent, random);
        }
    }
    // sled's own; it syncs them.
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "conf" || (name.starts_with("snap.") && !name.ends_with(".generating")) {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
    if to.join("conf").exists() {
        fs::create_dir_all(to.join("blobs")).unwrap();
    }
}

fn mix_in(now: &[u8], to: &Path, percent: u32, random: &mut fastrand::Rng) {
    let file = File::options().read(true).write(true).open(to).unwrap();
    let synced = fs::read(to).unwrap();
    for (at, block) in now.chunks(BLOCK_BYTES).enumerate() {
        let at = at * BLOCK_BYTES;
        let before = synced.get(at..(at + block.len()).min(synced.len()));
        if before != Some(block) && random.u32(..100) < percent {
            file.write_all_at(block, at as u64).unwrap();
        }
    }
}
