//! Where a component's bytes and its configuration come from.
//!
//! Reads are bounded in size; what comes from the cluster is bounded in time. Called by `revision`, never
//! from an asynchronous task's own thread while it matters: the wait blocks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use capstan_kinds::plugin::{ConfigMapKey, ObjectPart, PluginSpec, Source};
use capstan_registry::Signature;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::artifact;
use crate::cache::hex;
use crate::error::{LoadError, Step};
use crate::follow;
use crate::services::{Api, Services};
use crate::shelf::Shelf;

/// Bytes of a component.
const COMPONENT_BYTES_MAX: u64 = 32 << 20;
/// Bytes of a signature.
const BUNDLE_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a configuration.
const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Wall time of one read of a ConfigMap.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Components that are embedded in the binary, by name.
pub type Bundled = BTreeMap<String, Cow<'static, [u8]>>;

/// A component's bytes, and what they are called.
pub(crate) struct Fetched<'a> {
    pub(crate) bytes: Cow<'a, [u8]>,
    pub(crate) digest: String,
    /// Signatures that lie beside its file or artifact.
    pub(crate) signatures: Vec<Signature>,
}

/// What components are fetched with.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) bundled: &'a Bundled,
    pub(crate) shelf: &'a Shelf,
    pub(crate) services: &'a Services,
}

/// Fetches the component and compares its digest with the one that is asked for. Where the source has it no longer,
/// one that served here before is found by its digest. `signed` says whether a signature must lie beside it.
pub(crate) fn component<'a>(
    spec: &PluginSpec,
    sources: Sources<'a>,
    signed: bool,
) -> Result<Fetched<'a>, LoadError> {
    let fetched = fetched(spec, sources, signed);
    let digest = spec.digest.as_ref().filter(|_| spec.source.bundled.is_none());
    match (fetched, digest) {
        (Err(error @ (LoadError::Fetch { .. } | LoadError::Digest { .. })), Some(digest)) => {
            let (bytes, signatures) = sources.shelf.find(digest).ok_or(error)?;
            Ok(Fetched {
                bytes: Cow::Owned(bytes),
                digest: digest.clone(),
                signatures,
            })
        }
        (fetched, _) => fetched,
    }
}

fn fetched<'a>(
    spec: &PluginSpec,
    Sources {
        bundled,
        shelf,
        services,
    }: Sources<'a>,
    signed: bool,
) -> Result<Fetched<'a>, LoadError> {
    let name = describe(&spec.source)?;
    let beside = |path: &str| bundle_beside(path).map(Signature::Bundle).into_iter().collect();
    let (bytes, signatures) = match &spec.source {
        Source {
            bundled: Some(name), ..
        } => (
            Cow::Borrowed(&**bundled.get(name).ok_or_else(|| {
                let known: Vec<&str> = bundled.keys().map(String::as_str).collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                fetch(
                    "spec.source.bundled",
                    format!("no component {name:?} is bundled; there are: {known}"),
                )
            })?),
            Vec::new(),
        ),
        Source { file: Some(path), .. } => (Cow::Owned(file(path)?), beside(path)),
        Source {
            config_map: Some(key),
            ..
        } => (Cow::Owned(binary(services, key)?), Vec::new()),
        Source { oci: Some(image), .. } => {
            let order = artifact::Order {
                source: &spec.source,
                image,
                max: COMPONENT_BYTES_MAX,
                signed,
            };
            let artifact::Fetched { bytes, signatures } = artifact::fetch(&order, shelf, services)?;
            (Cow::Owned(bytes), signatures)
        }
        _ => (Cow::Borrowed(&[][..]), Vec::new()),
    };
    let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
    match &spec.digest {
        Some(wanted) if *wanted != digest => Err(LoadError::Digest {
            source_text: name,
            found: digest,
            wanted: wanted.clone(),
        }),
        _ => Ok(Fetched {
            signatures,
            bytes,
            digest,
        }),
    }
}

/// The configuration as JSON text's value; an empty object where there is none.
pub(crate) fn config(spec: &PluginSpec, services: &Services) -> Result<Value, LoadError> {
    let from = spec.config_from.as_ref();
    if let Some(part) = from.and_then(|from| from.object.as_ref()) {
        return config_of(part, spec, services);
    }
    let from = from.and_then(|from| from.config_map.as_ref());
    let invalid = |message: String| LoadError::Config {
        field: "spec.configFrom.configMap".into(),
        message,
    };
    let Some(key) = from else {
        return Ok(spec
            .config
            .clone()
            .filter(|c| !c.is_null())
            .unwrap_or_else(|| Value::Object(Default::default())));
    };
    if spec.config.is_some() {
        return Err(invalid("spec.config is set as well; keep one of the two".into()));
    }
    let document = config_map(services, "spec.configFrom.configMap", key)?;
    let text = document["data"][&key.key].as_str();
    let text = text.ok_or_else(|| {
        invalid(format!(
            "ConfigMap {} has no key {:?} in data",
            full(key),
            key.key
        ))
    })?;
    if text.len() > CONFIG_BYTES_MAX {
        return Err(invalid(format!(
            "{} bytes are more than {CONFIG_BYTES_MAX}",
            text.len()
        )));
    }
    serde_json::from_str(text)
        .map_err(|error| invalid(format!("{} of {} is not JSON: {error}", key.key, full(key))))
}

/// The configuration that a part of an object holds.
fn config_of(part: &ObjectPart, spec: &PluginSpec, services: &Services) -> Result<Value, LoadError> {
    let field = "spec.configFrom.object";
    let invalid = |message: String| LoadError::Config {
        field: field.into(),
        message,
    };
    let others = spec
        .config_from
        .as_ref()
        .and_then(|from| from.config_map.as_ref());
    if spec.config.is_some() || others.is_some() {
        return Err(invalid("another configuration is set as well; keep one".into()));
    }
    let (group, version) = part
        .api_version
        .rsplit_once('/')
        .unwrap_or(("", &part.api_version));
    let gvk = kube::core::GroupVersionKind::gvk(group, version, &part.kind);
    let shown = format!("{} {}/{}", part.kind, part.namespace, part.name);
    let (namespace, name) = (part.namespace.clone(), part.name.clone());
    let document = asked(services, field, |client| async move {
        let resource = follow::resource(&client, &gvk).await?;
        let api: kube::Api<kube::api::DynamicObject> = match namespace.as_str() {
            "" => kube::Api::all_with(client, &resource),
            namespace => kube::Api::namespaced_with(client, namespace, &resource),
        };
        api.get(&name).await
    })?;
    let document = document.map_err(|error| fetch(field, format!("{shown}: {error}")))?;
    let document = serde_json::to_value(document).map_err(|error| fetch(field, error))?;
    let path = part.path.as_deref().unwrap_or("/spec");
    let value = document.pointer(path);
    let value = value.ok_or_else(|| invalid(format!("{shown} has nothing at {path:?}")))?;
    let bytes = value.to_string().len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(invalid(format!("{bytes} bytes are more than {CONFIG_BYTES_MAX}")));
    }
    match value {
        Value::String(text) => serde_json::from_str(text)
            .map_err(|error| invalid(format!("{path} of {shown} is not JSON: {error}"))),
        value => Ok(value.clone()),
    }
}

/// Checks that exactly one source is given, and gives its name for messages.
fn describe(source: &Source) -> Result<String, LoadError> {
    let given = [
        source.bundled.as_ref().map(|name| format!("bundled {name}")),
        source.file.as_ref().map(|path| format!("file {path}")),
        source
            .config_map
            .as_ref()
            .map(|key| format!("ConfigMap {} key {}", full(key), key.key)),
        source.oci.as_ref().map(|image| format!("oci {image}")),
    ];
    let mut given: Vec<String> = given.into_iter().flatten().collect();
    match given.len() {
        1 => Ok(given.remove(0)),
        count => Err(LoadError::Spec {
            field: "spec.source".into(),
            value: if count == 0 {
                "nothing".into()
            } else {
                given.join(" and ")
            },
            wanted: "exactly one of bundled, file, configMap, oci".into(),
            step: Step::Fetched,
        }),
    }
}

fn fetch(source: &str, message: impl ToString) -> LoadError {
    LoadError::Fetch {
        source_text: source.to_owned(),
        message: message.to_string(),
    }
}

fn file(path: &str) -> Result<Vec<u8>, LoadError> {
    let source = format!("spec.source.file {path}");
    if !path.starts_with('/') {
        return Err(fetch(&source, "the path must be absolute"));
    }
    let metadata = std::fs::metadata(path).map_err(|error| fetch(&source, error))?;
    if !metadata.is_file() {
        return Err(fetch(&source, "it is not a regular file"));
    }
    if metadata.len() > COMPONENT_BYTES_MAX {
        return Err(fetch(
            &source,
            format!("{} bytes are more than {COMPONENT_BYTES_MAX}", metadata.len()),
        ));
    }
    std::fs::read(path).map_err(|error| fetch(&source, error))
}

/// The signature that `capstan plugin sign` leaves beside a component, if there is one.
fn bundle_beside(path: &str) -> Option<String> {
    let path = format!("{path}.sigstore.json");
    let size = std::fs::metadata(&path).ok()?.len();
    (size <= BUNDLE_BYTES_MAX).then(|| std::fs::read_to_string(&path).ok())?
}

fn binary(services: &Services, key: &ConfigMapKey) -> Result<Vec<u8>, LoadError> {
    let source = "spec.source.configMap";
    let document = config_map(services, source, key)?;
    let text = document["binaryData"][&key.key].as_str();
    let text = text.ok_or_else(|| {
        fetch(
            source,
            format!("ConfigMap {} has no key {:?} in binaryData", full(key), key.key),
        )
    })?;
    base64::prelude::BASE64_STANDARD
        .decode(text)
        .map_err(|error| fetch(source, error))
}

fn full(key: &ConfigMapKey) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// Where the API has an object of a namespace; names that are none would be other paths.
pub(crate) fn object_path(plural: &str, namespace: &str, name: &str) -> Result<String, String> {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_name = |text: &str| !text.is_empty() && !text.starts_with('.') && text.chars().all(is_letter);
    match [namespace, name].into_iter().find(|text| !is_name(text)) {
        Some(bad) => Err(format!("{bad:?} is not a name")),
        None => Ok(format!("/api/v1/namespaces/{namespace}/{plural}/{name}")),
    }
}

fn config_map(services: &Services, source: &str, key: &ConfigMapKey) -> Result<Value, LoadError> {
    let path = object_path("configmaps", &key.namespace, &key.name).map_err(|error| fetch(source, error))?;
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| fetch(source, error))?;
    asked(services, source, |client| async move {
        client.request::<Value>(request).await
    })?
    .map_err(|error| fetch(source, format!("ConfigMap {}: {error}", full(key))))
}

/// What the cluster answers, within a bound of time; blocks.
fn asked<T: Send + 'static, F: Future<Output = kube::Result<T>> + Send + 'static>(
    services: &Services,
    source: &str,
    question: impl FnOnce(kube::Client) -> F,
) -> Result<kube::Result<T>, LoadError> {
    let Api { client, runtime } = services
        .api()
        .ok_or_else(|| fetch(source, "this host has no cluster"))?;
    let (sender, receiver) = mpsc::sync_channel(1);
    let answer = question(client);
    runtime.spawn(async move {
        // Nobody listens any more once the wait is over.
        let _ = sender.send(answer.await);
    });
    receiver
        .recv_timeout(READ_TIMEOUT)
        .map_err(|_| fetch(source, format!("no answer in {} s", READ_TIMEOUT.as_secs())))
}
