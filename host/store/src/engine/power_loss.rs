//! A model of power loss for tests: of a database, only what its data file held at its last sync survives.
//!
//! Switched on by a file in the database's folder; then each sync leaves a copy beside the data file.

use std::fs;
use std::path::Path;

const SWITCH: &str = "power-loss-model";
const SURVIVES: &str = "survives-power-loss";

/// Switches the model on for a database that is opened later.
pub(crate) fn watch(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(SWITCH), "").unwrap();
}

/// Called after each sync.
pub(super) fn synced(directory: &Path) {
    if directory.join(SWITCH).exists() {
        let part = directory.join("copying");
        fs::copy(directory.join("db"), &part).unwrap();
        fs::rename(part, directory.join(SURVIVES)).unwrap();
    }
}

/// Copies a database as it would be after the power came back.
pub(crate) fn survive(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blobs")).unwrap();
    fs::copy(from.join("conf"), to.join("conf")).unwrap();
    fs::copy(from.join(SURVIVES), to.join("db")).unwrap();
}
