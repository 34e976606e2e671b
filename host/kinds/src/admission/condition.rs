//! `matchConditions`: all must hold before a webhook is called or a policy is evaluated.

use serde_json::Value as Json;

use super::CONDITIONS_COST_MAX;
use super::environment::Environment;
use super::expression::{Expression, Input, Variable};
use crate::cel::Value;

/// See the module.
#[derive(Debug, Clone)]
pub struct Conditions {
    list: Box<[Expression]>,
    fails: bool,
}

/// What the conditions say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matched {
    /// All hold.
    Yes,
    /// One does not.
    No,
    /// They could not be evaluated, and that refuses the request.
    Failed(String),
}

impl Conditions {
    /// Compiles a `matchConditions` list; one that does not compile shows when it is evaluated.
    pub fn read(text: &Json, fails: bool, environment: &Environment<'_>) -> Self {
        let list = text.as_array().into_iter().flatten();
        let list = list.map(|one| {
            let text = one["expression"].as_str().unwrap_or_default();
            Expression::compile(text, environment, &["bool"])
        });
        Self {
            list: list.collect(),
            fails,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One that is false decides, whatever errors the others give.
    pub fn hold(&self, input: &Input<'_>) -> Matched {
        self.hold_with(input, &[])
    }

    pub(super) fn hold_with(&self, input: &Input<'_>, variables: &[Variable]) -> Matched {
        if self.list.is_empty() {
            return Matched::Yes;
        }
        let mut evaluation = input.evaluation(variables);
        let mut budget = CONDITIONS_COST_MAX;
        let mut errors = Vec::new();
        let mut decided = false;
        for one in &self.list {
            match one.evaluate(&mut evaluation, &mut budget) {
                Ok(Ok(Value::Bool(false))) => decided = true,
                Ok(Ok(_)) => {}
                Ok(Err(why)) => errors.push(why),
                Err(why) => return self.failed(vec![why]),
            }
        }
        match (decided, errors.is_empty()) {
            (true, _) => Matched::No,
            (false, true) => Matched::Yes,
            (false, false) => self.failed(errors),
        }
    }

    fn failed(&self, mut errors: Vec<String>) -> Matched {
        if !self.fails {
            return Matched::No;
        }
        Matched::Failed(match errors.len() {
            1 => errors.remove(0),
            _ => format!("[{}]", errors.join(", ")),
        })
    }
}
