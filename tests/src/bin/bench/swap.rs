//! Swap under load: pods are created while an admission policy and a scoring policy are replaced again and
//! again. No call may be lost; the longest pause is that of one create.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use capstan_tests::Cluster;

use crate::figure::Figure;

const POLICY: &str = "
apiVersion: plugins.capstan.dev/v1
kind: Plugin
metadata: { name: swapped }
spec:
  source: { bundled: admission-labels }
  config: { defaults: { turn: 'TURN' } }
  bind:
    admission: { rules: [{ apiGroups: [''], apiVersions: [v1], resources: [configmaps], operations: [CREATE] }] }
";

pub(crate) fn measure(quick: bool) -> Vec<Figure> {
    let cluster = Cluster::start();
    let swaps = if quick { 5 } else { 30 };
    cluster.apply(&POLICY.replace("TURN", "t0")).clean();
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "plugin/swapped", "--timeout=60s"])
        .clean();
    let done = AtomicBool::new(false);
    let (calls, lost, longest_ms) = std::thread::scope(|scope| {
        let load = scope.spawn(|| create_until(&cluster, &done));
        for turn in 1..=swaps {
            cluster
                .apply(&POLICY.replace("TURN", &format!("t{turn}")))
                .clean();
        }
        done.store(true, Ordering::SeqCst);
        load.join().expect("the load does not panic")
    });
    vec![
        Figure::new(
            format!("{swaps} swaps under {calls} creates: calls lost"),
            lost as f64,
            "calls",
        )
        .goal(0.0),
        Figure::new(
            "swap under load: longest create (kubectl and all)",
            longest_ms,
            "ms",
        ),
    ]
}

/// Creates through the policy until told to stop: calls, calls lost, longest in milliseconds.
fn create_until(cluster: &Cluster, done: &AtomicBool) -> (usize, usize, f64) {
    let (mut calls, mut lost, mut longest_ms) = (0, 0, 0f64);
    while !done.load(Ordering::SeqCst) {
        let started = Instant::now();
        let manifest = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c{calls} }}\n");
        let created = cluster.run(
            &["create", "-f", "-", "-o", "jsonpath={.metadata.labels.turn}"],
            &manifest,
        );
        longest_ms = longest_ms.max(started.elapsed().as_secs_f64() * 1e3);
        // A call that the policy did not see carries no label.
        lost += usize::from(!created.ok || !created.out.starts_with('t'));
        calls += 1;
    }
    (calls, lost, longest_ms)
}
