//! What stands in the kernel's files. Pure.

use std::collections::BTreeMap;

/// Those of process 1, the node's own: `/proc/mounts` is a link to those of whoever reads it.
pub(crate) const MOUNTS: &str = "/proc/1/mounts";
pub(crate) const INTERFACES: &str = "/proc/1/net/dev";
pub(crate) const CONNTRACK_COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
pub(crate) const CONNTRACK_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
pub(crate) const FILE_HANDLES: &str = "/proc/sys/fs/file-nr";
pub(crate) const MEMORY_PRESSURE: &str = "/proc/pressure/memory";
pub(crate) const IO_PRESSURE: &str = "/proc/pressure/io";

/// Columns of `/proc/net/dev` after the name: errors and drops, received and sent.
const ERROR_COLUMNS: [usize; 4] = [2, 3, 10, 11];

/// Errors and drops by interface.
pub(crate) type Counters = BTreeMap<String, u64>;

/// Those of the wanted mount points that are mounted read-only. The last mount of a place is the one that counts.
pub(crate) fn read_only<'a>(mounts: &str, wanted: &'a [String]) -> Vec<&'a str> {
    let is_read_only = |wanted: &&String| {
        let on_it = mounts.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, options) = (fields.next()?, fields.nth(1)?);
            (place == wanted.as_str()).then_some(options)
        });
        let last = on_it.last();
        last.is_some_and(|options| options.split(',').any(|option| option == "ro"))
    };
    wanted.iter().filter(is_read_only).map(String::as_str).collect()
}

pub(crate) fn counters(interfaces: &str) -> Counters {
    let of_line = |line: &str| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let errors = ERROR_COLUMNS.iter().map(|column| numbers.get(*column).copied());
        let name = name.trim();
        (name != "lo").then_some((name.to_owned(), errors.sum::<Option<u64>>()?))
    };
    interfaces.lines().filter_map(of_line).collect()
}

/// The interface with the most new errors a minute. Counters that fell began anew.
pub(crate) fn fastest(then: &Counters, now: &Counters, elapsed_ms: u64) -> Option<(String, f64)> {
    let minutes = elapsed_ms.max(1) as f64 / 60_000.0;
    let rates = now.iter().filter_map(|(name, count)| {
        let new = count.saturating_sub(*then.get(name)?);
        Some((name.clone(), new as f64 / minutes))
    });
    rates.max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// The share of the last minute in which all processes waited.
pub(crate) fn stalled_percent(pressure: &str) -> Option<f64> {
    let full = pressure.lines().find(|line| line.starts_with("full "))?;
    let average = full.split(' ').find_map(|word| word.strip_prefix("avg60="))?;
    average.parse().ok()
}
