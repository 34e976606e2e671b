//! Sidecar logic (`capstan:sidecar`): what happens to a pod's log lines and metrics page.
//!
//! An author transforms one line at a time, or one page; a plugin may do both.

use crate::{
    Fault, Plugin,
    plugin::{Component, Seated},
    wit::{
        sidecar_adapter::exports::capstan::sidecar::adapter, sidecar_logs::exports::capstan::sidecar::logs,
    },
};

pub use crate::wit::types::capstan::sidecar::types::{Line, Stream, StreamContext};
pub use adapter::{Endpoint, Page};

/// A plugin that transforms log lines.
pub trait Logs: Plugin {
    /// Told once, before the first line, whose lines these are.
    fn open(&mut self, _context: &StreamContext) -> Result<(), Fault> {
        Ok(())
    }

    /// Writes to `out` what takes the line's place: nothing, itself, or several.
    fn line(&mut self, line: Line, out: &mut Vec<Line>) -> Result<(), Fault>;

    /// Writes lines that were held back.
    fn flush(&mut self, _out: &mut Vec<Line>) -> Result<(), Fault> {
        Ok(())
    }
}

/// A plugin that presents a workload's metrics in another form.
pub trait Adapter: Plugin {
    /// What to serve for each selected pod.
    fn endpoints(&self) -> Vec<Endpoint>;

    /// The workload's page in its new form.
    fn translate(&mut self, context: &StreamContext, page: Page) -> Result<Page, Fault>;
}

/// A sidecar in its seat.
pub struct Runner<P>(P);

impl<P: Plugin> Seated for Runner<P> {
    type Plugin = P;

    fn seat(plugin: P) -> Self {
        Self(plugin)
    }

    fn plugin(&mut self) -> &mut P {
        &mut self.0
    }
}

impl<C, P: Logs> logs::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn open(context: StreamContext) -> Result<(), Fault> {
        C::call(|runner| runner.0.open(&context))
    }

    fn on_lines(lines: Vec<Line>) -> Result<Vec<Line>, Fault> {
        C::call(|runner| {
            let mut out = Vec::with_capacity(lines.len());
            lines
                .into_iter()
                .try_for_each(|line| runner.0.line(line, &mut out))?;
            Ok(out)
        })
    }

    fn flush() -> Result<Vec<Line>, Fault> {
        C::call(|runner| {
            let mut out = Vec::new();
            runner.0.flush(&mut out)?;
            Ok(out)
        })
    }
}

impl<C, P: Adapter> adapter::Guest for C
where
    C: Component<Seated = Runner<P>>,
{
    fn endpoints() -> Vec<Endpoint> {
        C::seat(|seat| {
            seat.as_ref()
                .map(|runner| runner.0.endpoints())
                .unwrap_or_default()
        })
    }

    fn translate(context: StreamContext, page: Page) -> Result<Page, Fault> {
        C::call(|runner| runner.0.translate(&context, page))
    }
}
