//! A component's bytes: found beside its project, read, or made of a core module.

use std::fs;
use std::path::{Path, PathBuf};

use wit_component::ComponentEncoder;

use crate::building::Project;
use crate::error::Error;

/// The component that a path means: a file itself, or what `build` leaves in a project's folder.
pub(crate) fn find(path: &Path) -> Result<PathBuf, Error> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let component = Project::open(path)?.component();
    if component.exists() {
        return Ok(component);
    }
    Err(Error::Read {
        source: std::io::Error::other(format!(
            "it is not built yet; run `capstan plugin build {}`",
            path.display()
        )),
        path: component,
    })
}

/// The bytes of a component.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

/// Makes a component of a core module that carries its contract in its custom sections.
pub(crate) fn encode(path: &Path, module: &[u8]) -> Result<Vec<u8>, Error> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| encoder.encode())
        .map_err(|error| Error::Encode {
            path: path.to_owned(),
            message: format!("{error:#}"),
        })
}

/// Adds the world `plugin` of a WIT folder to a core module, as its contract.
pub(crate) fn with_world(wit: &Path, mut module: Vec<u8>) -> Result<Vec<u8>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Encode {
        path: wit.to_owned(),
        message: format!("{error:#}"),
    };
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(|error| failed(&error))?;
    let world = resolve
        .select_world(&[package], Some("plugin"))
        .map_err(|error| failed(&error))?;
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8, false)
        .map_err(|error| failed(&error))?;
    Ok(module)
}
