//! `cargo xtask bench`: what the goals are about, measured on this machine, as a table and as JSON.
//!
//! Figures that depend on the machine's speed stand beside their goal and the original's on such a machine; the
//! ratio of Wasm to native is of the same run. Each figure is the median of its runs.

mod cluster;
mod figure;
mod placement;
mod swap;

use std::path::PathBuf;

use figure::Figure;

fn main() -> anyhow::Result<()> {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let runs = if quick { 1 } else { 5 };
    let mut figures: Vec<Figure> = Vec::new();
    figures.extend(cluster::measure(runs));
    figures.extend(swap::measure(quick));
    figures.extend(placement::measure(if quick { 20 } else { 200 })?);
    print!("{}", figure::table(&figures));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench.json");
    std::fs::write(&path, figure::json(&figures))?;
    println!("\nwritten to target/bench.json");
    Ok(())
}
