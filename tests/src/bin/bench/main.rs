//! `cargo xtask bench`: what the goals are about, measured on this machine, as a table and as JSON.
//!
//! Figures that depend on the machine's speed stand beside their goal and the original's on such a machine; the
//! ratio of Wasm to native is of the same run. Each figure is the median of its runs. `--only cluster`, `swap` or
//! `placement` measures that alone.

mod cluster;
mod figure;
mod placement;
mod swap;

use std::path::PathBuf;

use figure::Figure;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1));
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    let runs = if quick { 1 } else { 5 };
    let mut figures: Vec<Figure> = Vec::new();
    if wanted("cluster") {
        figures.extend(cluster::measure(runs));
    }
    if wanted("swap") {
        figures.extend(swap::measure(quick));
    }
    if wanted("placement") {
        figures.extend(placement::measure(if quick { 20 } else { 200 })?);
    }
    print!("{}", figure::table(&figures));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/bench.json");
    std::fs::write(&path, figure::json(&figures))?;
    println!("\nwritten to target/bench.json");
    Ok(())
}
