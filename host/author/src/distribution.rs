//! `plugin push`, `pull` and `bundle`: components with their signatures to and from registries and files.
//!
//! What is written is what `wkg` and the Sigstore tools write. A login comes from the file that `docker login` leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use capstan_registry::{
    About, Artifact, Login, Package, Reference, Registry, Signature, archive, reference, signatures,
};
use capstan_signature::{Bundle, PrivateKey};

use crate::error::Error;
use crate::rig::Rig;
use crate::signing::{self, beside};
use crate::{Pack, Pull, Push, component};

/// Bytes of a component: as many as the plugin host takes.
const COMPONENT_BYTES_MAX: u64 = 32 << 20;

/// Sends a component, and its signatures beside it.
pub(crate) fn push(options: &Push) -> Result<(), Error> {
    let path = component::find(&options.component)?;
    let reference = reference::parse(&options.reference)?;
    let bytes = component::read(&path)?;
    let package = package(&path, &bytes)?;
    let signed = match &options.key {
        Some(key) => Some(Signed::by(key, &reference, &package, &bytes)?),
        None => None,
    };
    let bundles = match &signed {
        Some(signed) => vec![signed.bundle.clone()],
        None => signing::found(&path)?,
    };
    block_on(async {
        let registry = registry(&reference);
        package.push(&registry, &reference).await?;
        let pinned = reference.clone_with_digest(package.digest());
        let artifact = Artifact::resolve(&registry, &pinned).await?;
        for bundle in &bundles {
            signatures::push_bundle(&registry, &artifact, bundle).await?;
        }
        if let Some(Signed {
            payload, signature, ..
        }) = signed
        {
            signatures::push_statement(&registry, &artifact, payload, &signature).await?;
        }
        println!("pushed {}", reference::canonical(&reference));
        if !bundles.is_empty() {
            println!("  with its signature");
        }
        println!("  source: {{ oci: {} }}", pin(&reference, &artifact));
        println!("  digest: {}", artifact.component_digest());
        Ok(())
    })
}

/// Fetches a component, and the first bundle that lies beside it.
pub(crate) fn pull(options: &Pull) -> Result<(), Error> {
    let wanted = reference::parse(&options.reference)?;
    let fetched = fetch(&wanted)?;
    let name = wanted.repository().rsplit('/').next().unwrap_or("plugin");
    let output = options.output.clone();
    let output = output.unwrap_or_else(|| PathBuf::from(name).with_extension("wasm"));
    write(&output, &fetched.component)?;
    println!("wrote {} ({} bytes)", output.display(), fetched.component.len());
    if let Some(bundle) = fetched.bundles().next() {
        let beside = beside(&output);
        write(&beside, bundle.as_bytes())?;
        println!("wrote {}", beside.display());
    }
    println!("  source: {{ oci: {} }}", fetched.pinned);
    println!("  digest: {}", fetched.digest);
    Ok(())
}

/// Writes a component with its signatures into one file.
pub(crate) fn pack(options: &Pack) -> Result<(), Error> {
    let subject = Subject::open(&options.component)?;
    let package = package(&subject.path(), &subject.component)?;
    archive::write(&options.output, &subject.name, &package, &subject.bundles)?;
    println!(
        "wrote {} with {} signature(s): `capstan plugin load` takes it",
        options.output.display(),
        subject.bundles.len()
    );
    Ok(())
}

/// A component, wherever it is: a file, a built project, an archive or a registry.
pub(crate) struct Subject {
    /// What it is called there.
    pub(crate) name: String,
    pub(crate) component: Vec<u8>,
    /// Sigstore bundles over it.
    pub(crate) bundles: Vec<String>,
    pub(crate) place: Place,
}

/// Where a component was found.
pub(crate) enum Place {
    File(PathBuf),
    Archive(PathBuf),
    /// With its digest.
    Registry(String),
}

impl Subject {
    /// Finds it: what exists as a file is one.
    pub(crate) fn open(what: &str) -> Result<Self, Error> {
        let path = Path::new(what);
        if !path.exists() && !what.starts_with(['/', '.']) && !what.ends_with(".wasm") {
            return Self::fetched(what);
        }
        if archive::is_archive(path) {
            let archived = archive::read(path)?;
            return Ok(Self {
                name: archived.name,
                bundles: bundles(&archived.signatures).map(str::to_owned).collect(),
                component: archived.component,
                place: Place::Archive(path.to_owned()),
            });
        }
        let path = component::find(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self {
            name: name.into_owned(),
            component: component::read(&path)?,
            bundles: signing::found(&path)?,
            place: Place::File(std::path::absolute(&path).unwrap_or(path)),
        })
    }

    fn fetched(what: &str) -> Result<Self, Error> {
        let wanted = reference::parse(what)?;
        let fetched = fetch(&wanted)?;
        Ok(Self {
            name: reference::canonical(&wanted),
            bundles: fetched.bundles().map(str::to_owned).collect(),
            component: fetched.component,
            place: Place::Registry(fetched.pinned),
        })
    }

    /// What it is called in messages.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.place {
            Place::File(path) | Place::Archive(path) => path.clone(),
            Place::Registry(pinned) => pinned.into(),
        }
    }
}

/// What a registry gave.
struct Fetched {
    pinned: String,
    digest: String,
    component: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Fetched {
    fn bundles(&self) -> impl Iterator<Item = &str> {
        bundles(&self.signatures)
    }
}

fn bundles(signatures: &[Signature]) -> impl Iterator<Item = &str> {
    signatures.iter().filter_map(|signature| match signature {
        Signature::Bundle(text) => Some(text.as_str()),
        Signature::Statement { .. } => None,
    })
}

fn fetch(wanted: &Reference) -> Result<Fetched, Error> {
    block_on(async {
        let registry = registry(wanted);
        let artifact = Artifact::resolve(&registry, wanted).await?;
        Ok(Fetched {
            pinned: pin(wanted, &artifact),
            digest: artifact.component_digest().to_owned(),
            component: artifact.component(&registry, COMPONENT_BYTES_MAX).await?,
            signatures: signatures::find(&registry, &artifact).await?,
        })
    })
}

/// The reference with its tag, for people, and its digest, for machines.
fn pin(asked: &Reference, artifact: &Artifact) -> String {
    let tag = asked.tag().map_or_else(String::new, |tag| format!(":{tag}"));
    format!(
        "{}{tag}@{}",
        reference::repository(asked),
        artifact.manifest.digest
    )
}

/// Both forms of a signature by one key.
struct Signed {
    bundle: String,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Signed {
    fn by(key: &Path, reference: &Reference, package: &Package, component: &[u8]) -> Result<Self, Error> {
        let failed = |source| Error::Signature {
            path: key.to_owned(),
            source,
        };
        let key = PrivateKey::from_pem(&signing::text(key)?).map_err(failed)?;
        let payload = signatures::statement(reference, &package.digest());
        Ok(Self {
            bundle: Bundle::sign(&key, component)
                .map_err(failed)?
                .to_value()
                .to_string(),
            signature: key.sign(&payload).map_err(failed)?,
            payload,
        })
    }
}

/// The component as an artifact that says what is in it.
fn package(path: &Path, component: &[u8]) -> Result<Package, Error> {
    let about = Rig::with(path, component.to_vec())?.about;
    let annotations = [
        ("org.opencontainers.image.title", &about.name),
        ("org.opencontainers.image.version", &about.version),
        ("org.opencontainers.image.description", &about.summary),
    ];
    let annotations: BTreeMap<String, String> = annotations
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(key, text)| (key.to_owned(), text.clone()))
        .collect();
    let about = About {
        imports: about.imports,
        exports: about
            .exports
            .iter()
            .map(|name| format!("capstan:{name}"))
            .collect(),
        annotations,
    };
    Ok(Package::of(component.to_vec(), &about))
}

fn registry(reference: &Reference) -> Registry {
    let login = docker_config()
        .and_then(|path| fs::read(path).ok())
        .and_then(|config| Login::find(&config, &reference::canonical(reference)));
    Registry::new(reference.registry(), login)
}

/// The file that `docker login` writes.
fn docker_config() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".docker")))?;
    Some(folder.join("config.json"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// Runs to the end on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?
        .block_on(work)
}
