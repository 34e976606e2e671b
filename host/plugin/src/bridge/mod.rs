//! One module a world: the points' traits, implemented by components.
//!
//! A bridge converts values, checks answers, and nothing else: budgets and instances are `live`'s and
//! `resident`'s. Each gives a seat, and a rehearsal that replays recorded calls against a new revision.

pub(crate) mod admission;
pub(crate) mod admission_rules;
pub(crate) mod problem;
pub(crate) mod remedy;
pub(crate) mod scheduler;
mod scheduler_answers;
mod scheduler_convert;
mod scheduler_exports;
pub(crate) mod sidecar;

use std::collections::VecDeque;
use std::sync::Mutex;

use capstan_kinds::selector::LabelSelector;
use serde_json::Value;

use crate::error::LoadError;
use crate::lock::lock;

/// Recorded calls of one kind that are kept for rehearsals.
const RECORDED_MAX: usize = 16;

/// The last calls that were answered well, for the next revision to be tried on.
#[derive(Debug)]
pub(crate) struct Ring<T>(Mutex<VecDeque<T>>);

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Ring<T> {
    pub(crate) fn record(&self, input: T) {
        let mut ring = lock(&self.0);
        if ring.len() == RECORDED_MAX {
            ring.pop_front();
        }
        ring.push_back(input);
    }

    pub(crate) fn recorded(&self) -> Vec<T> {
        lock(&self.0).iter().cloned().collect()
    }
}

/// A `metav1.LabelSelector` of a field; absent selects everything.
pub(crate) fn selector(field: &str, document: Option<&Value>) -> Result<LabelSelector, LoadError> {
    let Some(document) = document.filter(|d| !d.is_null()) else {
        return Ok(LabelSelector::everything());
    };
    LabelSelector::from_value(document)
        .map_err(|error| LoadError::spec(field, document.to_string(), format!("a label selector ({error})")))
}
