//! Serves the API alone from a temporary store, for trying clients against it:
//! `cargo run -p capstan-api --example serve`, then `export KUBECONFIG=` the printed path.
#![allow(clippy::unwrap_used)]

#[path = "../tests/rig/mod.rs"]
mod rig;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let rig = rig::Rig::start().await;
    println!("{}", rig.kubeconfig.display());
    tokio::signal::ctrl_c().await?;
    rig.stop().await;
    Ok(())
}
