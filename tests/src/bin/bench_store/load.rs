use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::LocalSet;

use super::report::Figures;
use super::subject::{Members, cpu_of};

/// How long a load runs, and how long before that it runs without being counted.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) counted: Duration,
    pub(crate) before: Duration,
}

impl Span {
    pub(crate) fn new(seconds: Option<u64>, quick: bool) -> Self {
        let counted = Duration::from_secs(seconds.unwrap_or(if quick { 2 } else { 6 }).max(1));
        Self {
            counted,
            before: counted / 6,
        }
    }
}

/// Runs clients, each of which sends its next request when it has the answer to its last, and counts.
///
/// `call` is given the client's number and the request's; its time is what it takes to its end.
pub(crate) async fn closed_loop<C, F>(
    members: &Members,
    clients: usize,
    span: Span,
    call: C,
) -> anyhow::Result<Figures>
where
    C: Fn(usize, u64) -> F + 'static,
    F: Future<Output = anyhow::Result<()>>,
{
    let call = Rc::new(call);
    let latencies = Rc::new(RefCell::new(Histogram::<u64>::new(3)?));
    let counting = Rc::new(Cell::new(false));
    let stop = Rc::new(Cell::new(false));
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let (call, latencies) = (Rc::clone(&call), Rc::clone(&latencies));
            let (counting, stop) = (Rc::clone(&counting), Rc::clone(&stop));
            local.spawn_local(async move {
                for number in 0.. {
                    if stop.get() {
                        break;
                    }
                    let started = Instant::now();
                    call(client, number).await?;
                    if counting.get() {
                        latencies
                            .borrow_mut()
                            .record(started.elapsed().as_micros() as u64)?;
                    }
                }
                anyhow::Ok(())
            })
        })
        .collect();
    local
        .run_until(async move {
            tokio::time::sleep(span.before).await;
            let (before, own_before) = (members.usage()?.cpu, cpu_of("/proc/self/stat")?);
            counting.set(true);
            let started = Instant::now();
            tokio::time::sleep(span.counted).await;
            let took = started.elapsed();
            counting.set(false);
            let (after, own_after) = (members.usage()?.cpu, cpu_of("/proc/self/stat")?);
            stop.set(true);
            for task in tasks {
                task.await??;
            }
            let figures = Figures::of_load(&latencies.borrow(), took);
            Ok(figures.with_cpu(
                after.saturating_sub(before),
                own_after.saturating_sub(own_before),
                took,
            ))
        })
        .await
}
