//! Components from OCI registries: what a reference means, the component's bytes, and the signatures beside it.
//!
//! A digest is asked for once and then found on disk; what a tag means is asked each time, and where the registry does
//! not answer, what it meant last goes on: a registry that is away stops nothing. Signatures are looked for only where
//! the cluster asks for them. Called by `source`, on a thread that may block.

use std::sync::mpsc;
use std::time::Duration;

use capstan_kinds::plugin::{SecretName, Source};
use capstan_registry::{
    Artifact, Digested, Error, Login, Reference, Registry, Signature, digest_of, reference, signatures,
};
use serde_json::Value;

use crate::error::LoadError;
use crate::services::{Api, Services};
use crate::shelf::Shelf;
use crate::source::object_path;

/// Wall time of all that one load asks of a registry.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// Secrets that are looked at for a login.
const SECRETS_MAX: usize = 16;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) signatures: Vec<Signature>,
}

/// What to fetch, and with which means.
pub(crate) struct Order<'a> {
    pub(crate) source: &'a Source,
    pub(crate) image: &'a str,
    /// Bytes of a component.
    pub(crate) max: u64,
    /// Whether signatures are wanted.
    pub(crate) signed: bool,
}

/// Fetches a component; blocks for as long as that takes.
pub(crate) fn fetch(order: &Order<'_>, shelf: &Shelf, services: &Services) -> Result<Fetched, LoadError> {
    let failed = |message: String| LoadError::Fetch {
        source_text: format!("spec.source.oci {}", order.image),
        message,
    };
    let wanted = reference::parse(order.image).map_err(|error| failed(error.to_string()))?;
    let known = shelf.meaning(order.image);
    // What is pinned and here needs nobody.
    if let Some(known) = known.as_ref().filter(|_| wanted.digest().is_some()) {
        let artifact = artifact(&wanted, known).map_err(|error| failed(error.to_string()))?;
        let found = shelf.find(artifact.component_digest());
        let enough = |found: &(_, Vec<Signature>)| !order.signed || !found.1.is_empty();
        if let Some((bytes, signatures)) = found.filter(enough) {
            return Ok(Fetched { bytes, signatures });
        }
    }
    let Api { client, runtime } = services
        .api()
        .ok_or_else(|| failed("this host has no cluster".into()))?;
    let errand = Errand {
        client,
        wanted,
        known,
        secrets: order
            .source
            .pull_secrets
            .iter()
            .take(SECRETS_MAX)
            .cloned()
            .collect(),
        image: order.image.to_owned(),
        max: order.max,
        signed: order.signed,
        shelf: shelf.clone(),
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        // Nobody listens any more once the wait is over.
        let _ = sender.send(errand.run().await);
    });
    match receiver.recv_timeout(FETCH_TIMEOUT) {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed(format!("no answer in {} s", FETCH_TIMEOUT.as_secs()))),
    }
}

/// All that one way to the registry takes along.
struct Errand {
    client: kube::Client,
    wanted: Reference,
    /// The manifest that the reference meant last.
    known: Option<Vec<u8>>,
    secrets: Vec<SecretName>,
    image: String,
    max: u64,
    signed: bool,
    shelf: Shelf,
}

impl Errand {
    async fn run(self) -> Result<Fetched, String> {
        let login = login(&self.client, &self.secrets, &self.image).await?;
        let registry = Registry::new(self.wanted.registry(), login);
        let artifact = match Artifact::resolve(&registry, &self.wanted).await {
            Ok(artifact) => artifact,
            Err(error) => last(&self.wanted, self.known.as_deref(), error)?,
        };
        let digest = artifact.component_digest();
        let (bytes, kept) = match self.shelf.find(digest) {
            Some(found) => found,
            None => {
                let fetched = artifact.component(&registry, self.max).await;
                (fetched.map_err(text)?, Vec::new())
            }
        };
        let signatures = match self.signed {
            true => match signatures::find(&registry, &artifact).await {
                Ok(found) => found,
                // Those that lay there before go on to count.
                Err(error) if kept.is_empty() => return Err(text(error)),
                Err(_) => kept,
            },
            false => kept,
        };
        self.shelf.keep(digest, &bytes, &signatures);
        self.shelf.keep_meaning(&self.image, &artifact.manifest.bytes);
        Ok(Fetched { bytes, signatures })
    }
}

fn text(error: Error) -> String {
    error.to_string()
}

/// What the reference meant last, where the registry cannot say; a registry that says no is believed.
fn last(asked: &Reference, before: Option<&[u8]>, error: Error) -> Result<Artifact, String> {
    match (&error, before) {
        (Error::Answer(_), Some(before)) => {
            tracing::warn!(%error, reference = %reference::canonical(asked),
                           "the registry does not answer; the component that it gave last is used");
            artifact(asked, before).map_err(text)
        }
        _ => Err(error.to_string()),
    }
}

fn artifact(asked: &Reference, manifest: &[u8]) -> Result<Artifact, Error> {
    let (digest, bytes) = (digest_of(manifest), manifest.to_vec());
    Artifact::of(
        asked.clone_with_digest(digest.clone()),
        Digested { digest, bytes },
    )
}

/// The first login among the Secrets that fits.
async fn login(client: &kube::Client, secrets: &[SecretName], image: &str) -> Result<Option<Login>, String> {
    for secret in secrets {
        let name = format!("{}/{}", secret.namespace, secret.name);
        let path = object_path("secrets", &secret.namespace, &secret.name)?;
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| format!("Secret {name}: {error}"))?;
        let found = client.request::<Value>(request).await;
        let found = found.map_err(|error| format!("Secret {name}: {error}"))?;
        let config = [".dockerconfigjson", ".dockercfg"]
            .iter()
            .find_map(|key| found["data"][key].as_str())
            .ok_or_else(|| format!("Secret {name} is no kubernetes.io/dockerconfigjson"))?;
        let config = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, config)
            .map_err(|error| format!("Secret {name}: {error}"))?;
        if let Some(login) = Login::find(&config, image) {
            return Ok(Some(login));
        }
    }
    Ok(None)
}
