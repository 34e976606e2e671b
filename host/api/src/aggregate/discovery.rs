//! Discovery documents with the extension servers' groups in them. Pure.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Remote;

/// Adds groups and versions to a list of groups, in the legacy form.
pub(crate) fn extend_groups(groups: &mut Vec<Value>, remotes: &[Arc<Remote>]) {
    for remote in remotes {
        let Remote { group, version, .. } = &**remote;
        let entry = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
        match groups.iter_mut().find(|known| known["name"] == group.as_str()) {
            Some(known) => {
                if let Some(versions) = known["versions"].as_array_mut() {
                    versions.push(entry);
                }
            }
            None => groups.push(json!({ "name": group, "preferredVersion": entry, "versions": [entry] })),
        }
    }
}

/// Adds them in the aggregated form.
pub(crate) fn extend_aggregated(items: &mut Vec<Value>, remotes: &[Arc<Remote>]) {
    for remote in remotes {
        let version = json!({
            "version": remote.version,
            "freshness": if remote.is_available { "Current" } else { "Stale" },
            "resources": remote.resources.as_ref().map(|list| rows(remote, list)).unwrap_or_default(),
        });
        match items
            .iter_mut()
            .find(|known| known["metadata"]["name"] == remote.group.as_str())
        {
            Some(known) => {
                if let Some(versions) = known["versions"].as_array_mut() {
                    versions.push(version);
                }
            }
            None => items.push(json!({ "metadata": { "name": remote.group }, "versions": [version] })),
        }
    }
}

/// An APIResourceList's rows, subresources below what they belong to.
fn rows(remote: &Remote, list: &Value) -> Vec<Value> {
    let all = list["resources"].as_array().map_or(&[][..], Vec::as_slice);
    let own = |row: &Value, field: &str, default: &str| match row[field].as_str() {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => default.to_owned(),
    };
    let kind = |row: &Value| {
        json!({ "group": own(row, "group", &remote.group), "version": own(row, "version", &remote.version),
            "kind": row["kind"] })
    };
    let mut rows = Vec::new();
    for row in all {
        let name = row["name"].as_str().unwrap_or_default();
        if name.is_empty() || name.contains('/') {
            continue;
        }
        let mut made = json!({
            "resource": name, "singularResource": row["singularName"].as_str().unwrap_or_default(),
            "responseKind": kind(row), "verbs": row["verbs"],
            "scope": if row["namespaced"] == true { "Namespaced" } else { "Cluster" },
        });
        for field in ["shortNames", "categories"] {
            if row[field].is_array() {
                made[field] = row[field].clone();
            }
        }
        let below: Vec<Value> = all
            .iter()
            .filter_map(|sub| {
                let rest = sub["name"].as_str()?.strip_prefix(name)?.strip_prefix('/')?;
                Some(json!({ "subresource": rest, "responseKind": kind(sub), "verbs": sub["verbs"] }))
            })
            .collect();
        if !below.is_empty() {
            made["subresources"] = json!(below);
        }
        rows.push(made);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_merged() {
        let list = json!({ "resources": [
            { "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"] },
            { "name": "flunders/status", "namespaced": true, "kind": "Flunder", "verbs": ["get"] },
        ] });
        let remote = |group: &str, is_available| {
            Arc::new(Remote {
                group: group.into(),
                version: "v9".into(),
                priority: (0, 0),
                namespace: String::new(),
                service: String::new(),
                port: 443,
                ca: None,
                insecure: true,
                is_available,
                resources: Some(list.clone()),
            })
        };
        let remotes = [remote("apps", true), remote("wardle.example.com", false)];
        let mut groups = vec![json!({ "name": "apps", "versions": [{ "version": "v1" }] })];
        extend_groups(&mut groups, &remotes);
        assert_eq!(groups[0]["versions"][1]["groupVersion"], "apps/v9");
        assert_eq!(
            groups[1]["preferredVersion"]["groupVersion"],
            "wardle.example.com/v9"
        );
        let mut items = vec![json!({ "metadata": { "name": "apps" }, "versions": [] })];
        extend_aggregated(&mut items, &remotes);
        assert_eq!(items[0]["versions"][0]["freshness"], "Current");
        assert_eq!(items[1]["versions"][0]["freshness"], "Stale");
        let row = &items[1]["versions"][0]["resources"][0];
        assert_eq!(
            (&row["scope"], &row["subresources"][0]["subresource"]),
            (&json!("Namespaced"), &json!("status"))
        );
        assert_eq!(row["responseKind"]["group"], "wardle.example.com");
    }
}
