//! The component that does nothing: what a call costs before the plugin does anything.
//!
//! Made for the interfaces that another component exports, so that it is asked the same. A scheduler policy's
//! stands without scores, whose column it would have to fill.

use std::path::Path;

use crate::component;
use crate::error::Error;
use crate::project::FILES;

/// What every such module holds.
const PRELUDE: &str = include_str!("../nothing/prelude.wat");
/// Bodies by interface.
const BODIES: [(&str, &str); 7] = [
    ("admission/validate", include_str!("../nothing/validate.wat")),
    ("admission/mutate", include_str!("../nothing/mutate.wat")),
    ("problem/monitor", include_str!("../nothing/monitor.wat")),
    ("remedy/decide", include_str!("../nothing/decide.wat")),
    ("sidecar/logs", include_str!("../nothing/logs.wat")),
    ("sidecar/adapter", include_str!("../nothing/adapter.wat")),
    ("scheduler/filter", include_str!("../nothing/filter.wat")),
];
/// The import that drops a request's documents.
const DROP: &str =
    "(import \"capstan:admission/documents@0.1.0\" \"[resource-drop]document\" (func $drop (param i32)))";

/// The component for these exports; a scheduler policy that only scores is compared with one that filters.
pub(crate) fn component(exports: &[String]) -> Result<Vec<u8>, Error> {
    let has = |interface: &str| exports.iter().any(|export| export == interface);
    let scores = exports.iter().any(|export| export.starts_with("scheduler/"));
    let wanted = |interface: &str| has(interface) || interface == "scheduler/filter" && scores;
    let mut world = String::from("export capstan:plugin/guest@0.1.0;");
    let (mut imports, mut bodies) = ("", String::new());
    for (interface, body) in BODIES.iter().filter(|(interface, _)| wanted(interface)) {
        world.push_str(&format!(" export capstan:{interface}@0.1.0;"));
        bodies.push_str(body);
        if interface.starts_with("admission/") {
            imports = DROP;
        }
    }
    if !imports.is_empty() {
        world.push_str(" import capstan:admission/documents@0.1.0;");
    }
    let text = format!("(module {imports}\n{PRELUDE}\n{bodies})");
    let failed = |message: String| Error::Encode {
        path: Path::new("the component that does nothing").to_owned(),
        message,
    };
    let mut module = wat::parse_str(text).map_err(|error| failed(error.to_string()))?;
    let mut resolve = wit_parser::Resolve::default();
    let contracts = FILES.iter().filter(|(path, _)| path.starts_with("wit/"));
    let mut contracts: Vec<(&str, &str)> = contracts.copied().collect();
    // The package that all others use comes first.
    contracts.sort_by_key(|(path, _)| *path != "wit/plugin/plugin.wit");
    for (path, text) in contracts {
        resolve
            .push_str(path, text)
            .map_err(|error| failed(format!("{error:#}")))?;
    }
    let package = format!("package capstan:nothing; world plugin {{ {world} }}");
    let package = resolve
        .push_str("nothing.wit", &package)
        .map_err(|error| failed(format!("{error:#}")))?;
    let world = resolve
        .select_world(&[package], Some("plugin"))
        .map_err(|error| failed(format!("{error:#}")))?;
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8, false)
        .map_err(|error| failed(format!("{error:#}")))?;
    component::encode(Path::new("the component that does nothing"), &module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_has_its_component() {
        for (interface, _) in BODIES {
            let bytes =
                component(&[interface.to_owned()]).unwrap_or_else(|error| panic!("{interface}: {error}"));
            assert!(bytes.len() > 100, "{interface}");
        }
        let all: Vec<String> = BODIES
            .iter()
            .map(|(interface, _)| (*interface).to_owned())
            .collect();
        component(&all).expect("all at once");
    }
}
