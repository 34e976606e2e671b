//! Values of `capstan:admission` between host and guest; what a guest says is checked and cut to its bounds.

use capstan_points::admission::{self, Denial, Patch, Review, Verdict};

use crate::bindings::admission::capstan::admission::types as wit;
use crate::bindings::types::Pair;

const WARNINGS_MAX: usize = 32;
const TEXT_BYTES_MAX: usize = 4_096;
const CODE_DEFAULT: u16 = 403;

pub(super) fn request(review: &Review) -> wit::Request {
    wit::Request {
        uid: review.uid.clone(),
        operation: match review.operation {
            admission::Operation::Create => wit::Operation::Create,
            admission::Operation::Update => wit::Operation::Update,
            admission::Operation::Delete => wit::Operation::Delete,
            admission::Operation::Connect => wit::Operation::Connect,
        },
        group: review.group.clone(),
        version: review.version.clone(),
        resource: review.resource.clone(),
        subresource: review.subresource.clone(),
        kind: review.kind.clone(),
        namespace: review.namespace.clone(),
        namespace_labels: review
            .namespace_labels
            .iter()
            .map(|(key, value)| Pair {
                key: key.clone(),
                value: value.clone(),
            })
            .collect(),
        name: review.name.clone(),
        user: review.user.clone(),
        groups: review.groups.clone(),
        dry_run: review.dry_run,
        now_ms: review.now_ms,
    }
}

pub(super) fn patch(patch: wit::Patch) -> Result<Patch, String> {
    let pointer = |path: String| {
        if path.is_empty() || path.starts_with('/') {
            return Ok(path);
        }
        Err(format!(
            "mutate gave the path {path:?}, which is not a JSON Pointer"
        ))
    };
    let value = |text: &str| {
        serde_json::from_str(text).map_err(|error| format!("mutate gave a value that is not JSON: {error}"))
    };
    Ok(match patch {
        wit::Patch::Add(edit) => Patch::Add {
            value: value(&edit.value)?,
            path: pointer(edit.path)?,
        },
        wit::Patch::Replace(edit) => Patch::Replace {
            value: value(&edit.value)?,
            path: pointer(edit.path)?,
        },
        wit::Patch::Remove(path) => Patch::Remove { path: pointer(path)? },
    })
}

pub(super) fn verdict(verdict: wit::Verdict) -> Verdict {
    match verdict {
        wit::Verdict::Allow(warnings) => {
            Verdict::Allow(warnings.into_iter().take(WARNINGS_MAX).map(cut).collect())
        }
        wit::Verdict::Deny(denial) => Verdict::Deny(Denial {
            code: if (400..600).contains(&denial.code) {
                denial.code
            } else {
                CODE_DEFAULT
            },
            message: cut(denial.message),
            field: denial.field.map(cut),
        }),
    }
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
