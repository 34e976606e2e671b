//! CRI's log line: `<time> <stream> <F|P> <text>`, where `P` marks a piece whose line goes on. Pure.

use capstan_points::sidecar::Stream;

/// One entry, borrowed from its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: &'a str,
    pub(crate) stream: Stream,
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Understands a line without its end; `None` for what is no entry.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = match parts.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let partial = parts.next()?.split(|byte| *byte == b':').next()? == b"P";
    Some(Entry {
        time,
        stream,
        partial,
        text: parts.next().unwrap_or_default(),
    })
}

/// Writes an entry with its line end.
pub(crate) fn write(out: &mut Vec<u8>, entry: Entry<'_>) {
    let stream = match entry.stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    out.extend_from_slice(entry.time.as_bytes());
    out.extend_from_slice(format!(" {stream} {} ", if entry.partial { 'P' } else { 'F' }).as_bytes());
    out.extend_from_slice(entry.text);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_garbage_is_none() {
        for line in [
            "2026-01-01T00:00:00.5Z stdout F hello  world",
            "2026-01-01T00:00:00.5Z stderr P x",
            "t stdout F ",
        ] {
            let entry = parse(line.as_bytes()).unwrap();
            let mut out = Vec::new();
            write(&mut out, entry);
            assert_eq!(out, format!("{line}\n").into_bytes());
        }
        for line in ["", "hello", "t stdout", "t other F x"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }
}
