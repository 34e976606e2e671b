//! The condition follows the runtime's answers.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::{
    Config, Plugin,
    problem::{ConditionStatus, Finding, Monitor, Sample},
};
use problem_runtime_health::RuntimeHealth;

#[test]
fn bad_answers_in_a_row_set_the_condition_and_good_ones_clear_it() {
    let config = Config::read(r#"{"failures": 2, "successes": 2, "slowerThan": "1s"}"#).unwrap();
    let mut health = RuntimeHealth::new(config).unwrap();
    for (step, (up, latency_ms, expected)) in [
        (1.0, 5.0, Some((false, "RuntimeHealthy"))),
        (0.0, 0.0, None),
        (1.0, 5.0, None),
        (0.0, 0.0, None),
        (0.0, 0.0, Some((true, "RuntimeDown"))),
        (1.0, 5.0, None),
        (1.0, 5.0, Some((false, "RuntimeHealthy"))),
        (1.0, 2000.0, None),
        (1.0, 2000.0, Some((true, "RuntimeSlow"))),
    ]
    .into_iter()
    .enumerate()
    {
        let sample = |name: &str, value| Sample {
            name: name.into(),
            value,
        };
        let mut found = Vec::new();
        health
            .on_samples(
                &[sample("runtime.up", up), sample("runtime.latency-ms", latency_ms)],
                0,
                &mut found,
            )
            .unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|finding| match finding {
                Finding::Condition(c) => (c.status == ConditionStatus::Yes, c.reason.as_str()),
                Finding::Event(_) => panic!("an event"),
            })
            .collect();
        assert_eq!(found.first().copied(), expected, "step {step}");
    }
}
