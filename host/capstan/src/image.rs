//! `capstan image …`: the node's image store from the command line, also beside a running cluster.

use anyhow::Context;
use capstan_runtime::Images;

use crate::arguments::{Image, ImageStore};

/// Carries the command out.
pub(crate) fn run(command: Image) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("runtime")?;
    runtime.block_on(carry_out(command))
}

async fn carry_out(command: Image) -> anyhow::Result<()> {
    match command {
        Image::Load { path, name, store } => {
            let image = open(&store)?.load(&path, name.as_deref()).await?;
            println!("{}", image.repo_tags.first().unwrap_or(&image.id));
        }
        Image::List { store } => {
            println!("{:<50} {:<20} {:>12}", "IMAGE", "ID", "BYTES");
            for image in open(&store)?.list().await? {
                let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
                for tag in &image.repo_tags {
                    println!("{tag:<50} {id:<20} {:>12}", image.size_bytes);
                }
            }
        }
        Image::Remove { reference, store } => open(&store)?.remove(&reference).await?,
    }
    Ok(())
}

fn open(store: &ImageStore) -> anyhow::Result<Images> {
    let folder = store.data_dir.join("images");
    Images::open(&folder).with_context(|| format!("the image store in {}", folder.display()))
}
