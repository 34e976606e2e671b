//! What a policy that is a component adds to a create.
//!
//! The policy reads some fields of a pod and allows it. One client alone creates with and without it, by turns, so
//! that the difference of the medians is what a create waits for; the policy's own status tells the call by itself.

use std::time::{Duration, Instant};

use anyhow::ensure;
use capstan_tests::compat::Api;
use serde_json::json;

use super::load;

const PLUGINS: &str = "/apis/plugins.capstan.dev/v1/plugins";
/// Turns with and without.
const TURNS: usize = 4;
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// Creates of one turn.
const CREATES: usize = 500;

async fn put(api: &Api) -> anyhow::Result<()> {
    let rule =
        json!({ "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"] });
    let plugin = json!({
        "apiVersion": "plugins.capstan.dev/v1", "kind": "Plugin", "metadata": { "name": "measured" },
        "spec": {
            "source": { "bundled": "admission-image-policy" }, "config": { "denyTags": ["latest"] },
            "bind": { "admission": { "rules": [rule] } },
        },
    });
    api.post(PLUGINS, &plugin).await?.expect(201)?;
    let serves = |text: &str| text.contains("\"ready\":true");
    api.until(&format!("{PLUGINS}/measured"), |answer| serves(&answer.text()))
        .await?;
    Ok(())
}

/// Compares creates, numbered from `first`.
pub(crate) async fn measure(api: &Api, mut first: usize) -> anyhow::Result<()> {
    let mut medians = [Vec::new(), Vec::new()];
    let mut call = 0;
    for turn in 0..2 * TURNS {
        let with = turn % 2 == 1;
        if with {
            put(api).await?;
        }
        let outcome = load::creates(api, first, CREATES, 1).await?;
        medians[usize::from(with)].push(outcome.median());
        first += CREATES;
        if with {
            if turn + 1 == 2 * TURNS {
                call = counted(api).await?;
            }
            let gone = api.delete(&format!("{PLUGINS}/measured"), &json!({})).await?;
            ensure!(gone.status.is_success(), "{}", gone.text());
        }
    }
    let best = |medians: &[Duration]| medians.iter().min().copied().unwrap_or_default();
    let [without, with] = medians.map(|medians| best(&medians).as_secs_f64() * 1e6);
    println!(
        "a policy that reads three fields: its call {call} µs at the median (goal 20); a create {without:.0} µs \
         without it, {with:.0} with"
    );
    Ok(())
}

/// The median of the policy's own calls, in microseconds: its status tells counts every half a minute.
async fn counted(api: &Api) -> anyhow::Result<u64> {
    let started = Instant::now();
    loop {
        let told = api.get(&format!("{PLUGINS}/measured")).await?.text();
        if let Some(micros) = micros(&told) {
            return Ok(micros);
        }
        ensure!(started.elapsed() < COUNTED_WITHIN, "no counted call in {told}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn micros(status: &str) -> Option<u64> {
    let (_, rest) = status.split_once("\"p50Micros\":")?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|micros| *micros > 0)
}
