//! The estimate of what a rule costs, against the original's own figures.

use serde_json::{Value as Json, json};

use super::super::bounds::elements_at;
use super::super::schema::Schema;
use super::check;
use crate::cel::{Type, Types, estimate, parse};

fn cost(schema: &Json, rule: &str) -> u64 {
    let schema = Schema::compile(schema);
    let this = Type::of(&schema, false);
    let node = parse(rule).unwrap();
    let types = Types::of(&node, &[("self", this.clone()), ("oldSelf", this)]).unwrap();
    estimate(&node, &types, &|path| elements_at(&schema, false, path))
}

/// The schema with the limit that the test says, or without one.
fn limited(schema: &Json, limit: Option<u64>) -> Json {
    let Some(fields) = schema.as_object() else {
        return schema.clone();
    };
    let fields = fields.iter().filter_map(|(name, value)| {
        let value = match limit {
            _ if *value != "LIMIT" => limited(value, limit),
            limit => json!(limit?),
        };
        Some((name.clone(), value))
    });
    Json::Object(fields.collect())
}

fn of(name: &str) -> Json {
    match name {
        "date" | "date-time" | "duration" | "byte" => json!({"type": "string", "format": name}),
        "int-or-string" => json!({"x-kubernetes-int-or-string": true}),
        plain => json!({"type": plain}),
    }
}

fn list(items: Json) -> Json {
    json!({"type": "array", "maxItems": "LIMIT", "items": items})
}

fn map(values: Json) -> Json {
    json!({"type": "object", "maxProperties": "LIMIT", "additionalProperties": values})
}

#[test]
fn an_estimate_is_the_originals() {
    let text = || json!({"type": "string", "maxLength": "LIMIT"});
    let both = || {
        json!({"type": "object", "required": ["required"], "properties": {
        "required": {"type": "string"}, "optional": {"type": "string"}}})
    };
    let any = |name: &str| list(of(name));
    let maps = |name: &str| map(of(name));
    let spec = || json!({"type": "object", "maxProperties": "LIMIT", "additionalProperties": text()});
    let each = "self.all(x, true)";
    // The schema, the rule, its cost without limits and with one.
    for (schema, rule, free, limit, bounded) in [
        (any("number"), each, 4_718_591, 10, 32),
        (any("string"), each, 3_145_727, 20, 62),
        (any("boolean"), each, 1_887_437, 5, 17),
        (
            list(json!({"type": "array", "items": {"type": "number"}})),
            each,
            3_145_727,
            100,
            302,
        ),
        (list(both()), each, 555_128, 50, 152),
        (maps("number"), each, 1_348_169, 10, 32),
        (maps("string"), each, 1_179_647, 3, 11),
        (maps("boolean"), each, 943_718, 100, 302),
        (maps("date"), each, 524_288, 10, 32),
        (any("date-time"), each, 428_963, 25, 77),
        (text(), "self.contains('test')", 314_574, 10, 5),
        (text(), "self.startsWith('test')", 2, 15, 2),
        (text(), "size(self + \"hello\") > size(\"hello\")", 314_578, 4, 7),
        (any("number"), "self[1] == 0.0", 2, 5000, 2),
        (any("string"), "self[1] == self[1]", 314_577, 8, 314_577),
        (
            any("number"),
            "self.all(x, self.all(y, true))",
            7_421_701_914_624,
            10,
            352,
        ),
        (text(), "self.matches(\"x\")", 314_574, 50, 22),
        (text(), "\"\".matches(\"(((((((((())))))))))[0-9]\")", 7, 10, 7),
        (text(), "self.matches(\"\")", 1, 100, 1),
        (spec(), "self.all(x, x.contains(self[x]))", 2_752_507, 10, 72),
        (text(), "self == \"x\"", 2, 0, 1),
        (
            any("number"),
            "self.all(x, x == 0.0)",
            6_291_454,
            3 * 1024 * 2048,
            25_165_826,
        ),
        (
            list(map(both())),
            "self.all(x, x[\"y\"].required == \"z\")",
            7_340_027,
            10,
            72,
        ),
        (any("int-or-string"), "self[0] == 5", 3, 10, 3),
        (list(both()), "self[0] == null", 2, 422, 2),
        (
            list(json!({"type": "array", "items": {"type": "number"}})),
            "self[0][0] == -1.0",
            3,
            51,
            3,
        ),
        (
            list(json!({"type": "object", "additionalProperties": {"type": "number"}})),
            "self.all(x, x.y == 25.2)",
            6_291_452,
            12,
            74,
        ),
        (
            list(json!({"type": "object", "additionalProperties": {"type": "number"}})),
            "self[0].x > 2.0",
            4,
            3000,
            4,
        ),
        (any("duration"), "self[0].getHours() == 2", 4, 525, 4),
        (text(), "self.find('[0-9]+') == ''", 629_147, 10, 11),
        (list(text()), "self.join(' ') == 'aa bb'", 329_853_068_905, 10, 43),
        (list(text()), "self.isSorted() == true", 329_854_432_052, 10, 52),
        (
            json!({"type": "object", "properties": {"str": text(), "before": {"type": "string", "maxLength": 2}, "after": {"type": "string", "maxLength": 4}}}),
            "self.str.replace(self.before, self.after) == 'does not matter'",
            629_154,
            4,
            12,
        ),
        (
            json!({"type": "object", "properties": {"str": text(), "separator": text()}}),
            "self.str.split(self.separator) == []",
            629_160,
            10,
            22,
        ),
        (text(), "self.lowerAscii() == 'lower!'", 314_575, 10, 6),
        (maps("integer"), "oldSelf.size() == self.size()", 5, 10, 5),
        (maps("date-time"), "self[\"a\"] == self[\"b\"]", 8, 7, 8),
        (
            json!({"type": "string", "enum": ["A", "B", "C", "LongValue"], "maxLength": "LIMIT"}),
            "self.contains('A')",
            2,
            1000,
            401,
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "maxLength": "LIMIT"}),
            "isQuantity(self)",
            314_574,
            20,
            9,
        ),
    ] {
        assert_eq!(cost(&limited(&schema, None), rule), free, "{rule} on {schema}");
        assert_eq!(
            cost(&limited(&schema, Some(limit)), rule),
            bounded,
            "{rule} on {schema} of {limit}"
        );
    }
}

#[test]
fn rules_that_can_cost_too_much_are_refused_until_they_are_bounded() {
    let said = |text: &Json, stored: bool| -> Vec<String> {
        let errors = check(text, &Schema::compile(text), "x", stored);
        errors.iter().map(ToString::to_string).collect()
    };
    let advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, \
                  and strings are declared)";
    let nested = |limits: Json| {
        let mut items = json!({"type": "array", "items": {"type": "string"},
            "x-kubernetes-validations": [{"rule": "self.all(a, self.exists(b, a == b))"}]});
        if let (Some(items), Some(limits)) = (items.as_object_mut(), limits.as_object()) {
            items.extend(limits.clone());
        }
        json!({"type": "object", "properties": {"l": items}})
    };
    let rule = "x.properties[l].x-kubernetes-validations[0].rule";
    let free = nested(json!({}));
    let all = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
    let total = [
        format!(
            "{rule}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        ),
        format!("x: Forbidden: {all} exceeds budget by factor of more than 100x {advice}"),
    ];
    let own =
        format!("{rule}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}");
    assert_eq!(said(&free, false), [std::slice::from_ref(&own), &total].concat());
    // What is stored so already keeps its rule, but not a schema that is too much as a whole.
    assert_eq!(said(&free, true), total);
    let bounded = nested(json!({"maxItems": 50, "items": {"type": "string", "maxLength": 63}}));
    assert_eq!(said(&bounded, false), Vec::<String>::new());
    // A rule on items costs as often as there can be items.
    let often = |bound: Json| {
        let items = json!({"type": "string", "maxLength": 1000, "x-kubernetes-validations": [{"rule": "self.contains('abcdefghijkl')"}]});
        let mut list = json!({"type": "array", "items": items});
        if let (Some(list), Some(bound)) = (list.as_object_mut(), bound.as_object()) {
            list.extend(bound.clone());
        }
        json!({"type": "object", "properties": {"l": list}})
    };
    let at = "x.properties[l].items.x-kubernetes-validations[0].rule";
    // 801 units, 1,048,576 times.
    let factor = said(&often(json!({})), false)[0].clone();
    assert_eq!(
        factor,
        format!("{at}: Forbidden: estimated rule cost exceeds budget by factor of 84.0x {advice}")
    );
    assert_eq!(said(&often(json!({"maxItems": 10})), false), Vec::<String>::new());
}
