//! What every Prometheus client tells of its process, read from `/proc` when asked.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Linux shows times to programs in this unit whatever its own ticks are.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
struct Process;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A system without it has nothing to tell.
        let Some(now) = read() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            now.resident_bytes,
        )?;
        gauge(
            "process_virtual_memory_bytes",
            "Virtual memory.",
            now.virtual_bytes,
        )?;
        gauge(
            "process_start_time_seconds",
            "Start, in Unix time.",
            now.start_seconds,
        )?;
        gauge("process_open_fds", "Open files.", now.open_files)?;
        gauge("process_max_fds", "Files that may be open.", now.max_files)?;
        gauge("process_threads", "Threads.", now.threads)?;
        let cpu = ConstCounter::new(now.cpu_seconds);
        let help = "CPU time of user and system.";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)
    }
}

struct Reading {
    resident_bytes: f64,
    virtual_bytes: f64,
    start_seconds: f64,
    cpu_seconds: f64,
    open_files: f64,
    max_files: f64,
    threads: f64,
}

fn read() -> Option<Reading> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Fields after the name in parentheses; the first is the third of proc(5).
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kilobytes: f64 = resident.split_whitespace().next()?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(Reading {
        resident_bytes: resident_kilobytes * 1024.0,
        virtual_bytes: field(23)?,
        start_seconds: boot.parse::<f64>().ok()? + field(22)? / TICKS_PER_SECOND,
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        open_files: fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        max_files: max_files().unwrap_or(0.0),
        threads: field(20)?,
    })
}

fn max_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
