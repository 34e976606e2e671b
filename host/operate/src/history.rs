//! Revisions of a plugin: what there were, the way back to one, and the end of a trial by hand.
//!
//! A return is a change of the object's spec like any other: it goes through every step of a load, at once and without
//! a trial, with the digest of what ran. The component need not be where it came from any more: hosts keep what served.

use capstan_kinds::plugin::{Outcome, PastRevision, Plugin};
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster;
use crate::{Error, Named, Rollback};

pub(crate) async fn print(options: &Named) -> Result<(), Error> {
    let client = cluster::client(&options.reach).await?;
    let plugin = cluster::plugin(&client, &options.name).await?;
    let history = plugin.status.unwrap_or_default().history;
    println!("{:<8} {:<10} {:<20} {:<28} {:<19} REASON", "REVISION", "OUTCOME", "SINCE", "COMPONENT", "DIGEST");
    for past in &history {
        println!(
            "{:<8} {:<10} {:<20} {:<28} {:<19} {}",
            past.number,
            format!("{:?}", past.outcome),
            past.since,
            past.revision,
            past.digest.get(..19).unwrap_or(&past.digest),
            past.reason
        );
    }
    Ok(())
}

pub(crate) async fn roll_back(options: &Rollback) -> Result<(), Error> {
    let client = cluster::client(&options.reach).await?;
    let plugin = cluster::plugin(&client, &options.name).await?;
    let failed = |message: String| Error::Plugin {
        name: options.name.clone(),
        message,
    };
    let history = plugin.status.clone().unwrap_or_default().history;
    let target = target(&history, options.to).map_err(failed)?;
    let spec = target.spec.as_ref().ok_or_else(|| {
        failed(format!("revision {} was too large to be kept; apply its manifest again", target.number))
    })?;
    replace(&client, &plugin, "/spec", json!(spec)).await?;
    println!(
        "plugin {} returns to revision {} ({})",
        options.name, target.number, target.revision
    );
    Ok(())
}

/// The revision that is named, or the newest that served well and does not serve.
fn target(history: &[PastRevision], to: Option<u64>) -> Result<&PastRevision, String> {
    let numbers = || {
        let numbers: Vec<String> = history.iter().map(|past| past.number.to_string()).collect();
        numbers.join(", ")
    };
    match to {
        Some(number) => history
            .iter()
            .find(|past| past.number == number)
            .ok_or_else(|| format!("there is no revision {number}; there are: {}", numbers())),
        None => history
            .iter()
            .find(|past| past.outcome == Outcome::Superseded)
            .ok_or_else(|| format!("no earlier revision served well; there are: {}", numbers())),
    }
}

pub(crate) async fn promote(options: &Named) -> Result<(), Error> {
    let client = cluster::client(&options.reach).await?;
    let plugin = cluster::plugin(&client, &options.name).await?;
    let Some(candidate) = plugin.status.as_ref().and_then(|status| status.candidate.as_ref()) else {
        return Err(Error::Plugin {
            name: options.name.clone(),
            message: "no revision is on trial".into(),
        });
    };
    replace(&client, &plugin, "/spec/rollout/strategy", json!("Replace")).await?;
    println!("plugin {} goes on with {}", options.name, candidate.revision);
    Ok(())
}

/// Replaces a part of the object as it was read; somebody else's change meanwhile is not overwritten.
async fn replace(client: &Client, plugin: &Plugin, path: &str, value: Value) -> Result<(), Error> {
    let name = &plugin.metadata.name;
    let operations = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": plugin.metadata.resource_version },
        { "op": "replace", "path": path, "value": value },
    ]);
    let failed = |source| Error::WritePlugin {
        name: name.clone(),
        source,
    };
    let operations = serde_json::from_value(operations).map_err(|error| failed(kube::Error::SerdeError(error)))?;
    let patch = Patch::Json::<()>(operations);
    let patched = cluster::plugins(client).patch(name, &PatchParams::default(), &patch).await;
    patched.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_leads_to_what_served_well() {
        let past = |number, outcome| PastRevision {
            number,
            outcome,
            ..PastRevision::default()
        };
        let history = [
            past(5, Outcome::Serving),
            past(4, Outcome::RolledBack),
            past(3, Outcome::Superseded),
            past(2, Outcome::Superseded),
        ];
        let number = |to| target(&history, to).map(|past| past.number);
        assert_eq!(number(None), Ok(3));
        assert_eq!(number(Some(4)), Ok(4), "who names it gets it");
        assert!(number(Some(9)).is_err_and(|message| message.ends_with("5, 4, 3, 2")));
        assert!(target(&history[..2], None).is_err());
    }
}
