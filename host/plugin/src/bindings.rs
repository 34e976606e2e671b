//! The typed bindings of every world, generated from `wit/`.
//!
//! One module a WIT package. A component exports only what it implements, so nothing here asks for a whole
//! world: bridges load each interface by its own `GuestIndices`. Shared types (`fault`, `pair`) are
//! generated once, in [`plugin`]. Called by the bridges and the host imports; nothing is written by hand.
#![allow(missing_docs, unreachable_pub, clippy::all)]

pub mod plugin {
    wasmtime::component::bindgen!({
        path: ["../../wit/plugin"],
        inline: "
            package capstan:host;
            world plugin {
                import capstan:plugin/log@0.1.0;
                import capstan:plugin/clock@0.1.0;
                import capstan:plugin/random@0.1.0;
                import capstan:plugin/metrics@0.1.0;
                import capstan:plugin/kube-read@0.1.0;
                import capstan:plugin/node-files@0.1.0;
                export capstan:plugin/guest@0.1.0;
                export capstan:plugin/self-test@0.1.0;
                export capstan:plugin/hand-off@0.1.0;
            }
        ",
    });
}

pub mod scheduler {
    wasmtime::component::bindgen!({
        path: ["../../wit/plugin", "../../wit/scheduler"],
        inline: "
            package capstan:host;
            world scheduler {
                export capstan:scheduler/view@0.1.0;
                export capstan:scheduler/enqueue@0.1.0;
                export capstan:scheduler/queue-sort@0.1.0;
                export capstan:scheduler/pre-filter@0.1.0;
                export capstan:scheduler/filter@0.1.0;
                export capstan:scheduler/what-if@0.1.0;
                export capstan:scheduler/post-filter@0.1.0;
                export capstan:scheduler/pre-score@0.1.0;
                export capstan:scheduler/score@0.1.0;
                export capstan:scheduler/reserve@0.1.0;
                export capstan:scheduler/permit@0.1.0;
                export capstan:scheduler/pre-bind@0.1.0;
                export capstan:scheduler/bind@0.1.0;
                export capstan:scheduler/post-bind@0.1.0;
                export capstan:scheduler/hints@0.1.0;
            }
        ",
        with: { "capstan:plugin/types@0.1.0": crate::bindings::plugin::capstan::plugin::types },
    });
}

pub mod admission {
    wasmtime::component::bindgen!({
        path: ["../../wit/plugin", "../../wit/admission"],
        inline: "
            package capstan:host;
            world admission {
                import capstan:admission/documents@0.1.0;
                export capstan:admission/validate@0.1.0;
                export capstan:admission/mutate@0.1.0;
            }
        ",
        imports: { default: trappable },
        exports: { default: async },
        with: {
            "capstan:plugin/types@0.1.0": crate::bindings::plugin::capstan::plugin::types,
            "capstan:admission/documents@0.1.0.document": crate::imports::documents::Document,
        },
    });
}

pub mod problem {
    wasmtime::component::bindgen!({
        path: ["../../wit/plugin", "../../wit/problem"],
        inline: "
            package capstan:host;
            world problem { export capstan:problem/monitor@0.1.0; }
        ",
        with: { "capstan:plugin/types@0.1.0": crate::bindings::plugin::capstan::plugin::types },
    });
}

pub mod remedy {
    wasmtime::component::bindgen!({
        path: ["../../wit/plugin", "../../wit/remedy"],
        inline: "
            package capstan:host;
            world remedy { export capstan:remedy/decide@0.1.0; }
        ",
        with: { "capstan:plugin/types@0.1.0": crate::bindings::plugin::capstan::plugin::types },
    });
}

pub mod sidecar {
    wasmtime::component::bindgen!({
        path: ["../../wit/plugin", "../../wit/sidecar"],
        inline: "
            package capstan:host;
            world sidecar {
                export capstan:sidecar/logs@0.1.0;
                export capstan:sidecar/adapter@0.1.0;
            }
        ",
        with: { "capstan:plugin/types@0.1.0": crate::bindings::plugin::capstan::plugin::types },
    });
}

pub use plugin::capstan::plugin::types;
