//! Nodes that have the image, and how much that counts.
#![allow(missing_docs, clippy::unwrap_used)]

use capstan_sdk::scheduler::testing::Bench;
use scheduler_image_locality::ImageLocality;
use serde_json::json;

#[test]
fn nodes_with_a_large_image_score_by_how_common_it_is() {
    let mut bench = Bench::<ImageLocality>::new(json!({}));
    let images = json!({"images": [{"names": ["big"], "sizeBytes": 500u64 << 20}, {"names": ["tiny"], "sizeBytes": 1 << 20}]});
    bench.node(json!({"metadata": {"name": "has"}, "status": images}));
    bench.node(json!({"metadata": {"name": "lacks"}}));
    let pod = |image: &str| json!({"spec": {"containers": [{"image": image}]}});
    let scores = bench.scores(pod("big"));
    // One of two nodes has it: it counts half, of the range between 23 and 1000 MiB.
    assert_eq!(
        (scores["has"], scores["lacks"]),
        ((250 - 23) * 100 / (1000 - 23), 0)
    );
    assert_eq!(bench.scores(pod("tiny"))["has"], 0);
    bench.node(json!({"metadata": {"name": "has"}}));
    assert_eq!(bench.scores(pod("big"))["has"], 0);
}
