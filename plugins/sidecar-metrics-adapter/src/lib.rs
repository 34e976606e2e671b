//! Translates a workload's metrics page to the Prometheus text form.
//!
//! Understood are lines of names and values, statsd's lines, and JSON, whose nested names are joined by
//! `_`. A page that is in the Prometheus form already passes as it is.

mod config;
mod page;
mod read;

pub use config::Config;

use capstan_sdk::{
    Fault, Plugin,
    sidecar::{Adapter, Endpoint, Page, StreamContext},
};
use config::Format;

/// The adapter.
pub struct MetricsAdapter(Config);

impl Plugin for MetricsAdapter {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = include_str!("../config.schema.json");

    fn new(config: Config) -> Result<Self, Fault> {
        Ok(Self(config))
    }
}

impl Adapter for MetricsAdapter {
    fn endpoints(&self) -> Vec<Endpoint> {
        self.0.endpoints.iter().map(config::Served::endpoint).collect()
    }

    fn translate(&mut self, _: &StreamContext, page: Page) -> Result<Page, Fault> {
        let content_type = "text/plain; version=0.0.4; charset=utf-8".to_owned();
        let format = match self.0.format {
            Format::Auto if page.body.lines().any(|line| line.starts_with("# TYPE ")) => {
                return Ok(Page {
                    content_type,
                    body: page.body,
                });
            }
            Format::Auto => read::guess(&page.body),
            format => format,
        };
        let samples = read::samples(format, &page.body)?;
        Ok(Page {
            content_type,
            body: page::write(&self.0, samples),
        })
    }
}

capstan_sdk::export!(sidecar: adapter => MetricsAdapter);
