//! `plugin new`: a project from an empty folder, with the guest library and the contracts beside it.
//!
//! What is written is embedded in the binary, so that the contracts are those of this host and nothing but the
//! language's own tools is fetched. Invariant: a folder that holds anything is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::New;
use crate::error::Error;

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What a Rust project needs beside its template when it stands outside of a workspace.
const RUST_PROFILE: &str = "
[profile.release] # small and fast: a plugin is one whole program
lto = true
codegen-units = 1
panic = \"abort\"
strip = \"debuginfo\"

[workspace]
";
/// Length of a plugin's name: that of a Kubernetes object's label.
const NAME_LENGTH_MAX: usize = 63;

/// Writes the project and says how to go on.
pub(crate) fn create(options: &New) -> Result<(), Error> {
    let name = name(&options.folder)?;
    let files = files(&options.language, &options.world, &name)?;
    let folder = &options.folder;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::NotEmpty(folder.clone()));
    }
    for (path, text) in files {
        write(&folder.join(path), &text)?;
    }
    let shown = folder.display();
    println!(
        "wrote {shown}: a plugin of the {} world in {}",
        options.world, options.language
    );
    println!("  capstan plugin build {shown}    makes {shown}/{name}.wasm");
    println!("  capstan plugin test {shown}     asks it the questions of {shown}/cases.yaml");
    println!("  kubectl apply -f {shown}/plugin.yaml");
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

fn name(folder: &Path) -> Result<String, Error> {
    let absolute = std::path::absolute(folder).map_err(|source| Error::Write {
        path: folder.to_owned(),
        source,
    })?;
    let name = absolute
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let starts = name.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    let words = name
        .split('-')
        .all(|word| !word.is_empty() && word.chars().all(is_letter));
    if starts && words && name.len() <= NAME_LENGTH_MAX {
        return Ok(name);
    }
    Err(Error::Name(name))
}

/// The folder of a language in `sdk/`.
fn canonical(language: &str) -> &str {
    match language {
        "js" | "javascript" | "typescript" => "js",
        "py" => "python",
        other => other,
    }
}

/// The project's files by their path in it.
fn files(language: &str, world: &str, name: &str) -> Result<Vec<(PathBuf, String)>, Error> {
    let language = canonical(language);
    let template = format!("sdk/{language}/templates/{world}/");
    let library = format!("sdk/{language}/");
    let mut files = Vec::new();
    for (path, text) in FILES {
        if let Some(place) = path.strip_prefix(&template) {
            let text = text.replace(&format!("my-{world}"), name);
            let text = match place {
                "Cargo.toml" => rust_manifest(&text),
                _ => text,
            };
            files.push((place.into(), text));
        } else if path.starts_with(&library) && !path.starts_with(&format!("{library}templates/")) {
            files.push((Path::new("capstan").join(path), (*text).to_owned()));
        } else if let Some(contract) = path.strip_prefix("wit/") {
            // The Rust library reads the contracts from where they lie in this repository; the tools of the other
            // languages, from a folder's `deps`.
            let place = match language {
                "rust" => Path::new("capstan").join(path),
                _ => Path::new("wit/deps").join(contract),
            };
            files.push((place, (*text).to_owned()));
        }
    }
    if files.iter().any(|(path, _)| path == Path::new("cases.yaml")) {
        return Ok(files);
    }
    Err(Error::Template {
        language: language.to_owned(),
        world: world.to_owned(),
        known: known(),
    })
}

fn rust_manifest(text: &str) -> String {
    let mut manifest: String = text
        .lines()
        .map(|line| match line.starts_with("capstan-sdk = ") {
            true => "capstan-sdk = { path = \"capstan/sdk/rust\" }\n".to_owned(),
            false => format!("{line}\n"),
        })
        .collect();
    manifest.push_str(RUST_PROFILE);
    manifest
}

/// `language/world` of every template.
fn known() -> String {
    let templates: BTreeSet<String> = FILES
        .iter()
        .filter_map(|(path, _)| path.strip_prefix("sdk/")?.split_once("/templates/"))
        .filter_map(|(language, rest)| Some(format!("{language}/{}", rest.split_once('/')?.0)))
        .collect();
    templates.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_makes_a_whole_project() {
        for template in known().split(", ") {
            let (language, world) = template.split_once('/').expect("language/world");
            let files =
                files(language, world, "my-own").unwrap_or_else(|error| panic!("{template}: {error}"));
            for wanted in ["cases.yaml", "plugin.yaml"] {
                assert!(
                    files.iter().any(|(path, _)| path == Path::new(wanted)),
                    "{template}: {wanted}"
                );
            }
            let old = files
                .iter()
                .find(|(_, text)| text.contains(&format!("my-{world}")));
            assert!(old.is_none(), "{template}: {old:?}");
        }
    }

    #[test]
    fn names_are_checked() {
        for (folder, right) in [
            ("/tmp/rack-spread", true),
            ("rack2", true),
            ("/tmp/Rack", false),
            ("rack_spread", false),
            ("-rack", false),
            ("rack--spread", false),
            ("2rack", false),
            ("/", false),
        ] {
            assert_eq!(name(Path::new(folder)).is_ok(), right, "{folder}");
        }
    }

    #[test]
    fn a_template_that_is_not_there_names_those_that_are() {
        let message = files("rust", "cloud", "x")
            .expect_err("no such world")
            .to_string();
        assert!(message.contains("rust/admission"), "{message}");
    }
}
