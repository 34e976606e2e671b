//! A component as an artifact: written as `wkg` publishes one, read more tolerantly than that.

use std::collections::BTreeMap;

use oci_client::manifest::{OciDescriptor, OciImageIndex, OciImageManifest};
use oci_spec::distribution::Reference;
use serde_json::{Value, json};

use crate::{DOCUMENT_BYTES_MAX, Digested, Error, Registry, digest_of};

/// The configuration of a Wasm artifact.
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The layer that is a component.
pub const WASM_LAYER: &str = "application/wasm";
/// What other tools call that layer.
const OTHER_LAYERS: [&str; 2] = [
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const WASM_MAGIC: &[u8] = b"\0asm";

/// A manifest and all that it names, ready to be sent or archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The manifest's text.
    pub manifest: Vec<u8>,
    /// The configuration and the layers.
    pub blobs: Vec<Vec<u8>>,
}

/// What an artifact says of its component beside its bytes.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Interfaces by name and version.
    pub imports: Vec<String>,
    /// Interfaces by name and version.
    pub exports: Vec<String>,
    /// Annotations of the manifest, such as `org.opencontainers.image.version`.
    pub annotations: BTreeMap<String, String>,
}

/// The configuration and manifest of a bare component.
pub fn documents(component: &[u8]) -> (Vec<u8>, Vec<u8>) {
    written(component, &About::default())
}

fn written(component: &[u8], about: &About) -> (Vec<u8>, Vec<u8>) {
    let layer = digest_of(component);
    let mut config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [layer],
    });
    if !about.exports.is_empty() {
        config["component"] = json!({"imports": about.imports, "exports": about.exports});
    }
    let config = config.to_string().into_bytes();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(WASM_CONFIG, &config),
        "layers": [descriptor(WASM_LAYER, component)],
    });
    if !about.annotations.is_empty() {
        manifest["annotations"] = json!(about.annotations);
    }
    (config, manifest.to_string().into_bytes())
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest_of(bytes), "size": bytes.len()})
}

impl Package {
    /// Of a component.
    pub fn of(component: Vec<u8>, about: &About) -> Self {
        let (config, manifest) = written(&component, about);
        Self {
            manifest,
            blobs: vec![config, component],
        }
    }

    /// The manifest's digest.
    pub fn digest(&self) -> String {
        digest_of(&self.manifest)
    }

    /// Sends it under a tag or its own digest.
    ///
    /// # Errors
    /// The registry's answer.
    pub async fn push(&self, registry: &Registry, reference: &Reference) -> Result<String, Error> {
        for blob in &self.blobs {
            registry.push_blob(reference, blob.clone()).await?;
        }
        registry
            .push_document(reference, self.manifest.clone(), MANIFEST)
            .await
    }
}

/// A component's manifest, and the layer in which the component is.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// The manifest by its digest: what this names never changes.
    pub pinned: Reference,
    /// The manifest itself.
    pub manifest: Digested,
    layer: OciDescriptor,
}

impl Artifact {
    /// Asks a registry what a reference means; the component is not fetched yet.
    ///
    /// # Errors
    /// The registry's answer, or that there is no component.
    pub async fn resolve(registry: &Registry, reference: &Reference) -> Result<Self, Error> {
        let mut manifest = registry.document(reference).await?;
        let mut pinned = reference.clone_with_digest(manifest.digest.clone());
        if let Some(digest) = of_index(&manifest.bytes)? {
            pinned = reference.clone_with_digest(digest);
            manifest = registry.document(&pinned).await?;
        }
        Self::of(pinned, manifest)
    }

    /// Of a manifest that is at hand.
    ///
    /// # Errors
    /// That it names no component.
    pub fn of(pinned: Reference, manifest: Digested) -> Result<Self, Error> {
        let parsed: OciImageManifest = parse("the manifest", &manifest.bytes)?;
        let is_wasm = |layer: &&OciDescriptor| {
            layer.media_type == WASM_LAYER || OTHER_LAYERS.contains(&layer.media_type.as_str())
        };
        let layer = parsed.layers.iter().find(is_wasm);
        let layer = layer.or(match parsed.layers.as_slice() {
            [only] if parsed.config.media_type == WASM_CONFIG => Some(only),
            _ => None,
        });
        let kinds = || -> String {
            let kinds: Vec<&str> = parsed.layers.iter().map(|l| l.media_type.as_str()).collect();
            format!("its layers are {}", kinds.join(", "))
        };
        let layer = layer.cloned().ok_or_else(|| Error::NoComponent(kinds()))?;
        Ok(Self {
            pinned,
            manifest,
            layer,
        })
    }

    /// `sha256:…` of the component.
    pub fn component_digest(&self) -> &str {
        &self.layer.digest
    }

    /// Fetches the component.
    ///
    /// # Errors
    /// The registry's answer, more than `max` bytes, or that it is no Wasm.
    pub async fn component(&self, registry: &Registry, max: u64) -> Result<Vec<u8>, Error> {
        let bytes = registry.small_blob(&self.pinned, &self.layer, max).await?;
        check(&bytes).map(|()| bytes)
    }
}

pub(crate) fn check(component: &[u8]) -> Result<(), Error> {
    match component.starts_with(WASM_MAGIC) {
        true => Ok(()),
        false => Err(Error::NoComponent("its layer is not Wasm".into())),
    }
}

/// The manifest to take of an index: the one for Wasm, else the only one that is no attestation.
fn of_index(document: &[u8]) -> Result<Option<String>, Error> {
    let value: Value = parse("the manifest", document)?;
    if value.get("manifests").is_none() {
        return Ok(None);
    }
    let index: OciImageIndex = parse("the index", document)?;
    let wasm = index.manifests.iter().find(|entry| {
        let platform = entry.platform.as_ref();
        platform.is_some_and(|platform| platform.architecture.to_string() == "wasm")
    });
    let chosen = wasm.or(match index.manifests.as_slice() {
        [only] => Some(only),
        _ => None,
    });
    let chosen = chosen.ok_or_else(|| Error::NoComponent("none of its manifests is for Wasm".into()))?;
    Ok(Some(chosen.digest.clone()))
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(what: &'static str, text: &[u8]) -> Result<T, Error> {
    let bound = usize::try_from(DOCUMENT_BYTES_MAX).unwrap_or(usize::MAX);
    if text.len() > bound {
        return Err(Error::DocumentTooLarge { size: text.len() });
    }
    serde_json::from_slice(text).map_err(|error| Error::Damaged {
        what,
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    fn artifact(manifest: &Value) -> Result<Artifact, Error> {
        let bytes = manifest.to_string().into_bytes();
        let digest = digest_of(&bytes);
        let pinned = reference::parse("registry.example/x").expect("a reference");
        Artifact::of(
            pinned.clone_with_digest(digest.clone()),
            Digested { digest, bytes },
        )
    }

    #[test]
    fn what_is_written_is_read_and_other_tools_forms_too() {
        let package = Package::of(b"\0asm".to_vec(), &About::default());
        let own: Value = serde_json::from_slice(&package.manifest).expect("JSON");
        let wanted = digest_of(b"\0asm");
        assert_eq!(artifact(&own).expect("an artifact").component_digest(), wanted);
        let layer = |kind: &str| json!({"mediaType": kind, "digest": wanted, "size": 4});
        let config = |kind: &str| json!({"mediaType": kind, "digest": wanted, "size": 2});
        for (config_kind, layers, found) in [
            (
                "application/vnd.oci.image.config.v1+json",
                vec![layer("text/plain"), layer(OTHER_LAYERS[0])],
                true,
            ),
            (WASM_CONFIG, vec![layer("application/octet-stream")], true),
            (
                "application/vnd.oci.image.config.v1+json",
                vec![layer("application/vnd.oci.image.layer.v1.tar")],
                false,
            ),
            (WASM_CONFIG, vec![], false),
        ] {
            let manifest = json!({"schemaVersion": 2, "config": config(config_kind), "layers": layers});
            assert_eq!(artifact(&manifest).is_ok(), found, "{manifest}");
        }
    }

    #[test]
    fn of_an_index_the_wasm_manifest_is_taken() {
        let entry = |digest: &str, architecture: &str| {
            json!({"mediaType": MANIFEST, "digest": digest, "size": 1,
                   "platform": {"architecture": architecture, "os": "linux"}})
        };
        let chosen = |entries: Vec<Value>| {
            of_index(
                json!({"schemaVersion": 2, "manifests": entries})
                    .to_string()
                    .as_bytes(),
            )
        };
        let both = chosen(vec![entry("sha256:a", "amd64"), entry("sha256:b", "wasm")]);
        assert_eq!(both.expect("one").as_deref(), Some("sha256:b"));
        let only = chosen(vec![entry("sha256:a", "amd64")]);
        assert_eq!(only.expect("one").as_deref(), Some("sha256:a"));
        assert!(chosen(vec![entry("sha256:a", "amd64"), entry("sha256:b", "arm64")]).is_err());
    }
}
