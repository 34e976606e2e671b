//! The types of what a validating policy is about, and what its expressions do wrong with them
//! (`status.typeChecking`).
//! Invariants: only resources that the policy names without wildcards are judged, a few at most, as in the
//! original; a warning never keeps a policy from being in force.

use serde_json::{Value, json};

use super::environment::Environment;
use super::expression::Variable;
use crate::cel::Type;
use crate::custom::Schema;
use crate::resource::Resource;
use crate::schema;

/// Kinds that one policy is checked against at most.
const TYPES_MAX: usize = 10;
/// Levels of a built-in kind's schema that are known to expressions.
const DEPTH_MAX: usize = 24;

/// The schema of a resource's objects, for expressions; none where nothing is known.
pub fn typed(resource: &Resource) -> Option<Schema> {
    if resource.custom.is_some() {
        return None;
    }
    let schema = schema::of(&resource.api_version(), &resource.kind)?;
    Some(Schema::compile(&text(schema, 0)))
}

fn text(schema: &'static schema::Schema, depth: usize) -> Value {
    use schema::Shape;
    if depth > DEPTH_MAX {
        return json!({});
    }
    let below = |one: &'static schema::Schema| text(one, depth + 1);
    match schema.shape() {
        Shape::String => json!({"type": "string"}),
        Shape::Bytes => json!({"type": "string", "format": "byte"}),
        Shape::Time => json!({"type": "string", "format": "date-time"}),
        Shape::Quantity | Shape::IntOrString => json!({"x-kubernetes-int-or-string": true}),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer { .. } => json!({"type": "integer"}),
        Shape::Number => json!({"type": "number"}),
        Shape::Object(fields) if fields.is_empty() => json!({}),
        Shape::Object(fields) => {
            let properties: serde_json::Map<String, Value> = fields
                .iter()
                .map(|(name, field)| ((*name).to_string(), below(field)))
                .collect();
            json!({"type": "object", "properties": properties})
        }
        Shape::Map(values) => json!({"type": "object", "additionalProperties": below(values)}),
        Shape::List(items) => json!({"type": "array", "items": below(items)}),
        Shape::Any | Shape::Reference(_) => json!({}),
    }
}

/// The type of a whole object. A custom kind's schema need not say what every object has.
fn whole(schema: &Schema) -> Type<'_> {
    if schema.properties.is_empty() && schema.preserve {
        return Type::Dyn;
    }
    let own = schema.properties.iter();
    let mut fields: Vec<(String, Type<'_>)> = own
        .map(|(name, field)| (name.to_string(), Type::of(field, false)))
        .collect();
    fields.retain(|(name, _)| schema.property("kind").is_some() || name != "metadata");
    for (name, kind) in [
        ("apiVersion", Type::Plain("string")),
        ("kind", Type::Plain("string")),
        ("metadata", Type::Dyn),
    ] {
        if !fields.iter().any(|(own, _)| own == name) {
            fields.push((name.to_string(), kind));
        }
    }
    Type::Fields(fields)
}

/// The names that a rule spells out: group, version, plural.
fn named(spec: &Value) -> Vec<(String, String, String)> {
    let words = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        let mut words: Vec<String> = list.filter_map(|one| one.as_str().map(str::to_string)).collect();
        words.sort();
        words
    };
    let mut all = Vec::new();
    let rules = spec["matchConstraints"]["resourceRules"].as_array();
    for rule in rules.into_iter().flatten() {
        let (groups, versions) = (words(&rule["apiGroups"]), words(&rule["apiVersions"]));
        if groups.iter().chain(&versions).any(|word| word.contains('*')) {
            continue;
        }
        for group in &groups {
            for version in &versions {
                for plural in words(&rule["resources"]) {
                    if !plural.contains(['*', '/']) {
                        all.push((group.clone(), version.clone(), plural));
                    }
                }
            }
        }
    }
    all
}

/// `expressionWarnings` of a policy; `find` gives the schema and kind of a resource.
pub fn warnings<'s>(
    policy: &Value,
    mut find: impl FnMut(&str, &str, &str) -> Option<(String, &'s Schema)>,
) -> Vec<Value> {
    let spec = &policy["spec"];
    let mut kinds: Vec<(String, &'s Schema)> = Vec::new();
    for (group, version, plural) in named(spec) {
        if let Some((kind, schema)) = find(&group, &version, &plural)
            && !kinds.iter().any(|(shown, _)| shown.ends_with(&kind))
            && kinds.len() < TYPES_MAX
        {
            kinds.push((format!("{group}/{version}, Kind={kind}"), schema));
        }
    }
    kinds.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut found = Vec::new();
    let validations = spec["validations"].as_array().into_iter().flatten();
    for (index, one) in validations.enumerate() {
        for field in ["expression", "messageExpression"] {
            let Some(text) = one[field].as_str().filter(|text| !text.is_empty()) else {
                continue;
            };
            let problems: Vec<String> = kinds
                .iter()
                .filter_map(|(kind, schema)| {
                    let mut environment = Environment {
                        object: whole(schema),
                        params: spec["paramKind"].is_object().then_some(Type::Dyn),
                        authorizer: true,
                        messages: false,
                        variables: None,
                    };
                    Variable::all(&spec["variables"], &mut environment);
                    let why = environment.compile(text, &[]).err()?;
                    Some(format!("{kind}: {why}\n"))
                })
                .collect();
            if !problems.is_empty() {
                found.push(json!({
                    "fieldRef": format!("spec.validations[{index}].{field}"),
                    "warning": problems.join("\n"),
                }));
            }
        }
    }
    found
}
