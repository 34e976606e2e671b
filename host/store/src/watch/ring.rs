//! The most recent writes, bounded by bytes, shared with all who read them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Batch, RING_BYTES_MAX};
use crate::Revision;

/// Recent writes, oldest first, without a gap.
#[derive(Debug, Default)]
pub(super) struct Ring {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.size_bytes();
        self.batches.push_back(batch);
        while self.bytes > RING_BYTES_MAX {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= oldest.size_bytes();
        }
    }

    /// The writes from `first` on, or none if the ring does not reach back so far.
    pub(super) fn from(&self, first: Revision, limit: usize) -> Option<Vec<Arc<Batch>>> {
        let oldest = self.batches.front()?.revision;
        if first < oldest {
            return None;
        }
        let skip = self.batches.partition_point(|batch| batch.revision < first);
        Some(self.batches.iter().skip(skip).take(limit).cloned().collect())
    }
}
