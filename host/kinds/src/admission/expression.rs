//! A compiled expression and what it is evaluated on.

use serde_json::Value as Json;

use super::environment::Environment;
use crate::cel::{Access, Evaluation, Failure, Node, Type, Value};

/// What the request brings.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// None for a deletion.
    pub object: Option<&'a Json>,
    /// None for a creation.
    pub old: Option<&'a Json>,
    /// AdmissionRequest.
    pub request: &'a Json,
    /// None where the policy has no parameters, or the binding names none.
    pub params: Option<&'a Json>,
    /// None for what stands in no namespace.
    pub namespace: Option<&'a Json>,
    /// Who may do what.
    pub access: Option<Access<'a>>,
}

impl<'a> Input<'a> {
    /// An evaluation with these variables, without a budget yet.
    pub(super) fn evaluation(&self, variables: &'a [Variable]) -> Evaluation<'a> {
        let json = |value: Option<&'a Json>| value.map_or(Value::Null, |value| Value::json(value, None));
        let mut all = vec![
            ("object", json(self.object)),
            ("oldObject", json(self.old)),
            ("request", json(Some(self.request))),
            ("namespaceObject", json(self.namespace)),
            ("params", json(self.params)),
        ];
        all.extend(
            self.access
                .clone()
                .map(|access| ("authorizer", Value::Access(access.into()))),
        );
        let mut evaluation = Evaluation::new(all, 0);
        for variable in variables {
            evaluation.compose(
                &variable.name,
                variable.expression.node.as_ref().map_err(Clone::clone),
            );
        }
        evaluation
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Expression {
    /// As it was written.
    pub text: Box<str>,
    node: Result<Node, String>,
}

/// Why nothing more is evaluated.
pub(super) const OVER_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl Expression {
    /// Reads it; that it does not compile shows when it is evaluated.
    pub fn compile(text: &str, environment: &Environment<'_>, wanted: &[&str]) -> Self {
        Self {
            text: text.into(),
            node: environment.compile(text, wanted).map(|(node, _)| node),
        }
    }

    /// Its value, or why there is none; the outer error where the budget is gone.
    pub(super) fn evaluate<'a>(
        &self,
        evaluation: &mut Evaluation<'a>,
        budget: &mut u64,
    ) -> Result<Result<Value<'a>, String>, String> {
        let node = match &self.node {
            Ok(node) => node,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        match evaluation.run(node, budget) {
            Ok(value) => Ok(Ok(value)),
            Err(Failure::OverBudget) => Err(OVER_BUDGET.to_string()),
            Err(Failure::Error(why)) => Ok(Err(format!(
                "expression '{}' resulted in error: {why}",
                self.text
            ))),
        }
    }
}

/// One of a policy's `variables`.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub name: Box<str>,
    pub expression: Expression,
}

impl Variable {
    /// Reads all; each may use those before it. The environment knows them afterwards.
    pub(super) fn all(text: &Json, environment: &mut Environment<'_>) -> Box<[Variable]> {
        environment.variables = Some(Vec::new());
        let mut all = Vec::new();
        for one in text.as_array().into_iter().flatten() {
            let word = |field: &str| one[field].as_str().unwrap_or_default();
            let compiled = environment.compile(word("expression"), &[]);
            let kind = compiled.as_ref().map_or(Type::Dyn, |(_, kind)| kind.clone());
            if let Some(known) = &mut environment.variables {
                known.push((word("name").to_string(), kind));
            }
            all.push(Variable {
                name: word("name").into(),
                expression: Expression {
                    text: word("expression").into(),
                    node: compiled.map(|(node, _)| node),
                },
            });
        }
        all.into()
    }
}
