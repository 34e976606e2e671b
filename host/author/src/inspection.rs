//! `plugin inspect`: what a component is, needs and takes, and what changed against another version.
//!
//! A Plugin manifest adds what it grants. Changes that reach further than before are marked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use capstan_kinds::plugin::{Capability, Plugin};
use capstan_plugin::About;
use serde_json::Value;

use crate::error::Error;
use crate::rig::Rig;
use crate::{Inspect, component, distribution};

/// A component and what a manifest grants it.
struct Subject {
    about: About,
    grants: Option<Vec<Capability>>,
}

/// Prints it, and the changes where another version is named.
pub(crate) fn run(options: &Inspect) -> Result<(), Error> {
    let (older, newest) = match options.components.as_slice() {
        [only] => (options.against.as_ref(), only),
        [older, newest, ..] => (Some(older), newest),
        [] => return Ok(()),
    };
    let subject = open(newest)?;
    print!("{}", describe(&subject));
    if let Some(other) = older {
        let changes = changes(&open(other)?, &subject);
        println!("changed against {other}:");
        if changes.is_empty() {
            println!("  nothing");
        }
        for change in changes {
            println!("  {change}");
        }
    }
    Ok(())
}

fn open(what: &str) -> Result<Subject, Error> {
    let path = Path::new(what);
    let is_manifest = path
        .extension()
        .is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
    if !is_manifest {
        let found = distribution::Subject::open(what)?;
        let about = Rig::with(&found.path(), found.component)?.about;
        return Ok(Subject { about, grants: None });
    }
    let bad = |message: String| Error::Cases {
        path: path.to_owned(),
        message,
    };
    let text = component::read(path)?;
    let plugin: Plugin = serde_norway::from_slice(&text).map_err(|error| bad(error.to_string()))?;
    let file = plugin.spec.source.file.as_deref();
    let file = file.ok_or_else(|| bad("spec.source.file names no component to look at".into()))?;
    let beside: PathBuf = path.parent().unwrap_or(Path::new(".")).join(file);
    let about = Rig::open(&beside)?.about;
    Ok(Subject {
        about,
        grants: Some(plugin.spec.capabilities),
    })
}

fn describe(subject: &Subject) -> String {
    let about = &subject.about;
    let list = |items: &[String]| match items {
        [] => "nothing".to_owned(),
        items => items.join(", "),
    };
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<12} {value}\n"));
    line("name", &about.name);
    line("version", &about.version);
    line("summary", &about.summary);
    line("worlds", &list(&about.worlds));
    line("exports", &list(&about.exports));
    line("imports", &list(&about.imports));
    let needs: Vec<String> = about
        .needs()
        .into_iter()
        .map(|need| format!("{need}: {}", reach(need)))
        .collect();
    line("needs", &list(&needs));
    if let Some(grants) = &subject.grants {
        let granted: BTreeSet<String> = grants.iter().flat_map(reaches).collect();
        line("granted", &list(&granted.into_iter().collect::<Vec<_>>()));
    }
    line("digest", &about.digest);
    line("size", &format!("{} bytes", about.size_bytes));
    line("memory", &format!("{} bytes once described", about.memory_bytes));
    line("config", &about.config_schema);
    text
}

/// What a capability lets a plugin do, in words.
fn reach(capability: &str) -> &'static str {
    match capability {
        "log" => "writes to the host's log",
        "clock" => "reads the time",
        "random" => "takes random numbers",
        "metrics" => "writes metrics",
        "kube-read" => "reads objects of the cluster",
        "node-files" => "reads files of the node",
        "node-logs" => "follows logs of the node",
        _ => "unknown to this host",
    }
}

/// What a grant opens, a text each.
fn reaches(capability: &Capability) -> Vec<String> {
    let Capability {
        name,
        resources,
        namespaces,
        paths,
    } = capability;
    let place = match namespaces.as_slice() {
        [] => "all namespaces".to_owned(),
        some => some.join(", "),
    };
    match name.as_str() {
        "kube-read" => resources
            .iter()
            .map(|r| format!("reads {r} in {place}"))
            .collect(),
        "node-files" | "node-logs" => paths.iter().map(|p| format!("{} {p}", reach(name))).collect(),
        _ => vec![reach(name).to_owned()],
    }
}

/// What the newer does that the older did not, and the reverse.
fn changes(older: &Subject, newer: &Subject) -> Vec<String> {
    let (old, new) = (&older.about, &newer.about);
    let mut changes = Vec::new();
    if (&old.name, &old.version) != (&new.name, &new.version) {
        changes.push(format!(
            "was {} {}, is {} {}",
            old.name, old.version, new.name, new.version
        ));
    }
    let mut sets = |what: &str, old: BTreeSet<String>, new: BTreeSet<String>| {
        changes.extend(new.difference(&old).map(|item| format!("newly {what}{item}")));
        changes.extend(old.difference(&new).map(|item| format!("no longer {what}{item}")));
    };
    let set = |items: &[String]| items.iter().cloned().collect::<BTreeSet<_>>();
    let needs = |about: &About| {
        about
            .needs()
            .into_iter()
            .map(|need| reach(need).to_owned())
            .collect()
    };
    sets("exports ", set(&old.exports), set(&new.exports));
    sets("", needs(old), needs(new));
    if let (Some(old), Some(new)) = (&older.grants, &newer.grants) {
        let reached = |grants: &[Capability]| grants.iter().flat_map(reaches).collect();
        sets("granted: ", reached(old), reached(new));
    }
    let fields = |about: &About| -> BTreeSet<String> {
        let schema: Value = serde_json::from_str(&about.config_schema).unwrap_or_default();
        let fields = schema["properties"].as_object();
        fields
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect()
    };
    sets("takes config ", fields(old), fields(new));
    if fields(old) == fields(new) && old.config_schema != new.config_schema {
        changes.push("its config schema differs".into());
    }
    if old.digest == new.digest {
        return changes;
    }
    let grown = new.size_bytes as i128 - old.size_bytes as i128;
    changes.push(format!("{grown:+} bytes, now {}", new.digest));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(version: &str, imports: &[&str], resources: &[&str], schema: &str) -> Subject {
        let about = About {
            name: "x".into(),
            version: version.into(),
            config_schema: schema.into(),
            digest: version.into(),
            imports: imports.iter().map(|i| (*i).to_owned()).collect(),
            ..About::default()
        };
        let grants = vec![Capability {
            name: "kube-read".into(),
            resources: resources.iter().map(|r| (*r).to_owned()).collect(),
            ..Capability::default()
        }];
        Subject {
            about,
            grants: Some(grants),
        }
    }

    #[test]
    fn what_reaches_further_is_told() {
        let old = subject(
            "1.0.0",
            &["capstan:plugin/log@0.1.0"],
            &["pods"],
            r#"{"properties": {"a": {}}}"#,
        );
        let new = subject(
            "1.1.0",
            &["capstan:plugin/kube-read@0.1.0", "capstan:plugin/types@0.1.0"],
            &["pods", "secrets"],
            r#"{"properties": {"b": {}}}"#,
        );
        let told = changes(&old, &new).join("\n");
        for wanted in [
            "was x 1.0.0, is x 1.1.0",
            "newly reads objects of the cluster",
            "no longer writes to the host's log",
            "newly granted: reads secrets in all namespaces",
            "newly takes config b",
            "no longer takes config a",
        ] {
            assert!(told.contains(wanted), "{wanted} is missing in\n{told}");
        }
        assert!(changes(&old, &old).is_empty());
    }
}
