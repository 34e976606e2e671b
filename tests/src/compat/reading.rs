//! Lists and watches: revisions, pages, selectors, bookmarks.

use anyhow::ensure;
use serde_json::{Value, json};

use super::Ground;
use super::api::text;

const MAPS: &str = "configmaps";

fn named(events: &[Value], kind: &str, name: &str) -> bool {
    events
        .iter()
        .any(|event| event["type"] == kind && event["object"]["metadata"]["name"] == name)
}

pub(super) async fn watch_tells_changes(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection(MAPS));
    let first = api
        .post(&maps, &json!({ "metadata": { "name": "watched" } }))
        .await?
        .expect(201)?;
    let path = format!("{maps}/watched");
    api.patch("merge", &path, &json!({ "data": { "a": "1" } }))
        .await?
        .expect(200)?;
    api.delete(&path, &Value::Null).await?.expect(200)?;
    let watch = format!(
        "{maps}?watch=1&resourceVersion={}&fieldSelector=metadata.name%3Dwatched",
        first.version()
    );
    let ended = |events: &[Value]| named(events, "DELETED", "watched");
    let events = api.watch(&watch, ended).await?;
    let kinds: Vec<String> = events.iter().map(|event| text(&event["type"])).collect();
    ensure!(kinds == ["MODIFIED", "DELETED"], "{kinds:?}");
    let versions: Vec<u64> = events
        .iter()
        .filter_map(|event| text(&event["object"]["metadata"]["resourceVersion"]).parse().ok())
        .collect();
    ensure!(versions[1] > versions[0], "the end has version {versions:?}");
    ensure!(
        events[1]["object"]["data"]["a"] == "1",
        "the end is without the last state"
    );
    // Another watcher, from the revision that the first event told.
    let again = format!(
        "{maps}?watch=1&resourceVersion={}&fieldSelector=metadata.name%3Dwatched",
        versions[0]
    );
    let again = api.watch(&again, ended).await?;
    ensure!(
        again.len() == 1 && again[0] == events[1],
        "another order: {again:?}"
    );
    Ok(())
}

pub(super) async fn watch_follows_selectors(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection(MAPS));
    let labelled = |value: &str| json!({ "metadata": { "labels": { "wanted": value } } });
    let mut map = labelled("yes");
    map["metadata"]["name"] = json!("leaves");
    let first = api.post(&maps, &map).await?.expect(201)?;
    let path = format!("{maps}/leaves");
    api.patch("merge", &path, &labelled("no")).await?.expect(200)?;
    api.patch("merge", &path, &labelled("yes")).await?.expect(200)?;
    let watch = format!(
        "{maps}?watch=1&resourceVersion={}&labelSelector=wanted%3Dyes",
        first.version()
    );
    let events = api.watch(&watch, |events| events.len() == 2).await?;
    let kinds: Vec<String> = events.iter().map(|event| text(&event["type"])).collect();
    ensure!(kinds == ["DELETED", "ADDED"], "{kinds:?}");
    Ok(())
}

pub(super) async fn watch_lists_first(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection(MAPS));
    api.post(
        &maps,
        &json!({ "metadata": { "name": "streamed", "labels": { "stream": "1" } } }),
    )
    .await?
    .expect(201)?;
    let watch = format!(
        "{maps}?watch=1&labelSelector=stream%3D1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let is_end =
        |event: &Value| event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
    let events = api.watch(&watch, |events| events.iter().any(is_end)).await?;
    ensure!(
        named(&events, "ADDED", "streamed") && events.len() == 2,
        "{events:?}"
    );
    let mark = &events[1];
    ensure!(
        mark["type"] == "BOOKMARK" && mark["object"]["kind"] == "ConfigMap",
        "{mark}"
    );
    ensure!(
        !text(&mark["object"]["metadata"]["resourceVersion"]).is_empty(),
        "{mark}"
    );
    let without = format!("{maps}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true");
    api.get(&without).await?.refused(422, "Invalid")?;
    Ok(())
}

pub(super) async fn revisions_are_kept(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection(MAPS));
    let made = api
        .post(&maps, &json!({ "metadata": { "name": "of-a-revision" } }))
        .await?
        .expect(201)?;
    let named = |list: &Value| {
        list["items"].as_array().is_some_and(|items| {
            items
                .iter()
                .any(|item| item["metadata"]["name"] == "of-a-revision")
        })
    };
    ensure!(
        named(&api.get(&maps).await?.expect(200)?.body),
        "a list does not show what was written before it"
    );
    let match_ =
        |version: &str, how: &str| format!("{maps}?resourceVersion={version}&resourceVersionMatch={how}");
    ensure!(
        named(
            &api.get(&match_(&made.version(), "NotOlderThan"))
                .await?
                .expect(200)?
                .body
        ),
        "NotOlderThan"
    );
    let exact = api
        .get(&match_(&made.version(), "Exact"))
        .await?
        .expect(200)?
        .body;
    ensure!(
        named(&exact) && exact["metadata"]["resourceVersion"] == made.version().as_str(),
        "Exact: {}",
        exact["metadata"]
    );
    api.get(&format!("{maps}?resourceVersion=0")).await?.expect(200)?;
    let future = api
        .get(&match_("99999999999", "NotOlderThan"))
        .await?
        .refused(504, "Timeout")?;
    ensure!(
        future.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge",
        "{}",
        future.text()
    );
    api.get(&format!("{maps}?resourceVersionMatch=Exact"))
        .await?
        .refused(422, "Invalid")?;
    Ok(())
}

pub(super) async fn lists_come_in_pages(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection(MAPS));
    for name in ["p1", "p2", "p3", "p4", "p5"] {
        api.post(
            &maps,
            &json!({ "metadata": { "name": name, "labels": { "paged": "1" } } }),
        )
        .await?
        .expect(201)?;
    }
    let (mut names, mut versions, mut next) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = api
            .get(&format!("{maps}?limit=2&continue={next}"))
            .await?
            .expect(200)?
            .body;
        names.extend(
            page["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|item| text(&item["metadata"]["name"])),
        );
        versions.push(text(&page["metadata"]["resourceVersion"]));
        next = text(&page["metadata"]["continue"]);
        if next.is_empty() {
            break;
        }
        ensure!(
            page["items"].as_array().is_some_and(|items| items.len() == 2),
            "a page of another size"
        );
        ensure!(
            page["metadata"]["remainingItemCount"].as_u64() > Some(0),
            "{}",
            page["metadata"]
        );
        // What is written in between is not of this list.
        let _ = api
            .post(
                &maps,
                &json!({ "metadata": { "name": format!("late-{}", names.len()) } }),
            )
            .await?;
    }
    ensure!(
        names.iter().filter(|name| name.starts_with('p')).count() >= 5,
        "{names:?}"
    );
    ensure!(!names.iter().any(|name| name.starts_with("late-")), "{names:?}");
    ensure!(
        versions.iter().all(|version| *version == versions[0]),
        "{versions:?}"
    );
    api.get(&format!("{maps}?limit=2&continue=nonsense"))
        .await?
        .refused(400, "BadRequest")?;
    Ok(())
}

pub(super) async fn selectors(ground: &Ground) -> anyhow::Result<()> {
    let (api, maps) = (&ground.api, ground.collection(MAPS));
    for (name, tier) in [("s1", "front"), ("s2", "back"), ("s3", "back")] {
        api.post(
            &maps,
            &json!({ "metadata": { "name": name, "labels": { "tier": tier, "selected": "1" } } }),
        )
        .await?
        .expect(201)?;
    }
    for (selector, count) in [
        ("tier%3Dback,selected%3D1", 2),
        ("tier%20in%20(front,back),selected", 3),
        ("selected,tier%20notin%20(back)", 1),
        ("selected,!absent", 3),
        ("selected,tier!%3Dfront", 2),
    ] {
        let list = api
            .get(&format!("{maps}?labelSelector={selector}"))
            .await?
            .expect(200)?
            .body;
        let found = list["items"].as_array().map_or(0, Vec::len);
        ensure!(found == count, "{selector}: {found} and not {count}");
    }
    let pods = ground.collection("pods");
    api.get(&format!(
        "{pods}?fieldSelector=spec.nodeName%3Dx,status.phase!%3DRunning"
    ))
    .await?
    .expect(200)?;
    api.get(&format!("{pods}?fieldSelector=spec.hostname%3Dx"))
        .await?
        .refused(400, "BadRequest")?;
    api.get(&format!("{maps}?labelSelector=a%20in%20b"))
        .await?
        .refused(400, "BadRequest")?;
    Ok(())
}
