//! The request that admission policies are asked about in the tests beside this.

use std::sync::Arc;

use capstan_points::admission::{Operation, Review};
use serde_json::Value;

/// Alice creates a Pod in the namespace `default`.
pub(crate) fn review(object: Value, old: Option<Value>) -> Arc<Review> {
    Arc::new(Review {
        uid: "u".into(),
        operation: Operation::Create,
        group: String::new(),
        version: "v1".into(),
        resource: "pods".into(),
        subresource: String::new(),
        kind: "Pod".into(),
        namespace: "default".into(),
        namespace_labels: vec![("a".into(), "b".into())],
        name: "p".into(),
        user: "alice".into(),
        groups: vec!["users".into()],
        dry_run: false,
        now_ms: 1,
        object: Some(Arc::new(object)),
        old: old.map(Arc::new),
    })
}
