//! The macros that loop: `all`, `exists`, `exists_one`, `map`, `filter` and those over two variables.
//! Invariants: going over a list or a map pays its size first; `all` and `exists` forgive errors where another
//! element decides, as `&&` and `||` do.

use std::rc::Rc;

use super::eval::{Evaluation, Failure, Outcome, no_overload};
use super::tree::{Loop, Node};
use super::value::Value;

impl<'a> Evaluation<'a> {
    pub(super) fn iterate(
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
