//! Label and field selectors, as strings of a query and as `metav1.LabelSelector` documents.
//! Invariants: a parsed selector matches exactly what the original's would; matching allocates nothing.
//! The API server's lists and watches, controllers and the scheduler call it. What fields a kind can be
//! selected by is in `fields`.

mod field;
mod label;
mod parse;

pub use field::{FieldOperator, FieldSelector};
pub use label::{LabelSelector, Operator, Requirement};

/// Requirements that a selector may have; a longer one is refused.
pub const REQUIREMENTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let parsed = LabelSelector::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
        let labels = labels
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        assert_eq!(
            parsed.matches_labels(&labels),
            expected,
            "{selector} on {labels:?}"
        );
        assert_eq!(
            LabelSelector::parse(&parsed.to_string()).as_ref(),
            Ok(&parsed),
            "{selector} prints as itself"
        );
    }

    #[test]
    fn grammar_and_matching() {
        let web: &[(&str, &str)] = &[("app", "web"), ("tier", "1"), ("empty", "")];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app == web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("other notin (db)", true),
            ("app", true),
            ("!app", false),
            ("!other,app", true),
            ("tier>0", true),
            ("tier<1", false),
            ("app>1", false),
            ("empty=", true),
            ("empty in ()", true),
            ("app=web,tier in (1),!x/y", true),
        ] {
            check(selector, web, expected);
        }
    }

    #[test]
    fn refused() {
        for selector in [
            "app=web,",
            ",app",
            "app in",
            "app in web",
            "app in (a",
            "!app=a",
            "app=a b",
            "a b",
            "-x=1",
            "tier>x",
            "a=b c",
            "x=_",
        ] {
            assert!(LabelSelector::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn documents() {
        let labels = json!({"metadata": {"labels": {"app": "web"}}});
        for (document, expected) in [
            (json!(null), false),
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}),
                false,
            ),
        ] {
            assert_eq!(
                LabelSelector::from_value(&document)
                    .unwrap()
                    .matches_object(&labels),
                expected,
                "{document}"
            );
        }
        assert!(
            LabelSelector::from_value(&json!({"matchExpressions": [{"key": "a", "operator": "Is"}]}))
                .is_err()
        );
        assert!(!LabelSelector::from_map_value(&json!({})).matches_object(&labels));
    }

    #[test]
    fn fields() {
        let field = |path: &str| (path == "status.phase").then_some("Running");
        for (selector, expected) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", true),
            ("spec.nodeName!=a,status.phase=Running", true),
        ] {
            assert_eq!(
                FieldSelector::parse(selector).unwrap().matches(field),
                expected,
                "{selector}"
            );
        }
        assert_eq!(
            FieldSelector::parse("a=b\\,c").unwrap().required("a"),
            Some("b,c")
        );
        assert!(FieldSelector::parse("status.phase").is_err());
        assert!(FieldSelector::parse("a=b\\d").is_err());
    }
}
