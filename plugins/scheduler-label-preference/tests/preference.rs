//! The label decides, and another configuration decides otherwise.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_label_preference::LabelPreference;
use serde_json::json;

#[test]
fn the_configured_label_scores() {
    for (config, ssd, hdd) in [
        (json!({"key": "disk", "value": "ssd"}), 100, 0),
        (json!({"key": "disk", "value": "hdd"}), 0, 100),
        (json!({"key": "disk"}), 100, 100),
        (json!({"key": "unheard-of"}), 0, 0),
    ] {
        let mut bench = Bench::<LabelPreference>::new(config.clone());
        bench.node(json!({"metadata": {"name": "a", "labels": {"disk": "ssd"}}}));
        bench.node(json!({"metadata": {"name": "b", "labels": {"disk": "hdd"}}}));
        let scores = bench.scores(json!({}));
        assert_eq!((scores["a"], scores["b"]), (ssd, hdd), "{config}");
    }
}
