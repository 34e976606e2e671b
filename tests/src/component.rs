use std::path::PathBuf;

use anyhow::Context;

/// Path of a component that `cargo xtask components` built.
///
/// # Panics
/// When it is not there.
pub fn component(package: &str) -> PathBuf {
    let path = crate::cluster::root()
        .join("target/components")
        .join(package)
        .with_extension("wasm");
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask components`",
        path.display()
    );
    path
}

/// Makes a component of a core module in text form whose WIT world is `world` in the folders `wit`.
///
/// # Errors
/// When the text or the world makes no sense together.
pub fn componentize(wat: &str, wit: &[&str], world: &str) -> anyhow::Result<Vec<u8>> {
    let mut resolve = wit_parser::Resolve::default();
    let mut package = None;
    for folder in wit {
        let path = crate::cluster::root().join("wit").join(folder);
        package = Some(
            resolve
                .push_path(&path)
                .with_context(|| format!("{}", path.display()))?
                .0,
        );
    }
    let world = resolve.select_world(&[package.context("no WIT folder")?], Some(world))?;
    let mut module = wat::parse_str(wat)?;
    wit_component::embed_component_metadata(
        &mut module,
        &resolve,
        world,
        wit_component::StringEncoding::UTF8,
        false,
    )?;
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)?
        .encode()
}
