//! Methods of lists.
//! Invariants: what compares each item with each pays for it; items that cannot be compared are an error.

use super::eval::{Evaluation, Outcome, error, no_overload};
use super::functions::{joined, operate};
use super::tree::Operator;
use super::value::Value;

/// A method of a list.
pub(super) fn list<'a>(
    on: &mut Evaluation<'a>,
    items: Vec<Value<'a>>,
    name: &str,
    args: &[Value<'a>],
) -> Outcome<'a> {
    match (name, args) {
        ("isSorted", []) => {
            for pair in items.windows(2) {
                match pair[0].compare(&pair[1]) {
                    Some(order) if order.is_gt() => return Ok(Value::Bool(false)),
                    Some(_) => {}
                    None => return no_overload(),
                }
            }
            Ok(Value::Bool(true))
        }
        ("sum", []) => {
            let mut rest = items.into_iter();
            let Some(first) = rest.next() else {
                return Ok(Value::Int(0));
            };
            rest.try_fold(first, |sum, item| operate(on, Operator::Add, sum, item))
        }
        ("min" | "max", []) => {
            let mut rest = items.into_iter();
            let Some(mut best) = rest.next() else {
                return error(format!("{name} called on empty list"));
            };
            for item in rest {
                match item.compare(&best) {
                    Some(order) if (name == "min") == order.is_lt() && order.is_ne() => best = item,
                    Some(_) => {}
                    None => return no_overload(),
                }
            }
            Ok(best)
        }
        ("indexOf", [one]) => Ok(found_at(items.iter().position(|item| item.equals(one)))),
        ("lastIndexOf", [one]) => Ok(found_at(items.iter().rposition(|item| item.equals(one)))),
        ("join", []) => texts(on, &items, ""),
        ("join", [Value::String(separator)]) => texts(on, &items, separator),
        ("distinct", []) => {
            on.pay(items.len().saturating_mul(items.len()))?;
            let mut kept: Vec<Value<'a>> = Vec::new();
            for item in items {
                if !kept.iter().any(|one| one.equals(&item)) {
                    kept.push(item);
                }
            }
            Ok(Value::list(kept))
        }
        ("reverse", []) => Ok(Value::list(items.into_iter().rev().collect())),
        ("slice", [Value::Int(from), Value::Int(to)]) => {
            let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            match range.and_then(|(from, to)| items.get(from..to)) {
                Some(part) => Ok(Value::list(part.to_vec())),
                None => error(format!(
                    "cannot slice({from}, {to}), list is length {}",
                    items.len()
                )),
            }
        }
        ("flatten", []) => {
            let parts = items
                .into_iter()
                .flat_map(|item| item.items().unwrap_or_else(|| vec![item.clone()]));
            Ok(Value::list(parts.collect()))
        }
        ("sort", []) => {
            let mut sorted = items;
            let mut comparable = true;
            sorted.sort_by(|a, b| {
                a.compare(b).unwrap_or_else(|| {
                    comparable = false;
                    std::cmp::Ordering::Equal
                })
            });
            if comparable {
                Ok(Value::list(sorted))
            } else {
                no_overload()
            }
        }
        _ => no_overload(),
    }
}

fn found_at<'a>(at: Option<usize>) -> Value<'a> {
    Value::Int(at.map_or(-1, |at| at as i64))
}

fn texts<'a>(on: &mut Evaluation<'a>, items: &[Value<'a>], separator: &str) -> Outcome<'a> {
    let mut parts = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Value::String(text) => parts.push(text.to_string()),
            _ => return no_overload(),
        }
    }
    joined(on, parts, separator)
}
