//! The bench of policies as components: what a decision costs, what an idle policy holds, what swaps and hostile
//! neighbours do to others. Run by `cargo xtask bench plugins`; `--quick` for a look, `--only NAME` for a part.
//!
//! Prints a table and leaves it as JSON in `target/bench-plugins.json`. Latencies are as the caller sees them.

#[path = "../../tests/hostile/attacks.rs"]
mod attacks;
mod cost;
mod harm;
mod measure;
#[path = "../../tests/review/mod.rs"]
mod review;
mod swaps;
#[path = "../../../../tests/fixtures/bad-plugins/wrap.rs"]
mod wrap;

use std::path::PathBuf;

use measure::Table;

/// What is asked of the bench.
pub(crate) struct Options {
    /// Where the built components are.
    components: PathBuf,
    /// A tenth of everything.
    quick: bool,
    only: Option<String>,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            components: PathBuf::from("target/components"),
            quick: false,
            only: None,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{argument} needs a value"))
            };
            match argument.as_str() {
                "--components" => options.components = value()?.into(),
                "--only" => options.only = Some(value()?),
                "--quick" => options.quick = true,
                _ => return Err("options: [--components DIR] [--only cost|swaps|harm] [--quick]".into()),
            }
        }
        Ok(options)
    }

    /// So many, or a tenth of it.
    fn count(&self, full: usize) -> usize {
        if self.quick { (full / 10).max(1) } else { full }
    }

    fn asks(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn main() {
    let options = match Options::parse() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            std::process::exit(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("a runtime");
    let mut table = Table::default();
    if options.asks("cost") {
        runtime.block_on(cost::measure(&options, &mut table));
    }
    if options.asks("swaps") {
        swaps::measure(&options, &runtime, &mut table);
    }
    if options.asks("harm") {
        harm::measure(&options, &runtime, &mut table);
    }
    table.write(&options.components.join("../bench-plugins.json"));
}
