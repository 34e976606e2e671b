//! Admission policies (`capstan:admission`): may this be written, and what is set on it before it is.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::Fault;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A request and its objects, shared by all policies that judge it.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Review {
    pub uid: String,
    pub operation: Operation,
    pub group: String,
    pub version: String,
    /// Plural, lower-case.
    pub resource: String,
    /// Empty for the resource itself.
    pub subresource: String,
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    pub namespace_labels: Vec<(String, String)>,
    /// Empty when yet to be generated.
    pub name: String,
    pub user: String,
    pub groups: Vec<String>,
    pub dry_run: bool,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Absent on delete.
    pub object: Option<Arc<Value>>,
    /// Absent on create.
    pub old: Option<Arc<Value>>,
}

/// A refusal, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Denial {
    /// HTTP status; 403 unless the policy chose better.
    pub code: u16,
    pub message: String,
    /// In Kubernetes' notation, for instance `spec.containers[0].image`.
    pub field: Option<String>,
}

/// A validating policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verdict {
    /// Allowed, with warnings for the client.
    Allow(Vec<String>),
    Deny(Denial),
    /// It would be denied, but the policy's binding only warns: the request passes.
    Warn(Denial),
    /// It would be denied, but the policy's binding only tells the audit log: the request passes.
    Audit(Denial),
}

/// One operation of a JSON Patch; paths are JSON Pointers.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Patch {
    Add { path: String, value: Value },
    Replace { path: String, value: Value },
    Remove { path: String },
}

/// An admission policy. Callers may call from any task, many at once.
#[async_trait]
pub trait Policy: Send + Sync {
    /// Whether the policy's binding covers this request; cheap, asked before anything else.
    fn covers(&self, review: &Review) -> bool;

    /// Whether it mutates.
    fn mutates(&self) -> bool;

    /// Whether it validates.
    fn validates(&self) -> bool;

    /// The patches to apply, in order; none is the usual answer.
    async fn mutate(&self, review: Arc<Review>) -> Result<Vec<Patch>, Fault>;

    /// The verdict.
    async fn validate(&self, review: Arc<Review>) -> Result<Verdict, Fault>;

    /// As [`Policy::validate`], of an object that stands already: the verdict is neither counted nor kept.
    async fn audit(&self, review: Arc<Review>) -> Result<Verdict, Fault> {
        self.validate(review).await
    }
}
