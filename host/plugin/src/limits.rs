//! What one call of a plugin may cost, from `spec.limits` and the host's own bounds.

use std::time::Duration;

use capstan_kinds::plugin;

use crate::error::LoadError;

/// Largest linear memory that a plugin may ask for.
pub(crate) const MEMORY_MAX_BYTES: u64 = 256 << 20;
const MEMORY_MIN_BYTES: u64 = 1 << 20;
const MEMORY_DEFAULT_BYTES: u64 = 32 << 20;
const DEADLINE_DEFAULT: Duration = Duration::from_millis(10);
const DEADLINE_MIN: Duration = Duration::from_millis(1);
const DEADLINE_MAX: Duration = Duration::from_secs(10);
/// Bytes that one call may hand to the host, counted as the host holds them.
pub(crate) const OUTPUT_MAX_BYTES: usize = 8 << 20;
/// Deadline of `describe`, `configure`, `self-test` and the hand-off, which run once a revision.
pub(crate) const INIT_DEADLINE: Duration = Duration::from_secs(2);
/// What each delta adds to the deadline of `view.apply`.
pub(crate) const DELTA_ALLOWANCE: Duration = Duration::from_micros(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) deadline: Duration,
    pub(crate) memory_bytes: u64,
}

impl Limits {
    /// As much as any plugin may ask for.
    pub(crate) fn largest() -> Self {
        Self {
            deadline: DEADLINE_MAX,
            memory_bytes: MEMORY_MAX_BYTES,
        }
    }

    pub(crate) fn parse(limits: &plugin::Limits) -> Result<Self, LoadError> {
        let deadline = limits
            .deadline
            .as_deref()
            .map_or(Ok(DEADLINE_DEFAULT), deadline)?;
        let memory_bytes = limits
            .memory
            .as_deref()
            .map_or(Ok(MEMORY_DEFAULT_BYTES), memory)?;
        Ok(Self {
            deadline,
            memory_bytes,
        })
    }
}

fn deadline(text: &str) -> Result<Duration, LoadError> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => f64::NAN,
    };
    let seconds = number.parse::<f64>().map_or(f64::NAN, |number| number * factor);
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| (DEADLINE_MIN..=DEADLINE_MAX).contains(d))
        .ok_or_else(|| {
            LoadError::spec(
                "spec.limits.deadline",
                text,
                "a time from 1ms to 10s, such as 10ms",
            )
        })
}

fn memory(text: &str) -> Result<u64, LoadError> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let factor: u64 = match unit {
        "" => 1,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        _ => 0,
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|bytes| (MEMORY_MIN_BYTES..=MEMORY_MAX_BYTES).contains(bytes))
        .ok_or_else(|| {
            LoadError::spec(
                "spec.limits.memory",
                text,
                "an amount from 1Mi to 256Mi, such as 32Mi",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_parsed_and_bounded() {
        let parse = |deadline: &str, memory: &str| {
            Limits::parse(&plugin::Limits {
                deadline: Some(deadline.into()),
                memory: Some(memory.into()),
            })
        };
        let limits = parse("1.5ms", "64Mi").expect("valid");
        assert_eq!(
            limits,
            Limits {
                deadline: Duration::from_micros(1500),
                memory_bytes: 64 << 20
            }
        );
        for (deadline, memory, named) in [
            ("10", "32Mi", "spec.limits.deadline"),
            ("1h", "32Mi", "spec.limits.deadline"),
            ("-1ms", "32Mi", "spec.limits.deadline"),
            ("1ms", "1Gi", "spec.limits.memory"),
            ("1ms", "32MB", "spec.limits.memory"),
        ] {
            let message = parse(deadline, memory).expect_err(named).to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
