//! Signatures beside an artifact in its registry, in the two forms that the Sigstore tools leave.
//!
//! The newer: a bundle, as an artifact that refers to the signed manifest (the referrers API, or its fallback tag).
//! The older: a signed statement about the manifest under the tag `sha256-HEX.sig`. Nothing is verified here.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use oci_client::manifest::{OciDescriptor, OciImageIndex, OciImageManifest};
use oci_spec::distribution::Reference;
use serde_json::{Value, json};

use crate::component::{Artifact, INDEX, MANIFEST, Package, descriptor, parse};
use crate::{Digested, Error, Registry};

/// Signatures of one artifact that are looked at.
const SIGNATURES_MAX: usize = 16;
/// Bytes of a bundle or a statement.
const SIGNATURE_BYTES_MAX: u64 = 256 << 10;
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// How the bundle's type begins in every version.
pub(crate) const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const STATEMENT_SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A signature as it was found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Signature {
    /// A Sigstore bundle over the component.
    Bundle(String),
    /// A statement that names a manifest by its digest, and the signature over it.
    Statement {
        /// The statement's text.
        payload: Vec<u8>,
        /// Over the payload, in DER.
        signature: Vec<u8>,
        /// The manifest, which names the component.
        manifest: Vec<u8>,
    },
}

/// All signatures that lie beside an artifact.
///
/// # Errors
/// The registry's answer; a registry without any gives none.
pub async fn find(registry: &Registry, artifact: &Artifact) -> Result<Vec<Signature>, Error> {
    let mut found = Vec::new();
    for entry in registry.referrers(&artifact.pinned).await?.manifests {
        let kind = entry.artifact_type.as_deref().unwrap_or_default();
        if kind.starts_with(BUNDLE_PREFIX) && found.len() < SIGNATURES_MAX {
            let manifest = registry
                .document(&artifact.pinned.clone_with_digest(entry.digest))
                .await?;
            collect(registry, artifact, &manifest, &mut found).await?;
        }
    }
    match registry.document(&statement_tag(&artifact.pinned)).await {
        Ok(manifest) => collect(registry, artifact, &manifest, &mut found).await?,
        Err(Error::Missing(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

async fn collect(
    registry: &Registry,
    artifact: &Artifact,
    manifest: &Digested,
    found: &mut Vec<Signature>,
) -> Result<(), Error> {
    let parsed: OciImageManifest = parse("a signature's manifest", &manifest.bytes)?;
    for layer in &parsed.layers {
        if found.len() >= SIGNATURES_MAX {
            break;
        }
        if let Some(kind) = Kind::of(layer) {
            let bytes = registry
                .small_blob(&artifact.pinned, layer, SIGNATURE_BYTES_MAX)
                .await?;
            found.extend(kind.read(bytes, &artifact.manifest.bytes));
        }
    }
    Ok(())
}

/// What a layer of a signature's manifest is.
pub(crate) enum Kind {
    Bundle,
    /// With the signature.
    Statement(Vec<u8>),
}

impl Kind {
    pub(crate) fn of(layer: &OciDescriptor) -> Option<Self> {
        if layer.media_type.starts_with(BUNDLE_PREFIX) {
            return Some(Self::Bundle);
        }
        let annotations = layer.annotations.as_ref()?;
        let signature = annotations.get(STATEMENT_SIGNATURE)?;
        BASE64_STANDARD.decode(signature).ok().map(Self::Statement)
    }

    pub(crate) fn read(self, bytes: Vec<u8>, manifest: &[u8]) -> Option<Signature> {
        Some(match self {
            Self::Bundle => Signature::Bundle(String::from_utf8(bytes).ok()?),
            Self::Statement(signature) => Signature::Statement {
                payload: bytes,
                signature,
                manifest: manifest.to_vec(),
            },
        })
    }
}

/// A bundle as an artifact that refers to the signed one.
pub(crate) fn bundle_package(subject: &[u8], bundle: &str) -> Package {
    let (empty, bundle) = (b"{}".to_vec(), bundle.as_bytes().to_vec());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": descriptor(EMPTY, &empty),
        "layers": [descriptor(BUNDLE, &bundle)],
        "subject": descriptor(MANIFEST, subject),
    });
    Package {
        manifest: manifest.to_string().into_bytes(),
        blobs: vec![empty, bundle],
    }
}

/// Leaves a bundle beside an artifact.
///
/// # Errors
/// The registry's answer.
pub async fn push_bundle(registry: &Registry, artifact: &Artifact, bundle: &str) -> Result<(), Error> {
    let package = bundle_package(&artifact.manifest.bytes, bundle);
    let digest = package.digest();
    let pinned = artifact.pinned.clone_with_digest(digest.clone());
    package.push(registry, &pinned).await?;
    let known = registry.referrers(&artifact.pinned).await?;
    if known.manifests.iter().any(|entry| entry.digest == digest) {
        return Ok(());
    }
    // A registry without the referrers API: the list is a tag that clients keep.
    let tag = artifact.manifest.digest.replace(':', "-");
    registry
        .push_document(
            &tagged(&artifact.pinned, &tag),
            index_with(&known, &package)?,
            INDEX,
        )
        .await
        .map(drop)
}

fn index_with(known: &OciImageIndex, package: &Package) -> Result<Vec<u8>, Error> {
    let mut entries = match serde_json::to_value(&known.manifests) {
        Ok(Value::Array(entries)) => entries,
        Ok(_) => Vec::new(),
        Err(error) => {
            return Err(Error::Damaged {
                what: "the list of referrers",
                message: error.to_string(),
            });
        }
    };
    let mut entry = descriptor(MANIFEST, &package.manifest);
    entry["artifactType"] = json!(BUNDLE);
    entries.push(entry);
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    Ok(index.to_string().into_bytes())
}

/// What is signed in the older form: that the manifest of this digest is meant.
pub fn statement(pinned: &Reference, manifest_digest: &str) -> Vec<u8> {
    let name = crate::reference::repository(pinned);
    json!({
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": manifest_digest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}

/// Leaves a signed statement beside an artifact, after those that are there.
///
/// # Errors
/// The registry's answer.
pub async fn push_statement(
    registry: &Registry,
    artifact: &Artifact,
    payload: Vec<u8>,
    signature: &[u8],
) -> Result<(), Error> {
    let tag = statement_tag(&artifact.pinned);
    let mut layers = match registry.document(&tag).await {
        Ok(manifest) => parse::<OciImageManifest>("a signature's manifest", &manifest.bytes)?.layers,
        Err(Error::Missing(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let digest = registry.push_blob(&tag, payload.clone()).await?;
    layers.push(OciDescriptor {
        media_type: STATEMENT.into(),
        digest,
        size: i64::try_from(payload.len()).unwrap_or(i64::MAX),
        annotations: Some(BTreeMap::from([(
            STATEMENT_SIGNATURE.to_owned(),
            BASE64_STANDARD.encode(signature),
        )])),
        ..OciDescriptor::default()
    });
    let digests: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let config = json!({"architecture": "", "os": "", "created": "0001-01-01T00:00:00Z", "config": {},
                        "rootfs": {"type": "layers", "diff_ids": digests}});
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers,
    });
    registry.push_blob(&tag, config).await?;
    let manifest = manifest.to_string().into_bytes();
    registry.push_document(&tag, manifest, MANIFEST).await.map(drop)
}

fn statement_tag(pinned: &Reference) -> Reference {
    let hex = pinned.digest().unwrap_or_default().replace(':', "-");
    tagged(pinned, &format!("{hex}.sig"))
}

fn tagged(reference: &Reference, tag: &str) -> Reference {
    Reference::with_tag(
        reference.registry().to_owned(),
        reference.repository().to_owned(),
        tag.to_owned(),
    )
}
