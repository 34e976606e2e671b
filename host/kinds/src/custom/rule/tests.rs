use serde_json::json;

use super::*;

fn schema() -> Json {
    json!({
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.spec.min <= self.spec.max", "messageExpression": "'min %d over max %d'.format([self.spec.min, self.spec.max])", "fieldPath": ".spec.min"},
            {"rule": "self.metadata.name.startsWith('w')", "message": "must start with w"}],
        "properties": {"spec": {"type": "object", "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "id": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable", "reason": "FieldValueForbidden"}]},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": {
                "type": "object", "x-kubernetes-validations": [{"rule": "self.port > 0"}],
                "properties": {"name": {"type": "string"}, "port": {"type": "integer"}}}}}}}
    })
}

#[test]
fn rules_of_objects() {
    let compiled = Schema::compile(&schema());
    let texts = |object: Json, old: Option<Json>| -> Vec<String> {
        validate(&compiled, &object, old.as_ref())
            .iter()
            .map(FieldError::to_string)
            .collect()
    };
    let good = json!({"metadata": {"name": "w"}, "spec": {"min": 1, "max": 2, "id": "a", "ports": [{"name": "x", "port": 1}]}});
    assert!(texts(good.clone(), None).is_empty());
    let mut bad = good.clone();
    bad["spec"]["min"] = json!(3);
    bad["spec"]["id"] = json!("b");
    bad["spec"]["ports"][0]["port"] = json!(0);
    bad["metadata"]["name"] = json!("x");
    assert_eq!(
        texts(bad.clone(), Some(good)),
        [
            "spec.min: Invalid value: min 3 over max 2",
            "<nil>: Invalid value: must start with w",
            "spec.id: Forbidden: is immutable",
            "spec.ports[0]: Invalid value: failed rule: self.port > 0"
        ]
    );
    // What was wrong before and stays is left alone.
    let mut still = bad.clone();
    still["spec"]["min"] = json!(2);
    still["metadata"]["name"] = json!("w");
    assert!(texts(still, Some(bad)).is_empty());
}

#[test]
fn rules_of_definitions() {
    let at = |rule: &str| -> String {
        let text = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {
            "a": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array", "items": {"type": "string"}}}});
        let errors = check(&text, &Schema::compile(&text), "x", false);
        errors.first().map(FieldError::to_string).unwrap_or_default()
    };
    for good in [
        "self.a > 1",
        "self.l.all(x, x.size() > 1)",
        "has(self.s) && self.s.contains('a')",
        "self.metadata.name == 'x' && self.kind == 'K'",
        "self.a == oldSelf.a",
        "self.?s.orValue('') == ''",
    ] {
        assert_eq!(at(good), "", "{good}");
    }
    for (bad, part) in [
        ("self.b > 1", "undefined field 'b'\n | self.b > 1\n | ....^"),
        (
            "self.a == 'x'",
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        ("self.a", "cel expression must evaluate to a bool"),
        ("foo(self.a)", "undeclared reference to 'foo' (in container '')"),
        (
            "other.a == 1",
            "undeclared reference to 'other' (in container '')",
        ),
        ("self.a >", "Syntax error"),
        ("self.metadata.labels.size() > 0", "undefined field 'labels'"),
        (
            "self.l.all(x, x > 1)",
            "found no matching overload for '_>_' applied to '(string, int)'",
        ),
    ] {
        assert!(at(bad).contains(part), "{bad}: {}", at(bad));
    }
}
