//! Raw bindings of the contracts in `wit/`, one small world for each interface.
//!
//! A component is the union of the worlds whose `export!` macro it calls, so a plugin exports only the
//! interfaces that it implements. The types are generated once, in [`types`], and shared by all worlds.
//! Called by [`export!`](crate::export) and re-exported piecemeal by the other modules; authors do not
//! come here.
#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all)]

/// Types of all packages, and the host's granted interfaces.
pub mod types {
    wit_bindgen::generate!({
        inline: "
            package capstan:sdk-types;
            world sdk-types {
                import capstan:plugin/types@0.1.0;
                import capstan:scheduler/types@0.1.0;
                import capstan:admission/types@0.1.0;
                import capstan:sidecar/types@0.1.0;
            }
        ",
        path: ["../../wit/plugin", "../../wit/scheduler", "../../wit/admission", "../../wit/sidecar"],
        additional_derives: [PartialEq, Eq, Hash],
        generate_unused_types: true,
        generate_all,
    });
}

/// Imports that a Plugin object grants; a component has only those that it calls.
pub mod imports {
    wit_bindgen::generate!({
        inline: "
            package capstan:sdk-imports;
            world sdk-imports {
                import capstan:plugin/log@0.1.0;
                import capstan:plugin/clock@0.1.0;
                import capstan:plugin/random@0.1.0;
                import capstan:plugin/metrics@0.1.0;
                import capstan:plugin/kube-read@0.1.0;
                import capstan:plugin/node-files@0.1.0;
                import capstan:admission/documents@0.1.0;
            }
        ",
        path: ["../../wit/plugin", "../../wit/admission"],
        generate_unused_types: true,
        generate_all,
    });
}

/// One module with the world that exports exactly one interface.
macro_rules! world {
    ($module:ident, $inline:tt, [$($path:tt),+] $(, $types:tt => $package:ident)?) => {
        pub mod $module {
            wit_bindgen::generate!({
                inline: $inline,
                path: [$($path),+],
                pub_export_macro: true,
                additional_derives: [PartialEq],
                with: {
                    "capstan:plugin/types@0.1.0": crate::wit::types::capstan::plugin::types,
                    $($types: crate::wit::types::capstan::$package::types,)?
                },
            });
        }
    };
}

world!(
    plugin_guest,
    "package capstan:sdk-plugin-guest; world sdk-plugin-guest { export capstan:plugin/guest@0.1.0; }",
    ["../../wit/plugin"]
);
world!(
    plugin_self_test,
    "package capstan:sdk-plugin-self-test; world sdk-plugin-self-test { export capstan:plugin/self-test@0.1.0; }",
    ["../../wit/plugin"]
);
world!(
    plugin_hand_off,
    "package capstan:sdk-plugin-hand-off; world sdk-plugin-hand-off { export capstan:plugin/hand-off@0.1.0; }",
    ["../../wit/plugin"]
);
world!(
    scheduler_view,
    "package capstan:sdk-scheduler-view; world sdk-scheduler-view { export capstan:scheduler/view@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_enqueue,
    "package capstan:sdk-scheduler-enqueue; world sdk-scheduler-enqueue { export capstan:scheduler/enqueue@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_filter,
    "package capstan:sdk-scheduler-filter; world sdk-scheduler-filter { export capstan:scheduler/filter@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_score,
    "package capstan:sdk-scheduler-score; world sdk-scheduler-score { export capstan:scheduler/score@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_queue_sort,
    "package capstan:sdk-scheduler-queue-sort; world sdk-scheduler-queue-sort { export capstan:scheduler/queue-sort@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_pre_filter,
    "package capstan:sdk-scheduler-pre-filter; world sdk-scheduler-pre-filter { export capstan:scheduler/pre-filter@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_what_if,
    "package capstan:sdk-scheduler-what-if; world sdk-scheduler-what-if { export capstan:scheduler/what-if@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_post_filter,
    "package capstan:sdk-scheduler-post-filter; world sdk-scheduler-post-filter { export capstan:scheduler/post-filter@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_pre_score,
    "package capstan:sdk-scheduler-pre-score; world sdk-scheduler-pre-score { export capstan:scheduler/pre-score@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_reserve,
    "package capstan:sdk-scheduler-reserve; world sdk-scheduler-reserve { export capstan:scheduler/reserve@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_permit,
    "package capstan:sdk-scheduler-permit; world sdk-scheduler-permit { export capstan:scheduler/permit@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_pre_bind,
    "package capstan:sdk-scheduler-pre-bind; world sdk-scheduler-pre-bind { export capstan:scheduler/pre-bind@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_bind,
    "package capstan:sdk-scheduler-bind; world sdk-scheduler-bind { export capstan:scheduler/bind@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_post_bind,
    "package capstan:sdk-scheduler-post-bind; world sdk-scheduler-post-bind { export capstan:scheduler/post-bind@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    scheduler_hints,
    "package capstan:sdk-scheduler-hints; world sdk-scheduler-hints { export capstan:scheduler/hints@0.1.0; }",
    ["../../wit/plugin", "../../wit/scheduler"],
    "capstan:scheduler/types@0.1.0" => scheduler
);
world!(
    problem_monitor,
    "package capstan:sdk-problem-monitor; world sdk-problem-monitor { export capstan:problem/monitor@0.1.0; }",
    ["../../wit/plugin", "../../wit/problem"]
);
world!(
    remedy_decide,
    "package capstan:sdk-remedy-decide; world sdk-remedy-decide { export capstan:remedy/decide@0.1.0; }",
    ["../../wit/plugin", "../../wit/remedy"]
);
world!(
    sidecar_logs,
    "package capstan:sdk-sidecar-logs; world sdk-sidecar-logs { export capstan:sidecar/logs@0.1.0; }",
    ["../../wit/plugin", "../../wit/sidecar"],
    "capstan:sidecar/types@0.1.0" => sidecar
);
world!(
    sidecar_adapter,
    "package capstan:sdk-sidecar-adapter; world sdk-sidecar-adapter { export capstan:sidecar/adapter@0.1.0; }",
    ["../../wit/plugin", "../../wit/sidecar"],
    "capstan:sidecar/types@0.1.0" => sidecar
);

pub mod admission_validate {
    wit_bindgen::generate!({
        inline: "package capstan:sdk-admission-validate; world sdk-admission-validate { export capstan:admission/validate@0.1.0; }",
        path: ["../../wit/plugin", "../../wit/admission"],
        pub_export_macro: true,
        with: {
            "capstan:plugin/types@0.1.0": crate::wit::types::capstan::plugin::types,
            "capstan:admission/types@0.1.0": crate::wit::types::capstan::admission::types,
            "capstan:admission/documents@0.1.0": crate::wit::imports::capstan::admission::documents,
        },
    });
}

pub mod admission_mutate {
    wit_bindgen::generate!({
        inline: "package capstan:sdk-admission-mutate; world sdk-admission-mutate { export capstan:admission/mutate@0.1.0; }",
        path: ["../../wit/plugin", "../../wit/admission"],
        pub_export_macro: true,
        with: {
            "capstan:plugin/types@0.1.0": crate::wit::types::capstan::plugin::types,
            "capstan:admission/types@0.1.0": crate::wit::types::capstan::admission::types,
            "capstan:admission/documents@0.1.0": crate::wit::imports::capstan::admission::documents,
        },
    });
}
