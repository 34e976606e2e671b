//! What the host keeps beside each instance: its plugin's context, its budget and its memory account.
//!
//! Implements the memory and table limits. The host functions of `imports/` are methods of [`State`].

use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;

use crate::budget::Budget;
use crate::capability::Grants;
use crate::engine::TABLE_ELEMENTS_MAX;
use crate::imports::log::LogBound;
use crate::limits::{INIT_DEADLINE, Limits};
use crate::services::Services;
use crate::stats::Stats;

/// What all instances of one revision share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) plugin: String,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    pub(crate) services: Arc<Services>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) log_bound: LogBound,
}

/// The data of one store.
pub(crate) struct State {
    pub(crate) context: Arc<Context>,
    pub(crate) budget: Budget,
    pub(crate) documents: ResourceTable,
    memory_bytes: usize,
    /// Set once the guest was refused memory, so that its trap is understood.
    pub(crate) memory_refused: bool,
    /// The guest runs a tick at a time; see `live`.
    pub(crate) in_slices: bool,
}

impl State {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            budget: Budget::start(INIT_DEADLINE),
            documents: ResourceTable::new(),
            memory_bytes: 0,
            memory_refused: false,
            in_slices: false,
        }
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_bytes + desired.saturating_sub(current);
        if total as u64 > self.context.limits.memory_bytes {
            self.memory_refused = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        self.context.stats.note_memory(total);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}
