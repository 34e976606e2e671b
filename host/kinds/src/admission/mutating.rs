//! A MutatingAdmissionPolicy, compiled, and what it makes of an object.
//! Invariants: an applied configuration is merged by the kind's schema as server-side apply merges, and may
//! not touch what is owned as a whole; a JSON patch whose test fails changes nothing.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::condition::{Conditions, Matched};
use super::environment::Environment;
use super::expression::{Expression, Input, Variable};
use super::fails;
use super::rule::MatchResources;
use super::validating::ParamKind;
use crate::apply::{Atom, Typed, fits, merged};
use crate::cel::{OBJECT_COST_MAX, Value, misnamed};
use crate::patch;
use crate::resource::Resource;
use crate::schema::ListType;

/// See the module.
#[derive(Debug)]
pub struct MutatingPolicy {
    /// Its name.
    pub name: Box<str>,
    /// What it is about.
    pub constraints: MatchResources,
    /// Of its parameters, where it has any.
    pub param_kind: Option<ParamKind>,
    /// Whether what goes wrong refuses the request.
    pub fails: bool,
    /// Whether it wants to see what others made of the object after it.
    pub reinvoked: bool,
    conditions: Conditions,
    variables: Box<[Variable]>,
    mutations: Box<[Mutation]>,
}

#[derive(Debug)]
enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

/// Why there is no new object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmutated(pub String);

impl MutatingPolicy {
    /// Compiles a policy; expressions that do not compile show when it is evaluated.
    pub fn read(text: &Json) -> Arc<Self> {
        let spec = &text["spec"];
        let fails = fails(spec);
        let param_kind = ParamKind::read(spec);
        let mut environment = Environment::plain(param_kind.is_some());
        let variables = Variable::all(&spec["variables"], &mut environment);
        let conditions = Conditions::read(&spec["matchConditions"], fails, &environment);
        environment.messages = true;
        let mutations = spec["mutations"].as_array().into_iter().flatten();
        let mutations = mutations.filter_map(|one| {
            let text = |field: &str| one[field]["expression"].as_str().unwrap_or_default();
            Some(match one["patchType"].as_str()? {
                "ApplyConfiguration" => Mutation::Apply(Expression::compile(
                    text("applyConfiguration"),
                    &environment,
                    &["Object"],
                )),
                "JSONPatch" => Mutation::Patch(Expression::compile(
                    text("jsonPatch"),
                    &environment,
                    &["list(JSONPatch)"],
                )),
                _ => return None,
            })
        });
        Arc::new(Self {
            name: text["metadata"]["name"].as_str().unwrap_or_default().into(),
            constraints: MatchResources::read(&spec["matchConstraints"]),
            fails,
            reinvoked: spec["reinvocationPolicy"] == "IfNeeded",
            conditions,
            mutations: mutations.collect(),
            variables,
            param_kind,
        })
    }

    /// How many mutations it has.
    pub fn mutations(&self) -> usize {
        self.mutations.len()
    }

    /// Whether its conditions hold.
    pub fn applies(&self, input: &Input<'_>) -> Matched {
        self.conditions.hold_with(input, &self.variables)
    }

    /// What its `index`-th mutation makes of the object, of which `resource` is the kind.
    pub fn mutate(&self, index: usize, resource: &Resource, input: &Input<'_>) -> Result<Json, Unmutated> {
        let Some(object) = input.object else {
            return Err(Unmutated("there is no object".into()));
        };
        let mut evaluation = input.evaluation(&self.variables);
        let mut budget = OBJECT_COST_MAX;
        let mut value = |expression: &Expression| {
            let value = expression.evaluate(&mut evaluation, &mut budget);
            value.and_then(|value| value).map_err(|why| {
                let why = why
                    .strip_prefix("compilation error: ")
                    .map_or(why.clone(), |rest| format!("compilation error: {rest}"));
                Unmutated(why)
            })
        };
        match &self.mutations[index] {
            Mutation::Apply(expression) => configured(resource, object, value(expression)?),
            Mutation::Patch(expression) => patched(object, value(expression)?),
        }
    }
}

fn configured(resource: &Resource, object: &Json, value: Value<'_>) -> Result<Json, Unmutated> {
    if !matches!(&value, Value::Message(message) if message.name != "JSONPatch") {
        let kind = value.type_name();
        let why = format!("unsupported return type from ApplyConfiguration expression: {kind}");
        return Err(Unmutated(why));
    }
    if let Some(why) = misnamed(&value) {
        return Err(Unmutated(format!("type mismatch: {why}")));
    }
    let mut config = value
        .to_json()
        .map_err(|why| Unmutated(format!("invalid return type: {why}")))?;
    config["apiVersion"] = object["apiVersion"].clone();
    config["kind"] = object["kind"].clone();
    let typed = match &resource.custom {
        Some(custom) => Some(Typed::custom_object(&custom.schema)),
        None => {
            let text = |field: &str| object[field].as_str().unwrap_or_default().to_string();
            Typed::built_in(&text("apiVersion"), &text("kind"))
        }
    };
    let typed = typed.unwrap_or(Typed::Deduced);
    fits(typed, &config).map_err(|why| {
        Unmutated(format!(
            "error applying patch: failed to convert patch object to typed object: {why}"
        ))
    })?;
    let mut owned = Vec::new();
    atomics(typed, &config, &mut String::new(), &mut owned);
    if !owned.is_empty() {
        return Err(Unmutated(format!(
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            owned.join(", ")
        )));
    }
    Ok(merged(typed, object, &config))
}

/// Paths within a configuration that are owned as a whole.
fn atomics(of: Typed<'_>, value: &Json, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (of.atom(Some(value)), value) {
        (Atom::Map(map), Json::Object(fields)) => {
            if map.atomic {
                found.push(path.clone());
            }
            for (name, member) in fields {
                if let Some((inner, true)) = map.member(name) {
                    path.push('.');
                    path.push_str(name);
                    atomics(inner, member, path, found);
                    path.truncate(length);
                }
            }
        }
        (Atom::List(list), Json::Array(items)) => {
            if list.kind == ListType::Atomic {
                found.push(path.clone());
            }
            for (index, item) in items.iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                atomics(list.items, item, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn patched(object: &Json, value: Value<'_>) -> Result<Json, Unmutated> {
    let Some(items) = value.items() else {
        return Err(Unmutated(
            "type mismatch: JSONPatchType.expression should evaluate to array".into(),
        ));
    };
    let mut operations = Vec::with_capacity(items.len());
    for item in items {
        let Value::Message(message) = &item else {
            return Err(Unmutated(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
                item.type_name()
            )));
        };
        let text = |field: &str| match message.field(field) {
            Some(Value::String(text)) => text.to_string(),
            _ => String::new(),
        };
        let mut operation = json!({ "op": text("op"), "path": text("path") });
        if !text("from").is_empty() {
            operation["from"] = json!(text("from"));
        }
        if let Some(value) = message.field("value") {
            if let Some(why) = misnamed(value) {
                return Err(Unmutated(format!("type mismatch: {why}")));
            }
            operation["value"] = value.to_json().map_err(|why| {
                Unmutated(format!(
                    "JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}"
                ))
            })?;
        }
        operations.push(operation);
    }
    let mut new = object.clone();
    // The original takes a failed test for "not this one".
    for operation in operations {
        let is_test = operation["op"] == "test";
        if let Err(error) = patch::json(&mut new, &json!([operation])) {
            if is_test {
                return Ok(object.clone());
            }
            return Err(Unmutated(format!("JSON Patch: {error}")));
        }
    }
    Ok(new)
}
