//! Host metrics for problem daemons, under the names of the WIT package.

use std::path::Path;
use std::time::{Duration, Instant};

use capstan_points::problem::Sample;
use capstan_runtime::Cri;

use crate::registration::machine::{self, Disk};

/// Longest wait for the runtime's health.
const RUNTIME_MAX: Duration = Duration::from_secs(5);

/// Reads them all; what cannot be read is left out.
pub(crate) async fn read(cri: &dyn Cri, root: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name: &str, value: f64| {
        samples.push(Sample {
            name: name.to_owned(),
            value,
        })
    };
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(memory) = machine::memory(&text("/proc/meminfo")) {
        add("memory.total-bytes", memory.total_bytes as f64);
        add("memory.available-bytes", memory.available_bytes as f64);
    }
    if let Ok(disk) = Disk::of(root) {
        add("disk.total-bytes", disk.total_bytes as f64);
        add("disk.available-bytes", disk.available_bytes as f64);
        add("disk.total-inodes", disk.total_inodes as f64);
        add("disk.available-inodes", disk.available_inodes as f64);
    }
    if let Some(tasks) = machine::tasks(&text("/proc/loadavg"), &text("/proc/sys/kernel/pid_max")) {
        add("pids.maximum", tasks.maximum as f64);
        add("pids.used", tasks.used as f64);
        add("load.1m", tasks.load_1m);
    }
    let began = Instant::now();
    let up = tokio::time::timeout(RUNTIME_MAX, cri.status()).await;
    let up = up.is_ok_and(|status| status.is_ok_and(|status| status.runtime_ready));
    add("runtime.up", f64::from(u8::from(up)));
    add("runtime.latency-ms", began.elapsed().as_secs_f64() * 1000.0);
    samples
}
