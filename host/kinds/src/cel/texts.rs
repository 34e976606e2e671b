//! Methods of texts.
//! Invariants: counts and places are in characters; what walks over a text pays for its length.

use super::eval::{Evaluation, Outcome, error, no_overload};
use super::functions::{BYTES_PER_UNIT, joined};
use super::library;
use super::value::Value;
use crate::custom::pattern;

/// A method of a text.
pub(super) fn string<'a>(on: &mut Evaluation<'a>, text: &str, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let chars = || text.chars().collect::<Vec<char>>();
    match (name, args) {
        ("contains", [Value::String(part)]) => Ok(Value::Bool(text.contains(&**part))),
        ("startsWith", [Value::String(part)]) => Ok(Value::Bool(text.starts_with(&**part))),
        ("endsWith", [Value::String(part)]) => Ok(Value::Bool(text.ends_with(&**part))),
        ("lowerAscii", []) => joined(on, vec![text.to_ascii_lowercase()], ""),
        ("upperAscii", []) => joined(on, vec![text.to_ascii_uppercase()], ""),
        ("trim", []) => joined(on, vec![text.trim().to_string()], ""),
        ("reverse", []) => joined(on, vec![text.chars().rev().collect()], ""),
        ("charAt", [Value::Int(at)]) => match usize::try_from(*at).ok().map(|at| (at, chars())) {
            Some((at, chars)) if at <= chars.len() => Ok(Value::text(
                chars.get(at).map(char::to_string).unwrap_or_default(),
            )),
            _ => error(format!("index out of range: {at}")),
        },
        ("indexOf", [Value::String(part)]) => Ok(place(text, text.find(&**part))),
        ("lastIndexOf", [Value::String(part)]) => Ok(place(text, text.rfind(&**part))),
        ("indexOf", [Value::String(part), Value::Int(from)]) => {
            let start = usize::try_from(*from).ok().and_then(|from| byte_of(text, from));
            let Some(start) = start else {
                return error(format!("index out of range: {from}"));
            };
            Ok(place(text, text[start..].find(&**part).map(|at| at + start)))
        }
        ("replace", [Value::String(from), Value::String(to)]) => replaced(on, text, from, to, usize::MAX),
        ("replace", [Value::String(from), Value::String(to), Value::Int(times)]) => {
            replaced(on, text, from, to, usize::try_from(*times).unwrap_or(usize::MAX))
        }
        ("split", [Value::String(by)]) => split(on, text, by, -1),
        ("split", [Value::String(by), Value::Int(most)]) => split(on, text, by, *most),
        ("substring", [Value::Int(from)]) => substring(text, *from, None),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(text, *from, Some(*to)),
        ("format", [list]) => library::format(on, text, list),
        ("find" | "findAll", [Value::String(regex), ..]) => find(on, text, name, regex, args.get(1)),
        _ => no_overload(),
    }
}

fn place<'a>(text: &str, byte: Option<usize>) -> Value<'a> {
    Value::Int(byte.map_or(-1, |byte| text[..byte].chars().count() as i64))
}

/// Where the n-th character starts.
fn byte_of(text: &str, n: usize) -> Option<usize> {
    let mut starts = text
        .char_indices()
        .map(|(at, _)| at)
        .chain(std::iter::once(text.len()));
    starts.nth(n)
}

fn replaced<'a>(on: &mut Evaluation<'a>, text: &str, from: &str, to: &str, times: usize) -> Outcome<'a> {
    let most = (text.len() + 1).saturating_mul(to.len() + 1);
    on.pay(most / BYTES_PER_UNIT)?;
    joined(on, vec![text.replacen(from, to, times)], "")
}

fn split<'a>(on: &mut Evaluation<'a>, text: &str, by: &str, most: i64) -> Outcome<'a> {
    on.pay(text.len())?;
    let pieces: Vec<String> = match (most, by) {
        (0, _) => Vec::new(),
        (..0, "") => text.chars().map(String::from).collect(),
        (..0, by) => text.split(by).map(str::to_string).collect(),
        (most, by) => text.splitn(most as usize, by).map(str::to_string).collect(),
    };
    Ok(Value::list(pieces.into_iter().map(Value::text).collect()))
}

fn substring<'a>(text: &str, from: i64, to: Option<i64>) -> Outcome<'a> {
    let length = text.chars().count() as i64;
    let to = to.unwrap_or(length);
    if from < 0 || to > length || from > to {
        return error(format!(
            "index out of range: {}",
            if from < 0 || from > length { from } else { to }
        ));
    }
    Ok(Value::text(
        text.chars()
            .skip(from as usize)
            .take((to - from) as usize)
            .collect::<String>(),
    ))
}

fn find<'a>(
    on: &mut Evaluation<'a>,
    text: &str,
    name: &str,
    regex: &str,
    most: Option<&Value<'a>>,
) -> Outcome<'a> {
    on.pay((text.len() / BYTES_PER_UNIT + 1).saturating_mul(regex.len() / 4 + 1))?;
    let regex = match pattern::compile(regex) {
        Ok(regex) => regex,
        Err(why) => return error(format!("Illegal regex: {why}")),
    };
    if name == "find" {
        return Ok(Value::text(
            regex.find(text).map(|found| found.as_str()).unwrap_or_default(),
        ));
    }
    let most = match most {
        Some(Value::Int(most)) => usize::try_from(*most).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let found = regex
        .find_iter(text)
        .take(most)
        .map(|found| Value::text(found.as_str()));
    Ok(Value::list(found.collect()))
}
