//! Content-addressed blobs: `<root>/blobs/sha256/<hex>`, as in an OCI layout.
//!
//! A blob's name is its content's digest, checked while it is written; it appears whole or not at all.
//! Called by the image store alone.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use capstan_registry::digest_of;

use crate::{Error, Result, files};

/// Where blobs lie.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
}

fn name_of(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::from("sha256:"), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// The hexadecimal part of a well-formed `sha256:` digest; anything else is refused, for it becomes a file name.
pub(crate) fn hex_of(digest: &str) -> Result<&str> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
        .ok_or_else(|| {
            Error::image(
                "ErrImagePull",
                format!("digest \"{digest}\" is not sha256: and 64 hexadecimal digits"),
            )
        })
}

impl Blobs {
    /// Opens the folder.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let folder = root.join("blobs/sha256");
        files::create_private_dir(&folder)?;
        files::create_private_dir(&folder.join("incoming"))?;
        Ok(Self { folder })
    }

    /// Drops what an earlier process left half written; nobody may be writing.
    pub(crate) fn clear_incoming(&self) -> Result<()> {
        let incoming = self.folder.join("incoming");
        files::remove(&incoming)?;
        files::create_private_dir(&incoming)
    }

    /// Where the blob of that digest lies, or would.
    pub(crate) fn path(&self, digest: &str) -> Result<PathBuf> {
        Ok(self.folder.join(hex_of(digest)?))
    }

    /// A file of its own to receive a blob in, for [`Self::adopt`].
    pub(crate) fn incoming(&self) -> PathBuf {
        self.folder
            .join("incoming")
            .join(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Keeps some bytes; returns their digest.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<String> {
        let digest = digest_of(bytes);
        let path = self.path(&digest)?;
        if !path.exists() {
            files::write_atomically(&path, bytes, files::Survives::Power)?;
        }
        Ok(digest)
    }

    /// Keeps all that `content` gives; returns its digest and size.
    pub(crate) fn put_from(&self, content: &mut dyn Read) -> Result<(String, u64)> {
        let part = self.incoming();
        let copied = copy_hashing(content, &part);
        let (digest, size_bytes) = copied.map_err(Error::io("writing a blob"))?;
        fs::rename(&part, self.path(&digest)?).map_err(Error::io("writing a blob"))?;
        Ok((digest, size_bytes))
    }

    /// Keeps a received file whose digest is known and already checked.
    pub(crate) fn adopt(&self, part: &Path, digest: &str) -> Result<()> {
        fs::rename(part, self.path(digest)?).map_err(Error::io("writing a blob"))
    }

    /// Whether it is here.
    pub(crate) fn contains(&self, digest: &str) -> bool {
        self.path(digest).is_ok_and(|path| path.exists())
    }

    /// A blob's bytes, at most `bytes_max`, checked against the digest.
    pub(crate) fn read(&self, digest: &str, bytes_max: u64) -> Result<Vec<u8>> {
        let path = self.path(digest)?;
        let read = || {
            let file = File::open(&path)?;
            if file.metadata()?.len() > bytes_max {
                return Err(io::Error::other(format!("larger than {bytes_max} bytes")));
            }
            let mut bytes = Vec::new();
            file.take(bytes_max).read_to_end(&mut bytes)?;
            if digest_of(&bytes) != digest {
                return Err(io::Error::other(
                    "its content does not match its digest; remove the image and load it again",
                ));
            }
            Ok(bytes)
        };
        read().map_err(Error::io(format!("reading blob {digest}")))
    }

    /// Removes all blobs but those.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) -> Result<()> {
        let list = || {
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
                if entry.file_type()?.is_file() && !keep(&digest) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        list().map_err(Error::io("removing blobs"))
    }
}

fn copy_hashing(content: &mut dyn Read, path: &Path) -> io::Result<(String, u64)> {
    let mut file = File::create_new(path)?;
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = content.read(&mut buffer)?;
        if count == 0 {
            file.sync_data()?;
            return Ok((name_of(hash.finalize().as_slice()), size_bytes));
        }
        file.write_all(&buffer[..count])?;
        hash.update(&buffer[..count]);
        size_bytes += count as u64;
    }
}
