//! Layers to folders: tar entries, whiteouts, and paths that never leave the folder.
//!
//! Layers are merged into one folder, lowest first. Names and links come from strangers: every path is
//! resolved as if the folder were `/`. Owners and device nodes are kept where this process is root. Extended
//! attributes (file capabilities) are not kept.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use flate2::read::MultiGzDecoder;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tar::{Archive, Entry, EntryType};

use super::blobs::Blobs;
use crate::{Error, Result, files};

/// Links followed in one path, as Linux does.
const LINKS_MAX: usize = 40;
/// An image that unpacks to more is refused.
const UNPACKED_BYTES_MAX: u64 = 32 << 30;
/// A layer with more entries is refused.
const ENTRIES_MAX: usize = 1 << 20;
/// Ends the name of a folder that is being unpacked into.
const PART: &str = "part";
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Unpacks an image's layers into `target`, which appears whole or not at all.
pub(crate) fn unpack(blobs: &Blobs, layers: &[(String, String)], target: &Path) -> Result<()> {
    let part = target.with_extension(format!("{}.{PART}", uuid::Uuid::new_v4().simple()));
    let unpacked = unpack_into(blobs, layers, &part, target);
    if unpacked.is_err() {
        files::remove(&part)?;
        // Another node on the same store may have been faster.
        return if target.exists() { Ok(()) } else { unpacked };
    }
    Ok(())
}

fn unpack_into(blobs: &Blobs, layers: &[(String, String)], part: &Path, target: &Path) -> Result<()> {
    files::create_private_dir(part)?;
    for (digest, _) in layers {
        let context = || format!("unpacking layer {digest}");
        let file = File::open(blobs.path(digest)?).map_err(Error::io(context()))?;
        extract(file, part).map_err(Error::io(context()))?;
    }
    let open = fs::set_permissions(part, fs::Permissions::from_mode(0o755));
    open.and_then(|()| fs::rename(part, target))
        .map_err(Error::io("unpacking the image"))
}

/// Removes what was left half unpacked in a folder of unpacked images.
pub(crate) fn clear_parts(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == PART) {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Extracts a tar, gzipped or not, over what `root` already holds.
pub(crate) fn extract(file: File, root: &Path) -> io::Result<()> {
    let mut start = Vec::new();
    let mut file = BufReader::new(file);
    file.by_ref().take(4).read_to_end(&mut start)?;
    let whole = io::Cursor::new(start.clone()).chain(file);
    if start.starts_with(ZSTD_MAGIC) {
        return Err(io::Error::other(
            "zstd compression is not supported; use gzip or none",
        ));
    }
    if start.starts_with(GZIP_MAGIC) {
        return extract_tar(MultiGzDecoder::new(whole), root);
    }
    extract_tar(whole, root)
}

fn extract_tar(content: impl Read, root: &Path) -> io::Result<()> {
    let is_root = nix::unistd::geteuid().is_root();
    let mut layer = Layer {
        root,
        is_root,
        placed: HashSet::new(),
    };
    let mut archive = Archive::new(content.take(UNPACKED_BYTES_MAX));
    for (count, entry) in archive.entries()?.enumerate() {
        if count == ENTRIES_MAX {
            return Err(io::Error::other(format!("more than {ENTRIES_MAX} entries")));
        }
        layer.place(&mut entry?)?;
    }
    Ok(())
}

/// One layer on its way into the folder.
struct Layer<'a> {
    root: &'a Path,
    is_root: bool,
    /// What this layer brought, which its own whiteouts spare.
    placed: HashSet<PathBuf>,
}

impl Layer<'_> {
    fn place(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let path = relative(&entry.path()?)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            return Ok(());
        };
        let folder = resolve_in(self.root, path.parent().unwrap_or(Path::new("")))?;
        fs::create_dir_all(&folder)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
            return self.white_out(&folder, hidden);
        }
        let target = folder.join(name);
        let kind = entry.header().entry_type();
        match fs::symlink_metadata(&target) {
            Ok(present) if present.is_dir() && kind.is_dir() => {}
            Ok(present) if present.is_dir() => fs::remove_dir_all(&target)?,
            Ok(_) => fs::remove_file(&target)?,
            Err(_) => {}
        }
        if self.create(entry, kind, &target)? {
            self.finish(entry, kind, &target)?;
            self.placed.insert(target);
        }
        Ok(())
    }

    /// Removes what lower layers had: one name, or with an opaque mark all of a folder.
    fn white_out(&self, folder: &Path, hidden: &[u8]) -> io::Result<()> {
        let victims = if hidden == b".wh..opq" {
            fs::read_dir(folder)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()?
        } else {
            let name = relative(Path::new(OsStr::from_bytes(hidden)))?;
            vec![
                folder.join(
                    name.file_name()
                        .ok_or_else(|| io::Error::other("a whiteout of nothing"))?,
                ),
            ]
        };
        for victim in victims.iter().filter(|victim| !self.placed.contains(*victim)) {
            match fs::symlink_metadata(victim) {
                Ok(present) if present.is_dir() => fs::remove_dir_all(victim)?,
                Ok(_) => fs::remove_file(victim)?,
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Makes the entry; false for those that a folder cannot or need not have.
    fn create(&self, entry: &mut Entry<'_, impl Read>, kind: EntryType, target: &Path) -> io::Result<bool> {
        let header = entry.header().clone();
        match kind {
            EntryType::Directory => fs::create_dir_all(target)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(target)?;
                io::copy(entry, &mut file)?;
                if let Some(modified) = header.mtime().ok().and_then(system_time) {
                    file.set_modified(modified)?;
                }
            }
            EntryType::Symlink => symlink(link_name(entry)?, target)?,
            EntryType::Link => {
                let source = relative(&link_name(entry)?)?;
                let folder = resolve_in(self.root, source.parent().unwrap_or(Path::new("")))?;
                let name = source
                    .file_name()
                    .ok_or_else(|| io::Error::other("a hard link to nothing"))?;
                fs::hard_link(folder.join(name), target)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo if self.is_root => {
                let file_type = match kind {
                    EntryType::Char => SFlag::S_IFCHR,
                    EntryType::Block => SFlag::S_IFBLK,
                    _ => SFlag::S_IFIFO,
                };
                let major = header.device_major()?.unwrap_or(0);
                let minor = header.device_minor()?.unwrap_or(0);
                mknod(
                    target,
                    file_type,
                    Mode::S_IRUSR,
                    makedev(major.into(), minor.into()),
                )?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn finish(&self, entry: &Entry<'_, impl Read>, kind: EntryType, target: &Path) -> io::Result<()> {
        if kind == EntryType::Link {
            return Ok(());
        }
        let header = entry.header();
        if self.is_root {
            let number = |id: io::Result<u64>| id.ok().and_then(|id| u32::try_from(id).ok());
            lchown(target, number(header.uid()), number(header.gid()))?;
        }
        if kind != EntryType::Symlink {
            // Whoever unpacks must be able to go on, and later to remove it again.
            let spare = if kind.is_dir() && !self.is_root { 0o700 } else { 0 };
            fs::set_permissions(
                target,
                fs::Permissions::from_mode(header.mode()? & 0o7777 | spare),
            )?;
        }
        Ok(())
    }
}

fn link_name(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let link = entry
        .link_name()?
        .ok_or_else(|| io::Error::other("a link to nothing"))?;
    Ok(link.into_owned())
}

fn system_time(seconds: u64) -> Option<std::time::SystemTime> {
    std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds))
}

/// A tar's path without its root and dots; one that climbs is refused.
fn relative(path: &Path) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!(
                    "the path {} leaves the archive",
                    path.display()
                )));
            }
        }
    }
    Ok(clean)
}

/// Where `path` leads when `root` is `/`: links are followed inside, and `..` stops at the root.
/// Parts that do not exist are taken as they are. Nobody else may be changing the folder meanwhile.
pub(crate) fn resolve_in(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut pending: Vec<OsString> = parts(path);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let Ok(link) = fs::read_link(root.join(&next)) else {
            at = next;
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(io::Error::other(format!("{} has too many links", path.display())));
        }
        if link.is_absolute() {
            at = PathBuf::new();
        }
        pending.extend(parts(&link));
    }
    Ok(root.join(at))
}

/// A path's parts, last first; roots and dots left out.
fn parts(path: &Path) -> Vec<OsString> {
    let kept = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let mut parts: Vec<OsString> = kept.map(|part| part.as_os_str().to_owned()).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(entries: &[(&str, EntryType, &str)]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(nix::unistd::getuid().as_raw().into());
            header.set_gid(nix::unistd::getgid().as_raw().into());
            header.set_mtime(1);
            // Set as bytes: the builder would refuse the paths that we must survive.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            let mut body = content.as_bytes();
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                header.set_link_name_literal(content).unwrap();
                body = b"";
            }
            header.set_size(body.len() as u64);
            header.set_cksum();
            builder.append(&header, body).unwrap();
        }
        let mut file = builder.into_inner().unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    use EntryType::{Directory, Link, Regular, Symlink};

    #[test]
    fn layers_merge_and_white_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        extract(
            tar_of(&[
                ("a/one", Regular, "1"),
                ("a/two", Regular, "2"),
                ("b/three", Regular, "3"),
            ]),
            root,
        )
        .unwrap();
        extract(
            tar_of(&[
                ("a/.wh.one", Regular, ""),
                ("b/four", Regular, "4"),
                ("b/.wh..wh..opq", Regular, ""),
                ("c", Link, "a/two"),
            ]),
            root,
        )
        .unwrap();
        let there = |path: &str| root.join(path).exists();
        assert!(!there("a/one") && there("a/two") && !there("b/three") && there("b/four"));
        assert_eq!(fs::read_to_string(root.join("c")).unwrap(), "2");
    }

    #[test]
    fn nothing_leaves_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let absolute = outer.path().to_str().unwrap();
        assert!(extract(tar_of(&[("../escaped", Regular, "x")]), &root).is_err());
        extract(
            tar_of(&[("up", Symlink, "../.."), ("up/escaped", Regular, "x")]),
            &root,
        )
        .unwrap();
        extract(
            tar_of(&[("abs", Symlink, absolute), ("abs/escaped", Regular, "x")]),
            &root,
        )
        .unwrap();
        assert!(extract(tar_of(&[("hard", Link, "../secret")]), &root).is_err());
        assert!(
            extract(
                tar_of(&[("loop", Symlink, "loop"), ("loop/x", Directory, "")]),
                &root
            )
            .is_err()
        );
        assert!(!outer.path().join("escaped").exists());
        assert!(root.join("escaped").exists());
    }
}
