//! The loop of one probe: wait, ask, count, report what turned.
//!
//! Before a container was ready for the first time, network probes are also asked between the periods, at
//! once and at growing pauses: a server that needs 20 ms to listen is ready after 20 ms and not after a
//! period. Only successes of these extra questions count, so thresholds keep their meaning.

use std::sync::Arc;
use std::time::Duration;

use capstan_runtime::Cri;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::time::{Instant, sleep_until};

use super::counter::Counter;
use super::{Kind, Report, ask};
use crate::events::Recorder;

/// First pause between extra questions; it doubles up to the probe's period.
const EXTRA_PAUSE_MIN: Duration = Duration::from_millis(10);

/// What is asked about.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) pod: Arc<Pod>,
    pub(crate) container: Container,
    pub(crate) id: String,
    pub(crate) pod_ip: String,
    pub(crate) kind: Kind,
    /// How long ago the container started.
    pub(crate) age: Duration,
}

/// Runs until the verdict is final, which for readiness is never; the caller aborts it with the container.
pub(crate) async fn run<F, R>(asked: Asked, cri: Arc<dyn Cri>, recorder: Recorder, report: F)
where
    F: Fn(Report) -> R,
    R: Future<Output = ()>,
{
    let Some(probe) = asked.kind.of(&asked.container).cloned() else {
        return;
    };
    let period = Duration::from_secs(probe.period_seconds.unwrap_or(10).max(1).unsigned_abs().into());
    let delay = Duration::from_secs(
        probe
            .initial_delay_seconds
            .unwrap_or(0)
            .max(0)
            .unsigned_abs()
            .into(),
    );
    let eager = asked.kind != Kind::Liveness && probe.exec.is_none() && probe.grpc.is_none();
    let mut counter = Counter::new(asked.kind, &probe);
    let mut regular = Instant::now() + delay.saturating_sub(asked.age);
    let mut extra = (eager && delay <= asked.age).then_some(EXTRA_PAUSE_MIN);
    let mut next = regular;
    loop {
        sleep_until(next).await;
        let is_extra = next < regular;
        let answer = ask::ask(cri.as_ref(), &probe, &asked.container, &asked.id, &asked.pod_ip).await;
        if !is_extra {
            regular = (regular + period).max(Instant::now());
        }
        let turned = match &answer {
            Err(_) if is_extra => None,
            _ => counter.record(answer.is_ok()),
        };
        if let (Err(message), false) = (&answer, is_extra) {
            unhealthy(&asked, &recorder, message);
        }
        if let Some(passed) = turned {
            let Asked {
                container, id, kind, ..
            } = &asked;
            report(Report {
                container: container.name.clone(),
                id: id.clone(),
                kind: *kind,
                passed,
            })
            .await;
            if *kind != Kind::Readiness && (*kind == Kind::Startup || !passed) {
                return;
            }
        }
        extra = extra
            .filter(|_| counter.is_undecided())
            .map(|pause| (pause * 2).min(period));
        next = extra.map_or(regular, |pause| (Instant::now() + pause).min(regular));
    }
}

fn unhealthy(asked: &Asked, recorder: &Recorder, message: &str) {
    let kind = match asked.kind {
        Kind::Startup => "Startup",
        Kind::Liveness => "Liveness",
        Kind::Readiness => "Readiness",
    };
    let message = format!("{kind} probe failed: {message}");
    recorder.pod(
        &asked.pod,
        Some(&asked.container.name),
        true,
        "Unhealthy",
        message,
    );
}
