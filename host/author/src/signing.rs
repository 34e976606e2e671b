//! `plugin keygen`, `sign` and `verify`: a component's signature, as a Sigstore bundle beside it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use capstan_signature::{Bundle, PrivateKey, PublicKey};

use crate::component;
use crate::error::Error;
use crate::{Keygen, Sign, Verify};

/// What a bundle's file is called: the component's name and this.
const BUNDLE: &str = "sigstore.json";

/// Writes a new pair of keys; keys that are there stay.
pub(crate) fn keygen(options: &Keygen) -> Result<(), Error> {
    let key = PrivateKey::generate().map_err(|source| signature(&options.key, source))?;
    let public = options.key.with_extension("pub");
    for (path, text, mode) in [
        (&options.key, key.to_pem(), 0o600),
        (&public, key.public().to_pem(), 0o644),
    ] {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| Error::Write {
                path: path.clone(),
                source,
            })?;
    }
    println!(
        "wrote {} (keep it secret) and {}",
        options.key.display(),
        public.display()
    );
    Ok(())
}

/// Signs a component.
pub(crate) fn sign(options: &Sign) -> Result<(), Error> {
    let path = component::find(&options.component)?;
    let key = PrivateKey::from_pem(&text(&options.key)?).map_err(|source| signature(&options.key, source))?;
    let bundle = Bundle::sign(&key, &component::read(&path)?).map_err(|source| signature(&path, source))?;
    let beside = beside(&path);
    fs::write(&beside, format!("{}\n", bundle.to_value())).map_err(|source| Error::Write {
        path: beside.clone(),
        source,
    })?;
    println!("wrote {}", beside.display());
    Ok(())
}

/// Checks a component's signature.
pub(crate) fn verify(options: &Verify) -> Result<(), Error> {
    let path = component::find(&options.component)?;
    let key = PublicKey::from_pem(&text(&options.key)?).map_err(|source| signature(&options.key, source))?;
    let beside = options.bundle.clone().unwrap_or_else(|| beside(&path));
    Bundle::parse(&text(&beside)?)
        .and_then(|bundle| bundle.verify(&key, &component::read(&path).unwrap_or_default()))
        .map_err(|source| signature(&path, source))?;
    println!("{} was signed by {}", path.display(), options.key.display());
    Ok(())
}

/// Where a component's signature lies.
pub(crate) fn beside(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".");
    name.push(BUNDLE);
    name.into()
}

/// The signature that lies beside a component, if one does.
pub(crate) fn found(component: &Path) -> Result<Vec<String>, Error> {
    let beside = beside(component);
    match beside.exists() {
        true => Ok(vec![text(&beside)?]),
        false => Ok(Vec::new()),
    }
}

pub(crate) fn text(path: &Path) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&component::read(path)?).into_owned())
}

fn signature(path: &Path, source: capstan_signature::Error) -> Error {
    Error::Signature {
        path: path.to_owned(),
        source,
    }
}
