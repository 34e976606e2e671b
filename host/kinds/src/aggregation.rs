//! Aggregated ClusterRoles: the rules of a role whose `aggregationRule` selects others, from those others.
//! Pure; the API server's first objects and the controller that keeps the roles up to date ask it.

use serde_json::Value;

use crate::selector::LabelSelector;

/// The rules of `role`, which selects among `roles`; none where it aggregates nothing.
pub fn rules<'a>(role: &Value, roles: impl IntoIterator<Item = &'a Value>) -> Option<Vec<Value>> {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array()?;
    let name = |role: &'a Value| role["metadata"]["name"].as_str().unwrap_or_default();
    let mut others: Vec<&Value> = roles.into_iter().collect();
    others.sort_by_key(|one| name(one));
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_value(selector) else {
            continue;
        };
        let selected = others.iter().filter(|one| {
            one["metadata"]["name"] != role["metadata"]["name"] && selector.matches_object(one)
        });
        for rule in selected.flat_map(|one| one["rules"].as_array().into_iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_role_has_the_rules_of_those_that_it_selects() {
        let role = |name: &str, label: &str, verb: &str| json!({"metadata": {"name": name, "labels": {label: "true"}}, "rules": [{"verbs": [verb]}]});
        let all = [
            role("b", "to", "get"),
            role("a", "to", "list"),
            role("c", "other", "watch"),
            role("d", "to", "get"),
        ];
        let sum = json!({"metadata": {"name": "sum", "labels": {"to": "true"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "true"}}]}});
        let expected = vec![json!({"verbs": ["list"]}), json!({"verbs": ["get"]})];
        assert_eq!(rules(&sum, all.iter().chain([&sum])), Some(expected));
        assert_eq!(rules(&all[0], &all), None);
    }
}
