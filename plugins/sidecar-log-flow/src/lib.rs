//! Joins log lines that belong together, thins out floods, and hides nothing silently.
//!
//! A record that is being joined is held until the next one begins, its bounds are reached, or the stream ends:
//! nobody can tell earlier that it is complete. Lines that sampling leaves out are counted, and the count takes
//! the place of the last of them.

mod join;
mod sample;

use capstan_sdk::{
    Fault, Millis, Plugin,
    sidecar::{Line, Logs, Stream},
};
use join::Joiner;
use sample::Sampler;

/// The configuration; see `config.schema.json`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    join: Option<Join>,
    sample: Vec<Sample>,
    limit: Option<Limit>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Join {
    start: Option<String>,
    continuation: Option<String>,
    #[serde(default = "separator")]
    separator: String,
    #[serde(default = "lines_max")]
    lines_max: usize,
}

fn separator() -> String {
    "\n".into()
}

fn lines_max() -> usize {
    200
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Sample {
    pattern: String,
    one_of: u32,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    lines: u32,
    per: Millis,
}

/// The transform.
pub struct LogFlow {
    /// One for each stream of the container: their lines are not one another's.
    joiners: Option<[Joiner; 2]>,
    sampler: Sampler,
}

impl Plugin for LogFlow {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        let joiners = match &config.join {
            Some(join) => Some([Joiner::new(join)?, Joiner::new(join)?]),
            None => None,
        };
        let sampler = Sampler::new(&config.sample, config.limit.as_ref())?;
        Ok(Self { joiners, sampler })
    }
}

impl Logs for LogFlow {
    fn line(&mut self, line: Line, out: &mut Vec<Line>) -> Result<(), Fault> {
        let mut records = Vec::new();
        match &mut self.joiners {
            Some(joiners) => joiners[usize::from(line.stream == Stream::Stderr)].push(line, &mut records),
            None => records.push(line),
        }
        records
            .into_iter()
            .for_each(|record| self.sampler.push(record, out));
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<Line>) -> Result<(), Fault> {
        let held = self.joiners.iter_mut().flatten().filter_map(Joiner::take);
        for record in held.collect::<Vec<_>>() {
            self.sampler.push(record, out);
        }
        self.sampler.flush(out);
        Ok(())
    }
}

capstan_sdk::export!(sidecar: logs => LogFlow);
