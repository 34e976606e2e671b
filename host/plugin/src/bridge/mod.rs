//! One module a world: the points' traits, implemented by components.
//!
//! A bridge converts values, checks answers, and nothing else: budgets and instances are `live`'s and
//! `resident`'s. Each gives a seat, and a rehearsal that replays recorded calls against a new revision.

pub(crate) mod admission;
pub(crate) mod admission_binding;
pub(crate) mod admission_conditions;
mod admission_convert;
mod admission_instances;
mod admission_rules;
pub(crate) mod admission_trial;
pub(crate) mod problem;
pub(crate) mod remedy;
pub(crate) mod scheduler;
mod scheduler_answers;
mod scheduler_convert;
mod scheduler_exports;
pub(crate) mod sidecar;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use capstan_kinds::selector::LabelSelector;
use serde_json::Value;

use crate::error::LoadError;
use crate::lock::lock;

/// Recorded calls of one kind that are kept for rehearsals.
const RECORDED_MAX: usize = 16;
/// One of so many calls is recorded where a sample is enough, once there are [`RECORDED_MAX`].
const SAMPLED_OF: u64 = 64;

/// Late calls that were answered well, for the next revision to be tried on.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    inputs: Mutex<VecDeque<T>>,
    /// How many were there to be sampled.
    told: AtomicU64,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            inputs: Mutex::default(),
            told: AtomicU64::new(0),
        }
    }
}

impl<T: Clone> Ring<T> {
    pub(crate) fn record(&self, input: T) {
        let mut ring = lock(&self.inputs);
        if ring.len() == RECORDED_MAX {
            ring.pop_front();
        }
        ring.push_back(input);
    }

    /// As [`Ring::record`], for calls of which there are many: an input that is not kept is free at once.
    pub(crate) fn sample(&self, input: T) {
        let told = self.told.fetch_add(1, Relaxed);
        if told < RECORDED_MAX as u64 || told.is_multiple_of(SAMPLED_OF) {
            self.record(input);
        }
    }

    pub(crate) fn recorded(&self) -> Vec<T> {
        lock(&self.inputs).iter().cloned().collect()
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

#[cfg(test)]
mod ring_tests {
    use super::*;

    #[test]
    fn a_sample_has_the_first_calls_and_then_some() {
        let ring = Ring::default();
        (0..16).for_each(|input| ring.sample(input));
        assert_eq!(ring.recorded(), (0..16).collect::<Vec<_>>());
        (16..16 * 64).for_each(|input| ring.sample(input));
        let recorded = ring.recorded();
        assert_eq!((recorded.len(), recorded[15]), (16, 15 * 64));
    }
}
