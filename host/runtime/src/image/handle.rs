//! The image store by itself, for the command line: beside running nodes or without any.

use std::path::Path;
use std::sync::Arc;

use super::ImageStore;
use capstan_registry::reference;

use crate::{AuthConfig, Error, Image, Result};

/// A handle on the image store in a folder, the `root_dir` of [`crate::Options`]. Nodes that share the folder
/// see what it changes.
#[derive(Debug, Clone)]
pub struct Images {
    store: Arc<ImageStore>,
}

impl Images {
    /// Opens the store, which is made where there is none.
    pub fn open(root_dir: &Path) -> Result<Self> {
        Ok(Self {
            store: Arc::new(ImageStore::open(root_dir, &[])?),
        })
    }

    pub(crate) fn of(store: Arc<ImageStore>) -> Self {
        Self { store }
    }

    /// Puts an image from a file into the store: an OCI layout (folder or tar), a docker-archive, or a bare
    /// component, which needs a name. A name that was given is the first of the image's names.
    pub async fn load(&self, path: &Path, name: Option<&str>) -> Result<Image> {
        let (store, path, name) = (Arc::clone(&self.store), path.to_owned(), name.map(str::to_owned));
        apart("loading the image", move || {
            let mut image = store.load(&path, name.as_deref())?.to_cri();
            if let Some(name) = name {
                let given = reference::canonical(&super::parse(&name)?);
                image.repo_tags.sort_by_key(|tag| *tag != given);
            }
            Ok(image)
        })
        .await
    }

    /// Fetches an image from its registry; returns its digest reference.
    pub async fn pull(&self, reference: &str, auth: Option<AuthConfig>) -> Result<String> {
        Ok(self.store.pull(reference, auth).await?.image_ref())
    }

    /// All images.
    pub async fn list(&self) -> Result<Vec<Image>> {
        self.store.list()
    }

    /// Removes an image with all its names; one that is not here is fine.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        let (store, reference) = (Arc::clone(&self.store), reference.to_owned());
        apart("removing the image", move || store.remove(&reference)).await
    }
}

/// Runs what reads or writes much apart from the async workers.
pub(super) async fn apart<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::Precondition(format!("{what}: {error}")))?
}
