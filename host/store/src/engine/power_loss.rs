//! A model of power loss for tests: of a database, only what its files held at their last sync survives.
//!
//! Switched on by a file in the database's folder. Then each sync of sled leaves a copy beside its data file,
//! and each of the plain log writes the same to a shadow of its segments.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SWITCH: &str = "power-loss-model";
const SURVIVES: &str = "survives-power-loss";
const SHADOW: &str = "shadow";

/// Switches the model on for a database that is opened later.
pub(crate) fn watch(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(SWITCH), "").unwrap();
}

/// Called after each sync of sled.
pub(super) fn synced(directory: &Path) {
    if directory.join(SWITCH).exists() {
        let part = directory.join("copying");
        fs::copy(directory.join("db"), &part).unwrap();
        fs::rename(part, directory.join(SURVIVES)).unwrap();
    }
}

/// Called when a part of a segment of the plain log is on disk.
pub(super) fn wrote(directory: &Path, path: &Path, at: u64, bytes: &[u8]) {
    if directory.join(SWITCH).exists() {
        fs::create_dir_all(directory.join(SHADOW)).unwrap();
        let shadow = directory.join(SHADOW).join(path.file_name().unwrap());
        let mut options = fs::File::options();
        let file = options.write(true).create(true).truncate(at == 0).open(shadow);
        let file = file.unwrap();
        file.write_all_at(bytes, at).unwrap();
        file.set_len(fs::metadata(path).unwrap().len()).unwrap();
    }
}

/// Called when a segment of the plain log is gone.
pub(super) fn removed(directory: &Path, path: &Path) {
    let _ = fs::remove_file(directory.join(SHADOW).join(path.file_name().unwrap()));
}

/// Copies a database as it would be after the power came back.
pub(crate) fn survive(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    if from.join(SHADOW).exists() {
        for entry in fs::read_dir(from.join(SHADOW)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        return;
    }
    fs::create_dir_all(to.join("blobs")).unwrap();
    fs::copy(from.join("conf"), to.join("conf")).unwrap();
    fs::copy(from.join(SURVIVES), to.join("db")).unwrap();
}
