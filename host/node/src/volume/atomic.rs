//! Writes a folder of files so that a reader sees all of the old or all of the new, as the original's
//! AtomicWriter: `..data` is a link to a folder named for the time, each name a link into `..data`, and an
//! update is one rename of that link.
//!
//! Invariant: after a crash at any point the visible contents are a whole set. Blocking; called by `make.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

/// One file to be seen in the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes `folder` show exactly `files` (by relative path); whether anything changed.
pub(crate) fn write(folder: &Path, files: &BTreeMap<PathBuf, File>) -> io::Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    fs::create_dir_all(folder)?;
    let data = folder.join(DATA);
    let before = fs::read_link(&data).ok();
    if before.is_some() && shows(&data, files) {
        return Ok(false);
    }
    let name = format!("..{}", jiff::Timestamp::now().as_nanosecond());
    let fresh = folder.join(&name);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    for (path, file) in files {
        let path = fresh.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    let temporary = folder.join(NEW_DATA);
    let _ = fs::remove_file(&temporary);
    symlink(&name, &temporary)?;
    fs::rename(&temporary, &data)?;
    let tops: BTreeSet<PathBuf> = files.keys().filter_map(|path| top(path)).collect();
    for top in &tops {
        let link = folder.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link)?;
        }
    }
    sweep(folder, &tops, &name)?;
    Ok(true)
}

fn check(path: &Path) -> io::Result<()> {
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let hidden = path
        .components()
        .next()
        .is_some_and(|part| part.as_os_str().to_string_lossy().starts_with(".."));
    if plain && !hidden && !path.as_os_str().is_empty() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("path {path:?} must be relative and may neither contain nor begin with \"..\""),
    ))
}

fn top(path: &Path) -> Option<PathBuf> {
    path.components()
        .next()
        .map(|part| PathBuf::from(part.as_os_str()))
}

/// Whether the folder already has these files and no others.
fn shows(data: &Path, files: &BTreeMap<PathBuf, File>) -> bool {
    let same = files.iter().all(|(path, file)| {
        let path = data.join(path);
        let mode = fs::metadata(&path).map(|meta| meta.permissions().mode() & 0o7777);
        mode.is_ok_and(|mode| mode == file.mode)
            && fs::read(&path).is_ok_and(|content| content == file.content)
    });
    same && count(data).is_ok_and(|count| count == files.len())
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(files)
}

/// Removes links to names that are gone and folders that nothing shows any more.
fn sweep(folder: &Path, tops: &BTreeSet<PathBuf>, current: &str) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if text == DATA || text == current || tops.contains(Path::new(&name)) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<PathBuf, File> {
        let file = |text: &str| File {
            content: text.as_bytes().to_vec(),
            mode: 0o644,
        };
        list.iter()
            .map(|(path, text)| (PathBuf::from(path), file(text)))
            .collect()
    }

    #[test]
    fn an_update_replaces_the_whole_set() {
        let folder = tempfile::tempdir().unwrap();
        let first = files(&[("a", "1"), ("deep/b", "2")]);
        assert!(write(folder.path(), &first).unwrap());
        assert!(!write(folder.path(), &first).unwrap(), "nothing changed");
        let before = fs::read_link(folder.path().join(DATA)).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("deep/b")).unwrap(), "2");

        assert!(write(folder.path(), &files(&[("a", "3")])).unwrap());
        assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "3");
        assert!(!folder.path().join("deep").exists());
        assert!(!folder.path().join(before).exists());
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..data"] {
            assert!(write(folder.path(), &files(&[(path, "")])).is_err(), "{path}");
        }
    }
}
