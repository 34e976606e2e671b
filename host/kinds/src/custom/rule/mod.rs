//! The rules of custom kinds' schemas in CEL (`x-kubernetes-validations`).
//!
//! Judged when a definition is written (`judge`), read once when first asked, and kept with their schema. The
//! engine is `crate::cel`.

mod judge;

use std::sync::OnceLock;

use serde_json::Value as Json;

pub(super) use self::judge::check;
use super::Path;
use super::check::{correlated, join};
use super::schema::{Additional, Schema};
use crate::cel::{
    CALL_COST_MAX, Evaluation, Expr, Failure, MESSAGE_BYTES_MAX, Node, OBJECT_COST_MAX, Outcome, Problem,
    Value, parse, patience,
};
use crate::validate::{Cause, FieldError};

/// One of `x-kubernetes-validations`.
#[derive(Debug)]
pub struct Rule {
    /// The expression.
    pub rule: Box<str>,
    message: Box<str>,
    message_expression: Box<str>,
    reason: Box<str>,
    /// With its leading dot gone.
    field_path: Box<str>,
    optional_old_self: bool,
    read: OnceLock<Result<Node, Problem>>,
    read_message: OnceLock<Result<Node, Problem>>,
}

impl Rule {
    /// Reads a rule's text.
    pub fn read(text: &Json) -> Self {
        let word = |name: &str| text[name].as_str().unwrap_or_default();
        let path = Path::parse(word("fieldPath")).ok();
        let members = path.as_ref().and_then(Path::members).unwrap_or_default();
        Self {
            rule: word("rule").into(),
            message: word("message").trim().into(),
            message_expression: word("messageExpression").into(),
            reason: word("reason").into(),
            field_path: members.join(".").into(),
            optional_old_self: text["optionalOldSelf"] == true,
            read: OnceLock::new(),
            read_message: OnceLock::new(),
        }
    }

    fn node(&self) -> &Result<Node, Problem> {
        self.read.get_or_init(|| parse(&self.rule))
    }

    fn message_node(&self) -> &Result<Node, Problem> {
        self.read_message.get_or_init(|| parse(&self.message_expression))
    }

    fn uses_old_self(&self) -> bool {
        self.node().as_ref().is_ok_and(|node| mentions(node, "oldSelf"))
    }

    /// What errors call it.
    fn shown(&self) -> &str {
        if self.message.is_empty() {
            self.rule.trim()
        } else {
            &self.message
        }
    }
}

fn mentions(node: &Node, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(one) if one == name)
        || node.children().into_iter().any(|child| mentions(child, name))
}

/// Whether a schema has rules anywhere.
pub(super) fn has_rules(schema: &Schema) -> bool {
    !schema.rules.is_empty()
        || schema.properties.iter().any(|(_, field)| has_rules(field))
        || schema.items.as_ref().is_some_and(|items| has_rules(items))
        || matches!(&schema.additional, Additional::Schema(values) if has_rules(values))
}

/// What the rules find wrong with an object.
pub(super) fn validate(schema: &Schema, object: &Json, old: Option<&Json>) -> Vec<FieldError> {
    let mut walk = Walk {
        errors: Vec::new(),
        left: OBJECT_COST_MAX,
        over: false,
    };
    walk.value(schema, object, old, "");
    walk.errors
}

struct Walk {
    errors: Vec<FieldError>,
    left: u64,
    /// Nothing more is looked at.
    over: bool,
}

impl Walk {
    fn value(&mut self, schema: &Schema, value: &Json, old: Option<&Json>, path: &str) {
        if value.is_null() || self.over || !has_rules(schema) {
            return;
        }
        for rule in &schema.rules {
            self.rule(schema, rule, value, old, path);
            if self.over {
                return;
            }
        }
        match value {
            Json::Array(list) => {
                let Some(items) = &schema.items else { return };
                for (index, item) in list.iter().enumerate() {
                    let before = correlated(schema, item, old);
                    self.value(items, item, before, &format!("{path}[{index}]"));
                }
            }
            Json::Object(fields) => {
                let old = old.filter(|_| !schema.atomic);
                for (name, member) in fields {
                    if let Some(field) = schema.field(name) {
                        let before = old
                            .and_then(|old| old.get(name))
                            .filter(|before| !before.is_null());
                        let map = schema.property(name).is_none();
                        let at = if map {
                            format!("{path}[{name}]")
                        } else {
                            join(path, name)
                        };
                        self.value(field, member, before, &at);
                    }
                }
            }
            _ => {}
        }
    }

    fn rule(&mut self, schema: &Schema, rule: &Rule, value: &Json, old: Option<&Json>, path: &str) {
        let transition = rule.uses_old_self();
        if (transition && old.is_none() && !rule.optional_old_self) || (!transition && old == Some(value)) {
            return;
        }
        let node = match rule.node() {
            Ok(node) => node,
            Err(problem) => {
                let why = problem.shown(&rule.rule);
                self.fail(
                    schema,
                    path,
                    &format!("rule compile error: compilation failed: {why}"),
                );
                return;
            }
        };
        match self.run(schema, node, rule, value, old) {
            Ok(Value::Bool(true)) => {}
            Ok(_) => self.refuse(schema, rule, value, old, path),
            Err(Failure::OverBudget) => {
                self.over = true;
                let why = if self.left == 0 {
                    "validation failed due to running out of cost budget, no further validation rules will be run"
                        .to_string()
                } else {
                    format!(
                        "'operation cancelled: actual cost limit exceeded': no further validation rules will be run \
                         due to call cost exceeds limit for rule: {}",
                        rule.shown()
                    )
                };
                self.fail(schema, path, &why);
            }
            Err(Failure::Error(why)) if why.starts_with("no such overload") => {
                let why = format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for \
                     rule: {}",
                    rule.shown()
                );
                self.fail(schema, path, &why);
            }
            Err(Failure::Error(why)) => {
                self.fail(schema, path, &format!("{why} evaluating rule: {}", rule.shown()));
            }
        }
    }

    fn run<'a>(
        &mut self,
        schema: &'a Schema,
        node: &Node,
        rule: &Rule,
        value: &'a Json,
        old: Option<&'a Json>,
    ) -> Outcome<'a> {
        let mut variables = vec![("self", Value::json(value, Some(schema)))];
        let before = old.map(|old| Value::json(old, Some(schema)));
        if rule.optional_old_self {
            variables.push(("oldSelf", Value::Optional(before.map(std::rc::Rc::new))));
        } else {
            variables.extend(before.map(|before| ("oldSelf", before)));
        }
        let budget = self.left.min(CALL_COST_MAX).min(patience::left());
        let mut evaluation = Evaluation::new(variables, budget);
        let outcome = evaluation.value(node);
        self.left -= budget - evaluation.left();
        patience::spend(budget - evaluation.left());
        outcome
    }

    /// An error of the rule itself.
    fn fail(&mut self, schema: &Schema, path: &str, why: &str) {
        let kind = schema.kind.map_or("", |kind| kind.as_str());
        self.errors.push(FieldError::invalid_text(place(path), kind, why));
    }

    /// The rule holds the value wrong.
    fn refuse(&mut self, schema: &Schema, rule: &Rule, value: &Json, old: Option<&Json>, path: &str) {
        let detail = match self.message(schema, rule, value, old) {
            Some(message) => message,
            None if rule.message.is_empty() => format!("failed rule: {}", rule.rule.trim()),
            None => rule.message.to_string(),
        };
        let at = match &*rule.field_path {
            "" => path.to_string(),
            below => join(path, below),
        };
        let at = place(&at);
        let shown = match value {
            Json::Object(_) | Json::Array(_) => String::new(),
            Json::String(text) => format!(": {text:?}"),
            other => format!(": {other}"),
        };
        self.errors.push(match &*rule.reason {
            "FieldValueRequired" => FieldError::required(at, &detail),
            "FieldValueForbidden" => FieldError::forbidden(at, &detail),
            "FieldValueDuplicate" => {
                FieldError::new(at, Cause::Duplicate, format!("Duplicate value{shown}: {detail}"))
            }
            _ => FieldError::new(
                at,
                Cause::FieldValueInvalid,
                format!("Invalid value{shown}: {detail}"),
            ),
        });
    }

    /// What `messageExpression` makes; none where it fails or makes nothing that can be shown.
    fn message(&mut self, schema: &Schema, rule: &Rule, value: &Json, old: Option<&Json>) -> Option<String> {
        if rule.message_expression.is_empty() {
            return None;
        }
        let made = match rule
            .message_node()
            .as_ref()
            .ok()
            .map(|node| self.run(schema, node, rule, value, old))?
        {
            Ok(Value::String(text)) => text.trim().to_string(),
            _ => return None,
        };
        let fits = !made.is_empty() && !made.contains(['\n', '\r']) && made.len() <= MESSAGE_BYTES_MAX;
        fits.then_some(made)
    }
}

fn place(path: &str) -> String {
    let path = path.trim_start_matches('.');
    if path.is_empty() { "<nil>" } else { path }.to_string()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod costs;
