//! The log sink: one JSON line an event into a file that is rotated by size and pruned by age and count, or
//! to standard output.
//!
//! A line is written before the request goes on, as the original's blocking mode does. Old files are named
//! as its are: `audit-2026-01-02T03-04-05.678.log`, with `.gz` where they are compressed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;

/// How audit lines are kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// `--audit-log-path`; none is standard output (`-`).
    pub path: Option<PathBuf>,
    /// `--audit-log-maxsize`: a file is closed before it grows above it; 0 never.
    pub max_size_bytes: u64,
    /// `--audit-log-maxage`: older files are deleted; 0 never.
    pub max_age_days: u32,
    /// `--audit-log-maxbackup`: so many old files are kept; 0 all.
    pub max_backups: usize,
    /// `--audit-log-compress`.
    pub compress: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            path: None,
            max_size_bytes: 100 << 20,
            max_age_days: 366,
            max_backups: 100,
            compress: false,
        }
    }
}

/// See the module.
pub(super) struct Log {
    options: LogOptions,
    open: Mutex<Option<(File, u64)>>,
}

impl Log {
    pub(super) fn open(options: LogOptions) -> io::Result<Self> {
        let open = match &options.path {
            Some(path) => Some(append(path)?),
            None => None,
        };
        Ok(Self {
            options,
            open: Mutex::new(open),
        })
    }

    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        let Some(path) = &self.options.path else {
            return io::stdout().lock().write_all(line);
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.options.max_size_bytes;
        let full = |size: u64| limit > 0 && size > 0 && size + line.len() as u64 > limit;
        if open.as_ref().is_some_and(|(_, size)| full(*size)) {
            *open = None;
            std::fs::rename(path, self.backup_name(path))?;
            self.prune(path);
        }
        if open.is_none() {
            *open = Some(append(path)?);
        }
        if let Some((file, size)) = open.as_mut() {
            file.write_all(line)?;
            *size += line.len() as u64;
        }
        Ok(())
    }

    fn backup_name(&self, path: &Path) -> PathBuf {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S%.3f");
        let (stem, extension) = parts(path);
        // Two rotations in one millisecond must not lose a file.
        let names = (0..).map(|n| match n {
            0 => path.with_file_name(format!("{stem}-{time}{extension}")),
            n => path.with_file_name(format!("{stem}-{time}-{n}{extension}")),
        });
        names
            .take(1000)
            .find(|name| !name.exists() && !compressed(name).exists())
            .unwrap_or_else(|| path.with_file_name(format!("{stem}-{time}{extension}")))
    }

    /// Compresses and deletes old files; what cannot be done is tried again at the next rotation.
    fn prune(&self, path: &Path) {
        let (stem, extension) = parts(path);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(entries) = std::fs::read_dir(folder.unwrap_or(Path::new("."))) else {
            return;
        };
        let prefix = format!("{stem}-");
        let mut backups: Vec<(PathBuf, Option<Duration>)> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let plain = name.strip_suffix(".gz").unwrap_or(&name);
                plain.starts_with(&prefix) && plain.ends_with(&extension)
            })
            .map(|entry| {
                let modified = entry.metadata().and_then(|metadata| metadata.modified());
                let age = modified.ok().and_then(|at| at.elapsed().ok());
                (entry.path(), age)
            })
            .collect();
        backups.sort();
        backups.reverse();
        let age_max = Duration::from_secs(u64::from(self.options.max_age_days) * 86_400);
        for (position, (backup, age)) in backups.into_iter().enumerate() {
            let surplus = self.options.max_backups > 0 && position >= self.options.max_backups;
            let old = self.options.max_age_days > 0 && age.is_some_and(|age| age > age_max);
            let done = if surplus || old {
                std::fs::remove_file(&backup)
            } else if self.options.compress && backup.extension().is_none_or(|end| end != "gz") {
                compress(&backup)
            } else {
                Ok(())
            };
            if let Err(error) = done {
                tracing::warn!(%error, file = %backup.display(), "an old audit log stays as it is");
            }
        }
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// The name without its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|end| format!(".{}", end.to_string_lossy()));
    (text(path.file_stem()), extension.unwrap_or_default())
}

fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

fn compress(path: &Path) -> io::Result<()> {
    let target = compressed(path);
    let mut encoder = GzEncoder::new(File::create(&target)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rotates_by_size_and_keeps_so_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/audit.log");
        let options = LogOptions {
            path: Some(path.clone()),
            max_size_bytes: 25,
            max_backups: 2,
            compress: true,
            ..LogOptions::default()
        };
        let log = Log::open(options.clone()).unwrap();
        for n in 0..8 {
            log.write(format!("line {n:04}\n").as_bytes()).unwrap();
        }
        drop(log);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0006\nline 0007\n");
        let names: Vec<String> = std::fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(
            names.iter().filter(|name| name.ends_with(".log.gz")).count(),
            2,
            "{names:?}"
        );
        assert_eq!(names.len(), 3, "{names:?}");
        // What was there before goes on.
        let log = Log::open(options).unwrap();
        log.write(b"more\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
    }
}
