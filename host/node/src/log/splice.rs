//! Where a log that the runtime writes itself was cut over to a transformed one: what came before stays as it
//! is, what came after is read from `<attempt>.sidecar.log`.
//!
//! The place is kept beside the log as device, inode and offset, so that a rotation of the runtime's own file
//! never shows raw lines from behind the cut. Blocking.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The end of a log in which the last line end is looked for; no line is longer.
const BLOCK_BYTES: u64 = 64 * 1024;

/// The log that takes over.
pub(crate) fn successor(log: &Path) -> PathBuf {
    log.with_extension("sidecar.log")
}

fn mark(log: &Path) -> PathBuf {
    log.with_extension("splice")
}

/// Cuts here, after the last whole line, or finds the cut that was made; its offset.
pub(crate) fn cut(log: &Path) -> io::Result<u64> {
    if let Some((_, offset)) = read(log) {
        return Ok(offset);
    }
    let file = File::open(log)?;
    let meta = file.metadata()?;
    let begin = meta.len().saturating_sub(BLOCK_BYTES);
    let mut block = vec![0; usize::try_from(meta.len() - begin).unwrap_or(0)];
    file.read_exact_at(&mut block, begin)?;
    let offset = block
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(begin, |at| begin + at as u64 + 1);
    std::fs::write(mark(log), format!("{} {} {offset}", meta.dev(), meta.ino()))?;
    Ok(offset)
}

fn read(log: &Path) -> Option<((u64, u64), u64)> {
    let text = std::fs::read_to_string(mark(log)).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let mut next = || numbers.next()?.ok();
    Some(((next()?, next()?), next()?))
}

/// What stands before the cut; `None` where there is no cut.
pub(crate) fn prefix(log: &Path) -> Option<Vec<u8>> {
    let (inode, offset) = read(log)?;
    let mut older = log.to_owned().into_os_string();
    older.push(".1");
    let mut bytes = Vec::new();
    for path in [log, Path::new(&older)] {
        let Ok(file) = File::open(path) else { continue };
        if file
            .metadata()
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == inode)
        {
            let _ = file.take(offset).read_to_end(&mut bytes);
            break;
        }
    }
    Some(bytes)
}
