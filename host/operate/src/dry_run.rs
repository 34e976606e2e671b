//! What a policy would refuse of all that a cluster has today, before it is loaded there.
//!
//! The component runs here, in a host of its own, with its limits and grants; objects come from the cluster, by the
//! user's own rights. Every object that the binding covers is judged as if it were created now. Nothing is written.

use std::fs;

use capstan_kinds::plugin::Plugin;
use capstan_plugin::{Bundled, Host, Options, Survey};

use crate::cluster;
use crate::{DryRun, Error};

pub(crate) async fn run(options: &DryRun, bundled: Bundled) -> Result<(), Error> {
    let failed = |message: String| Error::Manifest {
        path: options.file.clone(),
        message,
    };
    let text = fs::read_to_string(&options.file).map_err(|error| failed(error.to_string()))?;
    let mut plugin: Plugin = serde_norway::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let Some(bind) = &mut plugin.spec.bind.admission else {
        return Err(failed("it binds no admission policy (spec.bind.admission)".into()));
    };
    // What it would refuse is the question, in whatever mode it is to be loaded.
    bind.mode = capstan_kinds::plugin::Mode::Enforce;
    let rules = bind.rules.clone();
    let client = cluster::client(&options.reach).await?;
    let folder = tempfile::tempdir().map_err(Error::Folder)?;
    let host = Host::open(Options {
        cache_dir: folder.path().to_owned(),
        bundled,
        name: "dry-run".into(),
        ..Options::default()
    })?;
    host.set_client(client.clone());
    let loading = std::sync::Arc::clone(&host);
    let loaded = tokio::task::spawn_blocking(move || loading.load(&plugin));
    loaded.await.map_err(|error| Error::Runtime(error.into()))??;
    let seats = host.admission_seats().borrow().clone();
    let survey = Survey::of(&client, &seats, &rules).await.map_err(Error::Walk)?;
    for finding in &survey.findings {
        println!("{}: {}", finding.place(), finding.message);
    }
    for fault in &survey.faults {
        println!("could not be judged: {fault}");
    }
    println!("{}", survey.summary());
    Ok(())
}
