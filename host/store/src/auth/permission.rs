//! A permission on a key range, and a user's permissions merged into as few ranges as there can be.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::mvcc::Span;

/// A role's permission. The range is kept in etcd's own form, because it is shown and matched by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// What it allows.
    pub kind: PermissionKind,
    /// The first key.
    pub key: Bytes,
    /// Empty: `key` alone. A zero byte: all keys from `key` on. Else: up to here, excluded.
    pub range_end: Bytes,
}

/// What a permission allows; etcd's numbers are 0, 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PermissionKind {
    Read,
    Write,
    ReadWrite,
}

/// What a request does with a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
}

const OPEN_END: &[u8] = &[0];
/// The least key that there can be.
const FIRST_KEY: &[u8] = &[0];

impl Permission {
    /// Whether etcd takes the range: not empty, and its end after its start.
    pub(crate) fn is_valid(&self) -> bool {
        let end = &self.range_end[..];
        !self.key.is_empty() && (end.is_empty() || end == OPEN_END || self.key < end)
    }

    fn span(&self) -> Span {
        let end = match &self.range_end[..] {
            [] => {
                let mut end = self.key.to_vec();
                end.push(0);
                Some(end.into())
            }
            OPEN_END => None,
            _ => Some(self.range_end.clone()),
        };
        Span {
            start: self.key.clone(),
            end,
        }
    }

    fn allows(&self, access: Access) -> bool {
        match self.kind {
            PermissionKind::Read => access == Access::Read,
            PermissionKind::Write => access == Access::Write,
            PermissionKind::ReadWrite => true,
        }
    }
}

/// All that one user may read and write: sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unified {
    read: Vec<Span>,
    write: Vec<Span>,
}

impl Unified {
    pub(crate) fn of<'a>(permissions: impl Iterator<Item = &'a Permission> + Clone) -> Self {
        let spans = |access| {
            let allowing = permissions.clone().filter(move |one| one.allows(access));
            merge(allowing.map(Permission::span).collect())
        };
        Self {
            read: spans(Access::Read),
            write: spans(Access::Write),
        }
    }

    /// Whether the whole span is allowed.
    pub(crate) fn covers(&self, access: Access, span: &Span) -> bool {
        let spans = match access {
            Access::Read => &self.read,
            Access::Write => &self.write,
        };
        let start = (&span.start[..]).max(FIRST_KEY);
        let after = spans.partition_point(|one| one.start <= start);
        let Some(candidate) = after.checked_sub(1).map(|at| &spans[at]) else {
            return false;
        };
        candidate.is_before_end(start)
            && match (&candidate.end, &span.end) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(allowed), Some(asked)) => asked <= allowed,
            }
    }
}

fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable_by(|one, other| one.start.cmp(&other.start));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| span.start <= *end) => {
                let is_longer = match (&last.end, &span.end) {
                    (None, _) => false,
                    (Some(_), None) => true,
                    (Some(last), Some(end)) => end > last,
                };
                if is_longer {
                    last.end = span.end;
                }
            }
            _ => merged.push(span),
        }
    }
    merged
}
