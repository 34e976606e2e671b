//! The checks that a hostPath volume's `type` asks for, with the original's words. Blocking.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The path itself, once it is what `kind` says, made where `kind` says so.
pub(crate) fn prepare(path: &str, kind: Option<&str>) -> Result<PathBuf, String> {
    let place = Path::new(path);
    let failed = |error: std::io::Error| format!("hostPath {path}: {error}");
    let meta = fs::metadata(place).ok();
    let is = |what: &str, holds: Option<bool>| match holds {
        Some(true) => Ok(()),
        _ => Err(format!("hostPath type check failed: {path} is not {what}")),
    };
    match kind.unwrap_or_default() {
        "" => {}
        "DirectoryOrCreate" => {
            if meta.is_none() {
                fs::create_dir_all(place).map_err(failed)?;
                fs::set_permissions(place, fs::Permissions::from_mode(0o755)).map_err(failed)?;
            }
            is("a directory", Some(place.is_dir()))?;
        }
        "FileOrCreate" => {
            if meta.is_none() {
                fs::File::create(place).map_err(failed)?;
                fs::set_permissions(place, fs::Permissions::from_mode(0o644)).map_err(failed)?;
            }
            is("a file", Some(place.is_file()))?;
        }
        "Directory" => is("a directory", meta.map(|meta| meta.is_dir()))?,
        "File" => is("a file", meta.map(|meta| meta.is_file()))?,
        "Socket" => is("a socket file", meta.map(|meta| meta.file_type().is_socket()))?,
        "CharDevice" => is(
            "a character device",
            meta.map(|meta| meta.file_type().is_char_device()),
        )?,
        "BlockDevice" => is(
            "a block device",
            meta.map(|meta| meta.file_type().is_block_device()),
        )?,
        other => {
            return Err(format!(
                "hostPath type {other:?}: use DirectoryOrCreate, Directory, FileOrCreate, File, Socket, CharDevice, \
                 BlockDevice or none"
            ));
        }
    }
    Ok(place.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_checks_or_makes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("file"), "").unwrap();
        for (name, kind, fine) in [
            ("file", "File", true),
            ("file", "Directory", false),
            ("none", "File", false),
            ("none", "", true),
            ("new/deep", "DirectoryOrCreate", true),
            ("new/file", "FileOrCreate", true),
            ("new", "Socket", false),
            ("new", "Oops", false),
        ] {
            assert_eq!(prepare(&path(name), Some(kind)).is_ok(), fine, "{name} {kind}");
        }
    }
}
