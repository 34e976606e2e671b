//! The interfaces of `capstan:scheduler` that a component exports, found by name and loaded by instance.

use capstan_points::scheduler::{Asks, EventKinds, Topics};
use wasmtime::Store;
use wasmtime::component::Instance;

use super::scheduler_convert as convert;
use crate::bindings::scheduler::exports::capstan::scheduler::{
    bind, enqueue, filter, hints, permit, post_bind, post_filter, pre_bind, pre_filter, pre_score,
    queue_sort, reserve, score, view, what_if,
};
use crate::program::Program;
use crate::state::State;

macro_rules! interfaces {
    ($($field:ident $name:literal),+ $(,)?) => {
        /// Where to find each interface in an instance.
        pub(super) struct Indices {
            $($field: Option<$field::GuestIndices>,)+
        }

        /// One instance's interfaces, and what it said of itself once.
        pub(super) struct Exports {
            $(pub(super) $field: Option<$field::Guest>,)+
            pub(super) topics: Topics,
            pub(super) interests: EventKinds,
        }

        impl Indices {
            pub(super) fn find(program: &Program) -> wasmtime::Result<Self> {
                Ok(Self {
                    $($field: program
                        .surface
                        .exports(concat!("scheduler/", $name))
                        .then(|| $field::GuestIndices::new(&program.pre))
                        .transpose()?,)+
                })
            }

            pub(super) fn asks(&self) -> Asks {
                Asks { $($field: self.$field.is_some(),)+ }
            }

            fn exports(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Exports> {
                Ok(Exports {
                    $($field: self
                        .$field
                        .as_ref()
                        .map(|indices| indices.load(&mut *store, instance))
                        .transpose()?,)+
                    topics: Topics::default(),
                    interests: EventKinds::ALL,
                })
            }
        }
    };
}

interfaces! {
    view "view",
    enqueue "enqueue",
    queue_sort "queue-sort",
    pre_filter "pre-filter",
    filter "filter",
    what_if "what-if",
    post_filter "post-filter",
    pre_score "pre-score",
    score "score",
    reserve "reserve",
    permit "permit",
    pre_bind "pre-bind",
    bind "bind",
    post_bind "post-bind",
    hints "hints",
}

impl Indices {
    /// The interfaces of a fresh instance, which is asked for its topics and interests.
    pub(super) fn load(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<Exports> {
        let mut exports = self.exports(store, instance)?;
        if let Some(view) = &exports.view {
            exports.topics = convert::topics(view.call_wants(&mut *store)?);
        }
        if let Some(hints) = &exports.hints {
            exports.interests = convert::event_kinds(hints.call_interests(&mut *store)?);
        }
        Ok(exports)
    }
}
