//! Problem daemons (`capstan:problem`): what is wrong with this node.
//!
//! An author handles one line, one round of samples or one tick, and reports to [`Findings`].
//! [`Conditions`] remembers what was reported, so that a daemon that starts, or takes over, says how
//! things stand once and then only what changed; [`Streak`] and [`Hysteresis`] decide when a reading that
//! comes and goes is a problem ([`Alarm`] is both for one condition), [`Window`] when something happens too often.

mod alarm;
mod conditions;
mod threshold;
mod window;

use crate::{
    Fault, Plugin,
    plugin::{Component, Seated},
    wit::problem_monitor::exports::capstan::problem::monitor,
};

pub use crate::plugin::{ConditionStatus, EventType};
pub use alarm::Alarm;
pub use conditions::Conditions;
pub use monitor::{Condition, Event, Finding, Line, LineSource, Sample, Source};
pub use threshold::{Hysteresis, Streak};
pub use window::{COUNT_MAX, Window};

/// What one call has found.
pub type Findings = Vec<Finding>;

/// A problem daemon. Only what its [`sources`](Self::sources) name is called.
pub trait Monitor: Plugin {
    /// What to watch; asked once after `new`.
    fn sources(&self) -> Vec<Source>;

    /// A line of source number `source`.
    fn on_line(
        &mut self,
        _source: u32,
        _line: Line,
        _now_ms: u64,
        _found: &mut Findings,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// Lines were lost before the next ones because the flood outran the bound.
    fn on_dropped(
        &mut self,
        _source: u32,
        _dropped: u64,
        _now_ms: u64,
        _found: &mut Findings,
    ) -> Result<(), Fault> {
        Ok(())
    }

    /// A round of host metrics.
    fn on_samples(&mut self, _samples: &[Sample], _now_ms: u64, _found: &mut Findings) -> Result<(), Fault> {
        Ok(())
    }

    /// Time has passed.
    fn on_tick(&mut self, _now_ms: u64, _found: &mut Findings) -> Result<(), Fault> {
        Ok(())
    }
}

/// The value of a sample by name.
pub fn sample(samples: &[Sample], name: &str) -> Option<f64> {
    samples
        .iter()
        .find(|sample| sample.name == name)
        .map(|sample| sample.value)
}

/// A daemon in its seat.
pub struct Runner<P>(P);

impl<P: Monitor> Seated for Runner<P> {
    type Plugin = P;

    fn seat(daemon: P) -> Self {
        Self(daemon)
    }

    fn plugin(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<C, P: Monitor> monitor::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn sources() -> Vec<Source> {
        C::seat(|seat| seat.as_ref().map(|runner| runner.0.sources()).unwrap_or_default())
    }

    fn on_lines(source: u32, lines: Vec<Line>, dropped: u64, now_ms: u64) -> Result<Findings, Fault> {
        C::call(|runner| {
            let mut found = Vec::new();
            if dropped > 0 {
                runner.0.on_dropped(source, dropped, now_ms, &mut found)?;
            }
            lines
                .into_iter()
                .try_for_each(|line| runner.0.on_line(source, line, now_ms, &mut found))?;
            Ok(found)
        })
    }

    fn on_samples(samples: Vec<Sample>, now_ms: u64) -> Result<Findings, Fault> {
        C::call(|runner| {
            let mut found = Vec::new();
            runner.0.on_samples(&samples, now_ms, &mut found)?;
            Ok(found)
        })
    }

    fn on_tick(now_ms: u64) -> Result<Findings, Fault> {
        C::call(|runner| {
            let mut found = Vec::new();
            runner.0.on_tick(now_ms, &mut found)?;
            Ok(found)
        })
    }
}
