//! Whether the rules of a definition's schema may be stored: they compile, give what they should, and cannot
//! cost too much.
//! Invariants: an estimate is of the largest object that fits a request, as often as its schema lets the value
//! be there; a schema that has been stored as it is keeps its costly rules, as in the original.

use serde_json::Value as Json;

use super::super::bounds::{children_max, elements_at, times_max};
use super::super::schema::{Additional, ListType, Schema};
use super::Rule;
use crate::cel::{Node, Problem, Type, Types, estimate};
use crate::validate::FieldError;

/// Units that one expression may cost by the estimate.
const EXPRESSION_COST_MAX: u64 = 10_000_000;
/// Units that all expressions of one schema may cost together.
const SCHEMA_COST_MAX: u64 = 100_000_000;
/// The most expensive expressions that are named where a schema costs too much.
const NAMED_MAX: usize = 4;

/// What is wrong with the rules of a definition's schema. `stored`: the schema has been stored as it is.
pub(in crate::custom) fn check(text: &Json, schema: &Schema, at: &str, stored: bool) -> Vec<FieldError> {
    let mut judge = Judge {
        errors: Vec::new(),
        costs: Vec::new(),
        stored,
    };
    judge.schema(
        text,
        schema,
        &Place {
            at: at.to_string(),
            resource: true,
            lost: None,
            times: Some(1),
        },
    );
    judge.total(at);
    judge.errors
}

/// Where a schema stands.
struct Place {
    at: String,
    resource: bool,
    /// Where old and new values stop belonging together, if they do above this schema.
    lost: Option<String>,
    /// How often its value can be there; none where nothing bounds it.
    times: Option<u64>,
}

impl Place {
    fn below(&self, schema: &Schema, own: &Schema, at: &str, parts: bool) -> Place {
        let times = self.times.zip(children_max(schema));
        Place {
            at: format!("{}.{at}", self.at),
            resource: own.embedded,
            lost: self.lost.clone().or_else(|| parts.then(|| self.at.clone())),
            times: times.map(|(times, children)| times.saturating_mul(children)),
        }
    }
}

struct Judge {
    errors: Vec<FieldError>,
    /// Of each expression, with its field.
    costs: Vec<(String, u64)>,
    stored: bool,
}

impl Judge {
    fn schema(&mut self, text: &Json, schema: &Schema, place: &Place) {
        for (index, rule) in schema.rules.iter().enumerate() {
            let own = format!("{}.x-kubernetes-validations[{index}]", place.at);
            let shown = &text["x-kubernetes-validations"][index];
            self.rule(rule, schema, place, &own, shown);
            self.transition(rule, place, &own, shown);
        }
        for (name, field) in &schema.properties {
            let place = place.below(schema, field, &format!("properties[{name}]"), schema.atomic);
            self.schema(&text["properties"][&**name], field, &place);
        }
        if let Some(items) = &schema.items {
            let place = place.below(schema, items, "items", schema.list != ListType::Map);
            self.schema(&text["items"], items, &place);
        }
        if let Additional::Schema(values) = &schema.additional {
            let place = place.below(schema, values, "additionalProperties", false);
            self.schema(&text["additionalProperties"], values, &place);
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, place: &Place, own: &str, shown: &Json) {
        let this = Type::of(schema, place.resource);
        let old = if rule.optional_old_self {
            Type::Optional(this.clone().into())
        } else {
            this.clone()
        };
        let variables = [("self", this), ("oldSelf", old)];
        let judged = |source: &str, node: &Result<Node, Problem>| {
            let judged = node.as_ref().map_err(Clone::clone).and_then(|node| {
                let types = Types::of(node, &variables)?;
                let most = |path: &[String]| elements_at(schema, place.resource, path);
                Ok((types.get(node).clone(), estimate(node, &types, &most)))
            });
            judged.map_err(|problem| problem.shown(source))
        };
        let field = format!("{own}.rule");
        match judged(&rule.rule, rule.node()) {
            Err(why) => {
                let why = format!("compilation failed: {why}");
                self.errors.push(FieldError::invalid(field, shown, &why));
                return;
            }
            Ok((Type::Dyn | Type::Plain("bool"), cost)) => {
                let times = place.times.unwrap_or_else(|| times_max(schema));
                self.cost("estimated rule cost", field, cost.saturating_mul(times));
            }
            Ok(_) => {
                let why = "cel expression must evaluate to a bool";
                self.errors.push(FieldError::invalid(field, shown, why));
                return;
            }
        }
        if rule.message_expression.trim().is_empty() {
            return;
        }
        let field = format!("{own}.messageExpression");
        match judged(&rule.message_expression, rule.message_node()) {
            Err(why) => {
                let why = format!("messageExpression compilation failed: {why}");
                self.errors.push(FieldError::invalid(field, shown, &why));
            }
            Ok((Type::Dyn | Type::Plain("string"), cost)) => {
                self.cost("estimated messageExpression cost", field, cost);
            }
            Ok(_) => {
                let why = "messageExpression must evaluate to a string";
                self.errors.push(FieldError::invalid(field, shown, why));
            }
        }
    }

    fn transition(&mut self, rule: &Rule, place: &Place, own: &str, shown: &Json) {
        if rule.uses_old_self() {
            if let Some(lost) = &place.lost {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {lost}"
                );
                self.errors
                    .push(FieldError::invalid_text(format!("{own}.rule"), &rule.rule, &why));
            }
        } else if shown["optionalOldSelf"].is_boolean() {
            let why = "may not be set if oldSelf is not used in rule";
            let field = format!("{own}.optionalOldSelf");
            self.errors
                .push(FieldError::invalid(field, &shown["optionalOldSelf"], why));
        }
    }

    fn cost(&mut self, name: &str, field: String, cost: u64) {
        if cost > EXPRESSION_COST_MAX && !self.stored {
            let why = exceeds(name, cost, EXPRESSION_COST_MAX);
            self.errors.push(FieldError::forbidden(field.as_str(), &why));
        }
        self.costs.push((field, cost));
    }

    fn total(&mut self, at: &str) {
        let total = self
            .costs
            .iter()
            .fold(0_u64, |sum, (_, cost)| sum.saturating_add(*cost));
        if total <= SCHEMA_COST_MAX {
            return;
        }
        self.costs.retain(|(_, cost)| *cost >= SCHEMA_COST_MAX / 100);
        self.costs.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        for (field, _) in self.costs.iter().take(NAMED_MAX) {
            let why =
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            self.errors.push(FieldError::forbidden(field.as_str(), why));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let why = exceeds(name, total, SCHEMA_COST_MAX);
        self.errors.push(FieldError::forbidden(at, &why));
    }
}

fn exceeds(name: &str, cost: u64, most: u64) -> String {
    let factor = cost as f64 / most as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_string()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, \
         and maxLength where arrays, maps, and strings are declared)"
    )
}
