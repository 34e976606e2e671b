//! What a container's guests may use together: memory and CPU time.
//!
//! One [`Allowance`] a container, shared by all its instances. Memory beyond the limit is refused to the
//! guest. CPU is sampled: each epoch tick that finds a guest running costs it one tick of its quota, and a
//! guest in debt sleeps. Called from inside guest calls, so everything here is short and never blocks.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

use super::engine::TICK;
use crate::{Error, LinuxContainerResources, Result};

/// Elements of all tables of one instance.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// A guest in debt sleeps at most this long before it is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A container's share of the machine.
#[derive(Debug)]
pub(crate) struct Allowance {
    memory_limit_bytes: AtomicU64,
    memory_bytes: AtomicU64,
    memory_was_refused: AtomicBool,
    cpu_ns: AtomicU64,
    cpu: Mutex<Option<Quota>>,
}

/// CPU time as a bucket that fills at the quota's rate.
#[derive(Debug)]
struct Quota {
    /// CPU seconds in a second.
    rate: f64,
    burst_s: f64,
    left_s: f64,
    filled_at: Instant,
}

impl Allowance {
    pub(crate) fn new(resources: &LinuxContainerResources) -> Arc<Self> {
        Arc::new(Self {
            memory_limit_bytes: AtomicU64::new(memory_limit(resources)),
            memory_bytes: AtomicU64::new(0),
            memory_was_refused: AtomicBool::new(false),
            cpu_ns: AtomicU64::new(0),
            cpu: Mutex::new(Quota::of(resources)),
        })
    }

    /// Changes what may be used from now on; memory in use is not taken back.
    pub(crate) fn update(&self, resources: &LinuxContainerResources) -> Result<()> {
        let (limit, used) = (memory_limit(resources), self.memory_bytes());
        if limit < used {
            return Err(Error::Precondition(format!(
                "the container uses {used} bytes of memory, more than the new limit of {limit}"
            )));
        }
        self.memory_limit_bytes.store(limit, Relaxed);
        *self.cpu.lock().unwrap_or_else(PoisonError::into_inner) = Quota::of(resources);
        Ok(())
    }

    /// The limit, if a guest was refused memory.
    pub(crate) fn exhausted_memory(&self) -> Option<u64> {
        self.memory_was_refused
            .load(Relaxed)
            .then(|| self.memory_limit_bytes.load(Relaxed))
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Relaxed)
    }

    pub(crate) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Relaxed)
    }

    /// Charges one tick; how long the guest must pause, if it is in debt.
    pub(crate) fn charge_tick(&self) -> Option<Duration> {
        let mut quota = self.cpu.lock().unwrap_or_else(PoisonError::into_inner);
        quota.as_mut()?.charge(Instant::now())
    }

    fn take_memory(&self, bytes: u64) -> bool {
        let fits = |held: u64| {
            held.checked_add(bytes)
                .filter(|sum| *sum <= self.memory_limit_bytes.load(Relaxed))
        };
        let taken = self.memory_bytes.fetch_update(Relaxed, Relaxed, fits).is_ok();
        if !taken {
            self.memory_was_refused.store(true, Relaxed);
        }
        taken
    }
}

fn memory_limit(resources: &LinuxContainerResources) -> u64 {
    match u64::try_from(resources.memory_limit_bytes) {
        Ok(limit) if limit > 0 => limit,
        _ => u64::MAX,
    }
}

impl Quota {
    /// None where CPU time is not limited.
    fn of(resources: &LinuxContainerResources) -> Option<Self> {
        if resources.cpu_quota_us <= 0 || resources.cpu_period_us <= 0 {
            return None;
        }
        let burst_s = resources.cpu_quota_us as f64 / 1e6;
        Some(Self {
            rate: resources.cpu_quota_us as f64 / resources.cpu_period_us as f64,
            burst_s,
            left_s: burst_s,
            filled_at: Instant::now(),
        })
    }

    fn charge(&mut self, now: Instant) -> Option<Duration> {
        let filled_s = now.saturating_duration_since(self.filled_at).as_secs_f64() * self.rate;
        self.filled_at = now;
        self.left_s = (self.left_s + filled_s).min(self.burst_s) - TICK.as_secs_f64();
        (self.left_s < 0.0).then(|| Duration::from_secs_f64(-self.left_s / self.rate).min(PAUSE_MAX))
    }
}

/// One instance's hold on its container's memory; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryHold {
    allowance: Arc<Allowance>,
    held_bytes: u64,
}

impl MemoryHold {
    pub(crate) fn new(allowance: Arc<Allowance>) -> Self {
        Self {
            allowance,
            held_bytes: 0,
        }
    }
}

impl ResourceLimiter for MemoryHold {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let granted = self.allowance.take_memory(more);
        if granted {
            self.held_bytes += more;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        self.allowance.memory_bytes.fetch_sub(self.held_bytes, Relaxed);
    }
}

/// Counts the CPU time of a guest's call: a guest runs nowhere but in its future's `poll`.
pub(crate) struct Metered<F> {
    call: Pin<Box<F>>,
    allowance: Arc<Allowance>,
}

impl<F: Future> Metered<F> {
    pub(crate) fn new(call: F, allowance: Arc<Allowance>) -> Self {
        Self {
            call: Box::pin(call),
            allowance,
        }
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let start = Instant::now();
        let polled = self.call.as_mut().poll(context);
        let spent_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.allowance.cpu_ns.fetch_add(spent_ns, Relaxed);
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_and_given_back() {
        let resources = LinuxContainerResources {
            memory_limit_bytes: 100,
            ..Default::default()
        };
        let allowance = Allowance::new(&resources);
        let mut first = MemoryHold::new(Arc::clone(&allowance));
        let mut second = MemoryHold::new(Arc::clone(&allowance));
        assert!(first.memory_growing(0, 60, None).unwrap());
        assert!(!second.memory_growing(0, 60, None).unwrap());
        assert_eq!(allowance.exhausted_memory(), Some(100));
        drop(first);
        assert!(second.memory_growing(0, 60, None).unwrap());
        assert_eq!(allowance.memory_bytes(), 60);
    }

    #[test]
    fn a_quota_makes_a_busy_guest_pause() {
        let mut now = Instant::now();
        let mut quota = Quota {
            rate: 0.1,
            burst_s: 0.01,
            left_s: 0.01,
            filled_at: now,
        };
        let mut busy_s = 0.0;
        let start = now;
        for _ in 0..100 {
            now += TICK;
            busy_s += TICK.as_secs_f64();
            now += quota.charge(now).unwrap_or_default();
        }
        let share = busy_s / now.duration_since(start).as_secs_f64();
        assert!((0.08..0.13).contains(&share), "{share}");
    }
}
