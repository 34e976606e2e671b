//! Evaluating an expression, within a budget.
//! Invariants: no panic, no unbounded work: every node costs one unit, every walk over a text or a list costs
//! its length, and when the budget is gone the evaluation ends. `&&` and `||` forgive the error of one side
//! where the other decides. Left out: types are judged before (`types`), not here.

use std::borrow::Cow;
use std::rc::Rc;

use super::functions;
use super::message::Message;
use super::patience;
use super::tokens::is_keyword;
use super::tree::{Expr, Literal, Loop, Node, Operator};
use super::value::Value;

/// Units that one expression may cost, as in the original.
pub const CALL_COST_MAX: u64 = 1_000_000;
/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// In the original's words.
    Error(String),
    /// The budget is gone.
    OverBudget,
}

/// A value or none.
pub type Outcome<'a> = Result<Value<'a>, Failure>;

pub(super) fn error<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Error(message.into()))
}

/// No function takes these.
pub(super) fn no_overload<T>() -> Result<T, Failure> {
    error("no such overload")
}

/// An evaluation: its variables and what is left of its budget.
pub struct Evaluation<'a> {
    variables: Vec<(Cow<'a, str>, Value<'a>)>,
    left: u64,
    /// How many variables were given; those after them are of loops.
    given: usize,
    composed: Vec<Composed<'a>>,
}

/// One of a policy's `variables`: evaluated when it is first asked for, once.
struct Composed<'a> {
    name: &'a str,
    node: Result<&'a Node, String>,
    value: State<'a>,
}

#[derive(Clone)]
enum State<'a> {
    Unasked,
    Running,
    Known(Outcome<'a>),
}

impl<'a> Evaluation<'a> {
    /// With the given variables and budget.
    pub fn new(variables: Vec<(&'a str, Value<'a>)>, budget: u64) -> Self {
        let variables: Vec<_> = variables
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), value))
            .collect();
        Self {
            given: variables.len(),
            variables,
            left: budget,
            composed: Vec::new(),
        }
    }

    /// Adds `variables.NAME`; where its expression does not compile, the reason.
    pub fn compose(&mut self, name: &'a str, node: Result<&'a Node, String>) {
        self.composed.push(Composed {
            name,
            node,
            value: State::Unasked,
        });
    }

    /// The value of a whole expression, paid from `budget`; one expression may cost [`CALL_COST_MAX`].
    pub fn run(&mut self, node: &Node, budget: &mut u64) -> Outcome<'a> {
        let most = (*budget).min(CALL_COST_MAX).min(patience::left());
        self.left = most;
        let outcome = self.value(node);
        *budget -= most - self.left;
        patience::spend(most - self.left);
        match outcome {
            Err(Failure::OverBudget) if *budget > 0 => {
                error("operation cancelled: actual cost limit exceeded")
            }
            outcome => outcome,
        }
    }

    fn composed(&mut self, name: &str) -> Outcome<'a> {
        let Some(at) = self.composed.iter().position(|one| one.name == name) else {
            return error(format!("no such key: {name}"));
        };
        let one = &mut self.composed[at];
        let node = match (&one.value, &one.node) {
            (State::Known(outcome), _) => return outcome.clone(),
            (State::Running, _) => return error(format!("composited variable {name:?} refers to itself")),
            (State::Unasked, Err(why)) => {
                return error(format!("composited variable {name:?} fails to compile: {why}"));
            }
            (State::Unasked, Ok(node)) => *node,
        };
        one.value = State::Running;
        let loops = self.variables.split_off(self.given);
        let outcome = match self.value(node) {
            Err(Failure::Error(why)) => {
                error(format!("composited variable {name:?} fails to evaluate: {why}"))
            }
            outcome => outcome,
        };
        self.variables.extend(loops);
        self.composed[at].value = State::Known(outcome.clone());
        outcome
    }

    /// The policy's variable that a selection names.
    fn composed_name<'n>(&self, of: &Node, field: &'n str) -> Option<&'n str> {
        let whole = matches!(&of.expr, Expr::Ident(name) if name == "variables");
        let shadowed = self.variables.iter().any(|(name, _)| name == "variables");
        (whole && !shadowed && !self.composed.is_empty()).then_some(field)
    }

    fn message(&mut self, name: &str, fields: &[(String, Node, bool)]) -> Outcome<'a> {
        let mut made = Vec::with_capacity(fields.len());
        for (field, node, optional) in fields {
            match (self.value(node)?, optional) {
                (Value::Optional(inner), true) => {
                    made.extend(inner.map(|inner| (field.clone(), (*inner).clone())))
                }
                (_, true) => return no_overload(),
                (value, false) => made.push((field.clone(), value)),
            }
        }
        Ok(Value::Message(Rc::new(Message {
            name: name.to_string(),
            fields: made,
        })))
    }

    /// What is left of the budget.
    pub fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn pay(&mut self, units: usize) -> Result<(), Failure> {
        match self.left.checked_sub(units as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Failure::OverBudget)
            }
        }
    }

    /// The value of a node.
    pub fn value(&mut self, node: &Node) -> Outcome<'a> {
        self.pay(1)?;
        self.of(node)
    }

    fn of(&mut self, node: &Node) -> Outcome<'a> {
        match &node.expr {
            Expr::Literal(literal) => Ok(self::literal(literal)),
            Expr::Ident(name) => self.variable(name),
            Expr::Select { of, field, optional } => self.select(of, field, *optional),
            Expr::Has { of, field } if self.composed_name(of, field).is_some() => {
                Ok(Value::Bool(self.composed.iter().any(|one| one.name == field)))
            }
            Expr::Has { of, field } => {
                let of = self.value(of)?;
                Ok(Value::Bool(member(&unwrapped(of), field).is_some()))
            }
            Expr::Index { of, index, optional } => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                self.index(of, index, *optional)
            }
            Expr::List(items) => self.list(items),
            Expr::Map(entries) => self.map(entries),
            Expr::Message { name, fields } => self.message(name, fields),
            Expr::Call { target, name, args } => self.call(target.as_deref(), name, args),
            Expr::Not(of) => match self.value(of)? {
                Value::Bool(flag) => Ok(Value::Bool(!flag)),
                _ => no_overload(),
            },
            Expr::Negate(of) => match self.value(of)? {
                Value::Int(number) => overflow(number.checked_neg().map(Value::Int)),
                Value::Double(number) => Ok(Value::Double(-number)),
                Value::Duration(nanos) => overflow(nanos.checked_neg().map(Value::Duration)),
                _ => no_overload(),
            },
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                functions::operate(self, *operator, left, right)
            }
            Expr::And(left, right) => self.either(left, right, false),
            Expr::Or(left, right) => self.either(left, right, true),
            Expr::Conditional(condition, yes, no) => match self.value(condition)? {
                Value::Bool(true) => self.value(yes),
                Value::Bool(false) => self.value(no),
                _ => no_overload(),
            },
            Expr::Loop {
                kind,
                over,
                names,
                filter,
                body,
            } => {
                let over = self.value(over)?;
                self.iterate(*kind, over, names, filter.as_deref(), body)
            }
            Expr::OptMap { of, name, body, flat } => match self.value(of)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(value)) => {
                    let value = self.with(&[(name, (*value).clone())], body)?;
                    Ok(if *flat {
                        value
                    } else {
                        Value::Optional(Some(Rc::new(value)))
                    })
                }
                _ => no_overload(),
            },
        }
    }

    fn variable(&self, name: &str) -> Outcome<'a> {
        let found = self.variables.iter().rev().find(|(one, _)| one == name);
        match found {
            Some((_, value)) => Ok(value.clone()),
            None => match functions::type_named(name) {
                Some(name) => Ok(Value::Type(name)),
                None => error(format!("no such attribute(s): {name}")),
            },
        }
    }

    fn select(&mut self, of: &Node, field: &str, optional: bool) -> Outcome<'a> {
        if let Some(name) = self.composed_name(of, field) {
            let value = self.composed(name)?;
            return Ok(if optional {
                Value::Optional(Some(Rc::new(value)))
            } else {
                value
            });
        }
        let of = self.value(of)?;
        if let Value::Access(access) = &of {
            return access.member(field).map_or_else(no_overload, Ok);
        }
        if let Value::Optional(inner) = &of {
            let found = inner.as_ref().and_then(|inner| member(inner, field));
            return Ok(Value::Optional(found.map(Rc::new)));
        }
        if of.entries().is_none() {
            return no_overload();
        }
        match member(&of, field) {
            found if optional => Ok(Value::Optional(found.map(Rc::new))),
            Some(value) => Ok(value),
            None => error(format!("no such key: {field}")),
        }
    }

    fn index(&mut self, of: Value<'a>, index: Value<'a>, optional: bool) -> Outcome<'a> {
        let (of, optional_of) = match of {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        let optional = optional || optional_of;
        let found = match (&of, &index) {
            (Value::List(_) | Value::Array(..), Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
                let at = match index {
                    Value::Int(at) => usize::try_from(at).ok(),
                    Value::Uint(at) => usize::try_from(at).ok(),
                    Value::Double(at) if at.fract() == 0.0 && at >= 0.0 => Some(at as usize),
                    _ => None,
                };
                let item = at.and_then(|at| item(&of, at));
                item.ok_or_else(|| format!("index out of bounds: {}", functions::shown(&index)))
            }
            (Value::Map(_) | Value::Object(..) | Value::Message(_), _) => {
                let member = of.member(&index);
                member.ok_or_else(|| format!("no such key: {}", functions::shown(&index)))
            }
            _ => return no_overload(),
        };
        match found {
            found if optional => Ok(Value::Optional(found.ok().map(Rc::new))),
            Ok(value) => Ok(value),
            Err(message) => error(message),
        }
    }

    fn list(&mut self, items: &[(Node, bool)]) -> Outcome<'a> {
        let mut list = Vec::with_capacity(items.len());
        for (node, optional) in items {
            match (self.value(node)?, optional) {
                (Value::Optional(inner), true) => list.extend(inner.map(|inner| (*inner).clone())),
                (value, _) => list.push(value),
            }
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &[(Node, Node, bool)]) -> Outcome<'a> {
        let mut map: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            if map.iter().any(|(one, _)| one.equals(&key)) {
                return error(format!("Failed with repeated key: {}", functions::shown(&key)));
            }
            match (self.value(value)?, optional) {
                (Value::Optional(inner), true) => map.extend(inner.map(|inner| (key, (*inner).clone()))),
                (value, _) => map.push((key, value)),
            }
        }
        Ok(Value::Map(Rc::new(map)))
    }

    fn call(&mut self, target: Option<&Node>, name: &str, args: &[Node]) -> Outcome<'a> {
        // `optional.of(x)`, `ip.isCanonical(x)`, `sets.contains(a, b)`: the target is a namespace.
        if let Some(Expr::Ident(space)) = target.map(|target| &target.expr)
            && functions::is_namespace(space)
            && !self.variables.iter().any(|(one, _)| one == space)
        {
            let args = self.values(args)?;
            return functions::call(self, &format!("{space}.{name}"), args);
        }
        match target {
            None => {
                let args = self.values(args)?;
                functions::call(self, name, args)
            }
            Some(target) => {
                let target = self.value(target)?;
                let args = self.values(args)?;
                functions::method(self, target, name, args)
            }
        }
    }

    fn values(&mut self, nodes: &[Node]) -> Result<Vec<Value<'a>>, Failure> {
        nodes.iter().map(|node| self.value(node)).collect()
    }

    /// `&&` where `decides` is false, `||` where it is true.
    fn either(&mut self, left: &Node, right: &Node, decides: bool) -> Outcome<'a> {
        let first = self.value(left);
        match first {
            Ok(Value::Bool(flag)) if flag == decides => return Ok(Value::Bool(decides)),
            Err(Failure::OverBudget) => return first,
            _ => {}
        }
        match (first, self.value(right)?) {
            (_, Value::Bool(flag)) if flag == decides => Ok(Value::Bool(decides)),
            (Err(failure), _) => Err(failure),
            (Ok(Value::Bool(_)), Value::Bool(flag)) => Ok(Value::Bool(flag)),
            _ => no_overload(),
        }
    }

    fn with(&mut self, variables: &[(&String, Value<'a>)], body: &Node) -> Outcome<'a> {
        let before = self.variables.len();
        for (name, value) in variables {
            self.variables.push((Cow::Owned((*name).clone()), value.clone()));
        }
        let value = self.value(body);
        self.variables.truncate(before);
        value
    }

    fn iterate(
        &mut self,
        kind: Loop,
        over: Value<'a>,
        names: &[String],
        filter: Option<&Node>,
        body: &Node,
    ) -> Outcome<'a> {
        self.pay(over.size().unwrap_or(0))?;
        let pairs: Vec<(Value<'a>, Value<'a>)> = match (over.items(), over.entries()) {
            (Some(items), _) => items
                .into_iter()
                .enumerate()
                .map(|(at, item)| (Value::Int(at as i64), item))
                .collect(),
            (None, Some(entries)) => entries,
            (None, None) => return no_overload(),
        };
        let mut state = Looping::new(kind, over.items().is_none());
        for (key, value) in pairs {
            let one = if state.is_map && names.len() == 1 {
                key.clone()
            } else {
                value.clone()
            };
            let bound: Vec<(&String, Value<'a>)> = match names {
                [first, second] => vec![(first, key.clone()), (second, value.clone())],
                _ => names.iter().map(|name| (name, one.clone())).collect(),
            };
            if let Some(filter) = filter {
                match self.with(&bound, filter)? {
                    Value::Bool(true) => {}
                    Value::Bool(false) => continue,
                    _ => return no_overload(),
                }
            }
            let result = self.with(&bound, body);
            if state.take(key, one, result)? {
                break;
            }
        }
        state.end()
    }
}

/// What a loop has found so far.
struct Looping<'a> {
    kind: Loop,
    is_map: bool,
    decided: Option<bool>,
    hits: usize,
    failed: Option<Failure>,
    list: Vec<Value<'a>>,
    map: Vec<(Value<'a>, Value<'a>)>,
}

impl<'a> Looping<'a> {
    fn new(kind: Loop, is_map: bool) -> Self {
        Self {
            kind,
            is_map,
            decided: None,
            hits: 0,
            failed: None,
            list: Vec::new(),
            map: Vec::new(),
        }
    }

    /// Takes one result; says whether the loop is over.
    fn take(&mut self, key: Value<'a>, item: Value<'a>, result: Outcome<'a>) -> Result<bool, Failure> {
        match self.kind {
            Loop::All | Loop::Exists => {
                let wanted = self.kind == Loop::Exists;
                match result {
                    Ok(Value::Bool(flag)) if flag == wanted => {
                        self.decided = Some(wanted);
                        return Ok(true);
                    }
                    Ok(Value::Bool(_)) => {}
                    Ok(_) => return no_overload(),
                    Err(Failure::OverBudget) => return Err(Failure::OverBudget),
                    Err(failure) => self.failed = Some(failure),
                }
            }
            Loop::ExistsOne | Loop::Filter => match result? {
                Value::Bool(true) => {
                    self.hits += 1;
                    self.list.push(item);
                }
                Value::Bool(false) => {}
                _ => return no_overload(),
            },
            Loop::Map | Loop::TransformList => self.list.push(result?),
            Loop::TransformMap => self.map.push((key, result?)),
        }
        Ok(false)
    }

    fn end(self) -> Outcome<'a> {
        match (self.kind, self.decided, self.failed) {
            (_, Some(decided), _) => Ok(Value::Bool(decided)),
            (_, None, Some(failure)) => Err(failure),
            (Loop::All, ..) => Ok(Value::Bool(true)),
            (Loop::Exists, ..) => Ok(Value::Bool(false)),
            (Loop::ExistsOne, ..) => Ok(Value::Bool(self.hits == 1)),
            (Loop::TransformMap, ..) => Ok(Value::Map(Rc::new(self.map))),
            _ => Ok(Value::list(self.list)),
        }
    }
}

fn literal<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(flag) => Value::Bool(*flag),
        Literal::Int(number) => Value::Int(*number),
        Literal::Uint(number) => Value::Uint(*number),
        Literal::Double(number) => Value::Double(*number),
        Literal::String(text) => Value::text(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

fn unwrapped(value: Value<'_>) -> Value<'_> {
    match value {
        Value::Optional(Some(inner)) => (*inner).clone(),
        other => other,
    }
}

fn member<'a>(of: &Value<'a>, field: &str) -> Option<Value<'a>> {
    let plain = of.member(&Value::text(field));
    plain.or_else(|| {
        let name = unescape(field)?;
        of.member(&Value::text(name))
    })
}

fn item<'a>(of: &Value<'a>, at: usize) -> Option<Value<'a>> {
    match of {
        Value::List(items) => items.get(at).cloned(),
        Value::Array(list, schema) => {
            let items = schema.and_then(|schema| schema.items.as_deref());
            list.get(at).map(|item| Value::json(item, items))
        }
        _ => None,
    }
}

pub(super) fn overflow(value: Option<Value<'_>>) -> Outcome<'_> {
    value.map_or_else(|| error("integer overflow"), Ok)
}

/// The field that an escaped name stands for: `a__dash__b` is `a-b`. None where nothing is escaped.
pub(crate) fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    if let Some(word) = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"))
        && is_keyword(word)
    {
        return Some(word.to_string());
    }
    const PARTS: [(&str, &str); 4] = [
        ("__underscores__", "__"),
        ("__dot__", "."),
        ("__dash__", "-"),
        ("__slash__", "/"),
    ];
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while !rest.is_empty() {
        match PARTS.iter().find(|(escaped, _)| rest.starts_with(escaped)) {
            Some((escaped, plain)) => {
                out.push_str(plain);
                rest = &rest[escaped.len()..];
            }
            None => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
        }
    }
    Some(out)
}

/// Operators that give a truth about two values' order.
pub(super) fn ordering(operator: Operator, order: std::cmp::Ordering) -> bool {
    match operator {
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        _ => order.is_ge(),
    }
}
