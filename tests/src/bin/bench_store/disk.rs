use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::report::Figures;

/// What an append is: a small entry of a log.
const BLOCK: [u8; 512] = [7; 512];

/// Appends to a file and syncs each, for a while: as fast as this disk can acknowledge one write after another.
pub(crate) fn sync_rate(quick: bool) -> anyhow::Result<Figures> {
    let folder = super::root().join("target/bench-store");
    fs::create_dir_all(&folder)?;
    let path = folder.join("bare");
    let mut file = File::create(&path)?;
    let bound = Duration::from_millis(if quick { 1_000 } else { 3_000 });
    let mut latencies = Histogram::<u64>::new(3)?;
    let started = Instant::now();
    let mut before = Duration::ZERO;
    while before < bound {
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        let now = started.elapsed();
        latencies.record((now - before).as_micros() as u64)?;
        before = now;
    }
    let figures = Figures::of_load(&latencies, before);
    fs::remove_file(path)?;
    Ok(figures)
}
