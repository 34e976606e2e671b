//! `cargo xtask bench scheduler`: the shapes of the original's scheduler_perf, first as cycles alone, then through the
//! API server and store of a whole cluster.
//!
//! Prints pods a second, the median and 99th percentile of an attempt or of creation to binding, and memory; the ratio
//! of components to the same policies compiled natively in the same run; what one more component costs; the cost of a
//! cycle by the number of nodes. All of it goes to target/bench-scheduler.json too. The original end to end on a 2-core
//! machine: basic 339 pods a second, required anti-affinity 70, affinity by zone 59, spread by zone 58.

mod cycle;
mod end_to_end;
mod native;
mod native_facts;
mod report;
mod shapes;

use clap::Parser;

/// Measures the scheduler; prints a table.
#[derive(Debug, Parser)]
#[command(name = "bench_scheduler")]
struct Options {
    /// Fewer pods: ends within 50 s
    #[arg(long)]
    quick: bool,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 5_000)]
    nodes: usize,
    /// This part alone: cycle, custom, nodes or end-to-end
    #[arg(long)]
    part: Option<String>,
    /// This shape alone, by its name
    #[arg(long)]
    shape: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let divisor = if options.quick { 10 } else { 1 };
    let wanted = |part: &str| options.part.as_deref().is_none_or(|only| only == part);
    let shape = options.shape.as_deref();
    let mut rows = Vec::new();
    report::heads("the cycle alone");
    if wanted("cycle") {
        rows.extend(cycle::measure(options.nodes, divisor, shape)?);
    }
    if wanted("custom") {
        rows.extend(cycle::custom(options.nodes, divisor)?);
    }
    if wanted("nodes") {
        rows.extend(cycle::by_nodes(divisor)?);
    }
    if wanted("end-to-end") {
        report::heads("end to end");
        // Each shape needs a cluster with all its nodes: a quick run shows the first one.
        let shape = shape.or(options.quick.then_some("basic"));
        rows.extend(end_to_end::measure(options.nodes, divisor, shape)?);
    }
    let path = capstan_tests::root().join("target/bench-scheduler.json");
    std::fs::write(&path, report::json(&rows))?;
    println!("\nwritten to target/bench-scheduler.json");
    Ok(())
}
