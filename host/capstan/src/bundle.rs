//! What is embedded in the binary: the default plugins, their manifests, the demonstration workloads.

use std::borrow::Cow;

use anyhow::Context;
use capstan_kinds::plugin::Plugin;
use capstan_plugin::Precompiled;

include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// Package names of demonstration workloads begin so; the rest are plugins.
const WORKLOAD: &str = "capstan-";

/// Registry of the bundled images: `capstan.dev/hello-http:1`.
const IMAGES: &str = "capstan.dev";

/// Components of plugins, by the name that `source.bundled` gives.
pub(crate) fn plugins() -> Vec<(String, Cow<'static, [u8]>)> {
    let plugins = COMPONENTS.iter().filter(|(name, _)| !name.starts_with(WORKLOAD));
    plugins
        .map(|&(name, bytes)| (name.to_owned(), Cow::Borrowed(bytes)))
        .collect()
}

/// The plugins in compiled form, where the build had them.
pub(crate) fn precompiled() -> Precompiled {
    PRECOMPILED
        .iter()
        .map(|&(name, bytes)| (name.to_owned(), Cow::Borrowed(bytes)))
        .collect()
}

/// Leaves the default plugins in compiled form in the folder, for the next build to embed. The library's others
/// are embedded as they are, a quarter of the size, and compiled when a cluster first loads them.
///
/// # Errors
/// When one does not compile, or the folder cannot be written.
pub(crate) fn precompile(folder: &std::path::Path) -> anyhow::Result<()> {
    let defaults = defaults()?;
    let is_default = |name: &str| {
        let mut sources = defaults
            .iter()
            .map(|plugin| plugin.spec.source.bundled.as_deref());
        sources.any(|source| source == Some(name))
    };
    let wanted = plugins().into_iter().filter(|(name, _)| is_default(name));
    Ok(capstan_plugin::precompile(folder, &wanted.collect())?)
}

/// Components of workloads, by image reference.
pub(crate) fn images() -> Vec<(String, Cow<'static, [u8]>)> {
    COMPONENTS
        .iter()
        .filter_map(|&(name, bytes)| {
            let workload = name.strip_prefix(WORKLOAD)?;
            Some((format!("{IMAGES}/{workload}:1"), Cow::Borrowed(bytes)))
        })
        .collect()
}

/// The Plugin objects of a fresh cluster.
///
/// # Errors
/// When this binary was built without one of their components.
pub(crate) fn defaults() -> anyhow::Result<Vec<Plugin>> {
    let mut defaults = Vec::with_capacity(DEFAULTS.len());
    for (name, manifest) in DEFAULTS {
        let plugin: Plugin =
            serde_norway::from_str(manifest).with_context(|| format!("plugins/{name}/plugin.yaml"))?;
        let source = plugin.spec.source.bundled.as_deref().unwrap_or_default();
        if !COMPONENTS.iter().any(|(component, _)| *component == source) {
            anyhow::bail!(
                "this binary was built without the plugin {source:?}; build it with `cargo xtask build`, \
                 which builds the plugins first"
            );
        }
        defaults.push(plugin);
    }
    Ok(defaults)
}
