//! A key range as two bounds: start included, end excluded or open.

use bytes::Bytes;

use crate::KeyRange;

/// `start <= key < end`; no end means all that follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Bytes,
    pub(crate) end: Option<Bytes>,
}

impl Span {
    pub(crate) fn of(range: &KeyRange) -> Self {
        match range {
            KeyRange::Key(key) => {
                let mut end = Vec::with_capacity(key.len() + 1);
                end.extend_from_slice(key);
                end.push(0);
                Self {
                    start: key.clone(),
                    end: Some(end.into()),
                }
            }
            KeyRange::Prefix(prefix) => Self {
                start: prefix.clone(),
                end: after_prefix(prefix),
            },
            KeyRange::Span(start, end) => Self {
                start: start.clone(),
                end: Some(end.clone()),
            },
            KeyRange::From(start) => Self {
                start: start.clone(),
                end: None,
            },
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.is_before_end(key)
    }

    pub(crate) fn is_before_end(&self, key: &[u8]) -> bool {
        self.end.as_ref().is_none_or(|end| key < &end[..])
    }
}

/// The first key after all keys with the prefix; none when there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}
