//! Who a restored member is to be: what `restore` was told of the new cluster, kept in the data folder until
//! the member's first start, which is held to it.
//!
//! Written where the flags of a restore said anything of the cluster; without them the first start decides, as
//! it does in an empty folder. Read by the flags ([`crate::flags`]).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BackupError, RestoreOptions};

/// The file in the data folder.
const FILE: &str = "RESTORED";

/// A founder of the cluster that a backup was restored for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Founder {
    pub(crate) name: String,
    pub(crate) token: String,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) initial_cluster: Vec<(String, Vec<String>)>,
}

impl Founder {
    /// What the options say; none where they are those of a restore without flags.
    pub(super) fn of(options: &RestoreOptions) -> Option<Self> {
        let of = |options: &RestoreOptions| Self {
            name: options.name.clone(),
            token: options.token.clone(),
            peer_urls: options.peer_urls.clone(),
            initial_cluster: options.initial_cluster.clone(),
        };
        let founder = of(options);
        (founder != of(&RestoreOptions::new(&options.data_dir))).then_some(founder)
    }

    /// Writes it into a folder that is being made.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut file = File::create(dir.join(FILE))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()
    }

    /// Of this data folder, if it was restored for a cluster.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, BackupError> {
        let path = dir.join(FILE);
        let founder = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            // A file in the folder's place is the store's to complain of.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        founder
            .map(Some)
            .map_err(|source| BackupError::Read { path, source })
    }
}
