//! What a Plugin object can grant (`spec.capabilities`): the cluster's objects and the node's files.
//!
//! A component imports only what it calls here, so a policy that calls nothing is provably pure. Each call is
//! bounded by the host in size and wall time. Natively there is no host: a policy's core takes what was read as
//! an argument, and only its trait's method calls these.

use crate::{
    Fault,
    wit::imports::capstan::plugin::{
        kube_read::{self, ReadError, Resource},
        node_files,
    },
};
use serde::de::DeserializeOwned;

/// A kind of objects to read, by its place in the API: group (empty for the core group), version and plural.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// For instance `networking.k8s.io`.
    pub group: &'static str,
    /// For instance `v1`.
    pub version: &'static str,
    /// For instance `ingresses`.
    pub plural: &'static str,
}

impl Kind {
    fn resource(self) -> Resource {
        Resource {
            group: self.group.into(),
            version: self.version.into(),
            plural: self.plural.into(),
        }
    }
}

/// Objects of a namespace (all that the grant covers where it is empty) with these labels (any where it is
/// empty), each as the fields that `T` names. Needs `kube-read`.
///
/// # Errors
/// A fault that may pass where the host could not answer; a permanent one where the grant does not cover the
/// kind, there are more objects than one answer holds (500), or one does not read as a `T`.
pub fn list<T: DeserializeOwned>(kind: Kind, namespace: &str, selector: &str) -> Result<Vec<T>, Fault> {
    let texts = kube_read::list(&kind.resource(), namespace, selector).map_err(|e| refused(kind, e))?;
    let read = |text: &String| crate::json::from_str(text);
    texts
        .iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map_err(|e| Fault::permanent(format!("cannot read {}: {e}", kind.plural)))
}

fn refused(kind: Kind, error: ReadError) -> Fault {
    let what = kind.plural;
    match error {
        ReadError::Denied(why) => Fault::permanent(format!("{what} may not be read: {why}")),
        ReadError::TooLarge(why) => Fault::permanent(format!("there are too many {what}: {why}")),
        ReadError::Unavailable(why) => Fault::retry(format!("{what} could not be read: {why}")),
    }
}

/// A file of the node as text, bytes that are none replaced. Needs `node-files` with its path.
///
/// # Errors
/// Why it could not be read, for instance that it is not there.
pub fn file(path: &str) -> Result<String, Fault> {
    let bytes = node_files::read(path).map_err(Fault::retry)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
    })
}
