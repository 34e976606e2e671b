//! `plugin bench`: what a component costs a call, beside one of the same world that does nothing.
//!
//! Both are asked the same question through the same host in turns of the same run, so that the ratio says what
//! the component itself costs on any machine.

use std::path::Path;
use std::time::{Duration, Instant};

use capstan_kinds::plugin::{Limits, PluginSpec};
use hdrhistogram::Histogram;

use crate::cases::{self, Case, CaseFile, Form};
use crate::error::Error;
use crate::rig::Rig;
use crate::{Bench, component, nothing};

/// Turns that the two components take.
const TURNS: u32 = 8;
/// Questions before the first that counts.
const WARM_UP: u32 = 50;
/// Significant digits of the latencies.
const DIGITS: u8 = 3;
/// The longest call that is told apart.
const NANOS_MAX: u64 = 60_000_000_000;
/// How long one question may be asked.
const SECONDS_MAX: f64 = 3600.0;

/// What one component did.
struct Measured {
    nanos: Histogram<u64>,
    spent: Duration,
    faults: u64,
    first_fault: Option<String>,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            nanos: Histogram::new_with_bounds(1, NANOS_MAX, DIGITS)
                .expect("the bounds are within what the library takes"),
            spent: Duration::ZERO,
            faults: 0,
            first_fault: None,
        }
    }
}

/// Measures and prints a line for each case.
pub(crate) fn run(options: &Bench) -> Result<(), Error> {
    let path = component::find(&options.component)?;
    let rig = Rig::open(&path)?;
    let idle = nothing::component(&rig.about.exports)?;
    let idle = Rig::with(Path::new("the component that does nothing"), idle)?;
    let about = &rig.about;
    println!("{} {} ({} bytes)", about.name, about.version, about.size_bytes);
    println!(
        "{:<44} {:>10} {:>9} {:>9} {:>9} {:>9}",
        "CASE", "CALLS/S", "P50 µs", "P99 µs", "MEMORY", "RATIO"
    );
    let seconds = options.seconds.clamp(0.01, SECONDS_MAX);
    for file_path in cases::files(&path, &options.files) {
        let file = CaseFile::read(&file_path)?;
        for case in &file.cases {
            let broken = |message: String| Error::Case {
                path: file_path.clone(),
                case: case.name.clone(),
                message,
            };
            let turn = Duration::from_secs_f64(seconds / f64::from(TURNS) / 2.0);
            let (own, other) = measure(&rig, &idle, &file, case, turn).map_err(broken)?;
            print(case, &own, &other, rig.memory_bytes());
        }
    }
    println!("RATIO is the median beside that of a component that does nothing");
    Ok(())
}

fn measure(
    rig: &Rig,
    idle: &Rig,
    file: &CaseFile,
    case: &Case,
    turn: Duration,
) -> Result<(Measured, Measured), String> {
    let text = |error: Error| error.to_string();
    rig.load(&file.setup(case), file.objects(case)).map_err(text)?;
    let bare = PluginSpec {
        bind: file.spec.bind.clone(),
        limits: Limits::default(),
        ..PluginSpec::default()
    };
    idle.load(&bare, Vec::new()).map_err(text)?;
    let (mut own, mut other) = (Measured::default(), Measured::default());
    let mut ask = case.prepare(rig)?;
    let mut ask_idle = case.prepare(idle)?;
    for _ in 0..WARM_UP {
        // A fault shows in the turns that count.
        let _ = (ask(Form::Silent), ask_idle(Form::Silent));
    }
    for _ in 0..TURNS {
        own.take(turn, &mut ask);
        other.take(turn, &mut ask_idle);
    }
    Ok((own, other))
}

impl Measured {
    fn take(&mut self, turn: Duration, ask: &mut cases::Ask<'_>) {
        let started = Instant::now();
        loop {
            let asked = Instant::now();
            let answer = ask(Form::Silent);
            let took = asked.elapsed();
            self.nanos
                .saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            if let Err(fault) = answer {
                self.faults += 1;
                self.first_fault.get_or_insert_with(|| fault.to_string());
            }
            if started.elapsed() >= turn {
                break;
            }
        }
        self.spent += started.elapsed();
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.nanos.value_at_quantile(quantile) as f64 / 1e3
    }
}

fn print(case: &Case, own: &Measured, other: &Measured, memory_bytes: u64) {
    let calls = own.nanos.len() as f64 / own.spent.as_secs_f64();
    let ratio = own.micros(0.5) / other.micros(0.5);
    println!(
        "{:<44} {calls:>10.0} {:>9.1} {:>9.1} {:>9} {ratio:>9.2}",
        case.name,
        own.micros(0.5),
        own.micros(0.99),
        format!("{} KiB", memory_bytes / 1024),
    );
    if let Some(fault) = &own.first_fault {
        println!(
            "  {} of {} calls ended in a fault, the first: {fault}",
            own.faults,
            own.nanos.len()
        );
    }
}
