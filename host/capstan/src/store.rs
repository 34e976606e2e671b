//! `capstan store …`: a member of the store by itself, with etcd's flags, and its backups.

use std::path::PathBuf;

use anyhow::Context;
use capstan_etcd::backup::{self, RestoreOptions};
use capstan_etcd::flags::{self, Arguments};
use capstan_etcd::process::{Process, keep};
use clap::{Args, Subcommand, ValueEnum};

use crate::up::{start_logging, stop_signal};

/// `store` itself runs a member; its commands work on backups.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    member: Box<Arguments>,
}

/// What can be done without a running member.
#[derive(Subcommand)]
enum Command {
    /// Look at snapshot files
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Make a data folder of a snapshot file, ours or etcd's
    Restore(Box<Restore>),
}

#[derive(Subcommand)]
enum Snapshot {
    /// Say what is in a snapshot file
    Status {
        /// The file
        file: PathBuf,
        /// Output format
        #[arg(long, short, default_value = "simple")]
        write_out: Format,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Simple,
    Json,
}

/// etcd's flags of `snapshot restore`.
#[derive(Args)]
struct Restore {
    /// The snapshot file
    file: PathBuf,
    /// Path to the data directory to make [default: ${name}.etcd]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Human-readable name for this member
    #[arg(long, default_value = "default")]
    name: String,
    /// Initial cluster configuration for restore bootstrap
    #[arg(
        long,
        default_value = "default=http://localhost:2380",
        value_name = "NAME=URL,.."
    )]
    initial_cluster: String,
    /// Tells the new cluster from others with the same URLs
    #[arg(long, default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// This member's peer URLs
    #[arg(
        long,
        default_value = "http://localhost:2380",
        value_delimiter = ',',
        value_name = "URL,.."
    )]
    initial_advertise_peer_urls: Vec<String>,
    /// Ignore the snapshot's hash (for a file copied from a data directory)
    #[arg(long)]
    skip_hash_check: bool,
    /// How much to increase the latest revision after restore
    #[arg(long, default_value_t = 0)]
    bump_revision: u64,
    /// Mark the latest revision after restore as the point of scheduled compaction
    #[arg(long)]
    mark_compacted: bool,
}

/// Carries the command out.
pub(crate) fn run(store: Store) -> anyhow::Result<()> {
    match store.command {
        None => runtime()?.block_on(member(*store.member)),
        Some(Command::Snapshot(Snapshot::Status { file, write_out })) => status(&file, write_out),
        Some(Command::Restore(options)) => runtime()?.block_on(restore(*options)),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

async fn member(arguments: Arguments) -> anyhow::Result<()> {
    start_logging(arguments.log_level.filter())?;
    let stop = stop_signal()?;
    let config = arguments.config().await?;
    let folder = config.store.dir.clone();
    let serving = |process: &Process| {
        let identity = process.store().identity();
        tracing::info!(
            name = identity.name,
            member = format!("{:x}", identity.member_id),
            cluster = format!("{:x}", identity.cluster_id),
            addresses = ?process.client_addresses(),
            "serving clients"
        );
    };
    keep(config, stop, serving)
        .await
        .with_context(|| format!("the store in {}", folder.display()))?;
    tracing::info!("stopped");
    Ok(())
}

fn status(file: &std::path::Path, format: Format) -> anyhow::Result<()> {
    let status = backup::status(file)?;
    match format {
        Format::Simple => println!(
            "{:x}, {}, {}, {}",
            status.hash,
            status.revision,
            status.total_keys,
            human(status.total_size)
        ),
        Format::Json => println!(
            "{}",
            serde_json::json!({
                "hash": status.hash,
                "revision": status.revision,
                "totalKey": status.total_keys,
                "totalSize": status.total_size,
            })
        ),
    }
    Ok(())
}

/// Bytes as etcdctl prints them: `2.1 MB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

async fn restore(options: Restore) -> anyhow::Result<()> {
    let data_dir = options
        .data_dir
        .unwrap_or_else(|| format!("{}.etcd", options.name).into());
    let restored = backup::restore(
        &options.file,
        RestoreOptions {
            data_dir,
            initial_cluster: flags::members(&options.initial_cluster)?,
            name: options.name,
            token: options.initial_cluster_token,
            peer_urls: options.initial_advertise_peer_urls,
            skip_hash_check: options.skip_hash_check,
            bump_revision: options.bump_revision,
            mark_compacted: options.mark_compacted,
        },
    );
    print!("{}", restored.await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_read_as_etcdctl_prints_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (20_480, "20 kB"),
            (2_100_000, "2.1 MB"),
            (25_000_000, "25 MB"),
        ] {
            assert_eq!(super::human(bytes), text);
        }
    }
}
