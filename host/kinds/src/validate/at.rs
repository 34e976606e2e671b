//! A place in an object: a value, its path, and where errors about it go. All rules are written with it.
//! Invariants: a `field` is a name below the place, a dotted path, or empty for the place itself; absent and
//! null are the same; reading never fails; paths are made only when an error is told. Each rule adds errors in
//! the original's words.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::ERRORS_MAX;
use super::error::{Cause, FieldError};
use crate::quantity::Quantity;

/// Why a negative number is refused.
pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// Why zero and less is refused.
pub(super) const POSITIVE: &str = "must be greater than zero";
/// Why a change is refused.
pub(super) const IMMUTABLE: &str = "field is immutable";
/// Highest port.
pub(super) const PORT_MAX: i64 = 65_535;
const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// What a naming rule says about a text: nothing, or why not.
pub(super) type NameRule = fn(&str) -> Vec<String>;

/// The errors found so far; further ones than `ERRORS_MAX` are dropped.
#[derive(Default)]
pub(super) struct Found(RefCell<Vec<FieldError>>);

impl Found {
    pub(super) fn into_list(self) -> Vec<FieldError> {
        self.0.into_inner()
    }

    pub(super) fn count(&self) -> usize {
        self.0.borrow().len()
    }
}

static NULL: Value = Value::Null;

/// A place in an object.
#[derive(Clone)]
pub(super) struct At<'a> {
    value: &'a Value,
    path: String,
    found: &'a Found,
}

/// Reading.
impl<'a> At<'a> {
    pub(super) fn root(value: &'a Value, found: &'a Found) -> Self {
        Self::new(value, String::new(), found)
    }

    pub(super) fn new(value: &'a Value, path: impl Into<String>, found: &'a Found) -> Self {
        Self {
            value,
            path: path.into(),
            found,
        }
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    pub(super) fn found(&self) -> &'a Found {
        self.found
    }

    /// The value of a field, if it is there and not null.
    pub(super) fn get(&self, field: &str) -> Option<&'a Value> {
        let value = match field {
            "" => self.value,
            _ if field.contains('.') => field
                .split('.')
                .try_fold(self.value, |value, name| value.get(name))?,
            _ => self.value.get(field)?,
        };
        (!value.is_null()).then_some(value)
    }

    pub(super) fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    pub(super) fn text(&self, field: &str) -> &'a str {
        self.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn int(&self, field: &str) -> Option<i64> {
        self.get(field).and_then(Value::as_i64)
    }

    /// A number that counts as nothing when it is not there.
    pub(super) fn number(&self, field: &str) -> i64 {
        self.int(field).unwrap_or_default()
    }

    pub(super) fn bool(&self, field: &str) -> Option<bool> {
        self.get(field).and_then(Value::as_bool)
    }

    pub(super) fn flag(&self, field: &str) -> bool {
        self.bool(field).unwrap_or_default()
    }

    pub(super) fn list(&self, field: &str) -> &'a [Value] {
        self.get(field)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The texts in a list.
    pub(super) fn texts(&self, field: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.list(field)
            .iter()
            .map(|item| item.as_str().unwrap_or_default())
    }

    pub(super) fn map(&self, field: &str) -> Option<&'a Map<String, Value>> {
        self.get(field).and_then(Value::as_object)
    }

    /// How many items or members a field has.
    pub(super) fn count(&self, field: &str) -> usize {
        match self.get(field) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(members)) => members.len(),
            _ => 0,
        }
    }

    pub(super) fn quantity(&self, field: &str) -> Option<Quantity> {
        self.text(field).parse().ok()
    }
}

/// Going down.
impl<'a> At<'a> {
    /// The path of a field.
    pub(super) fn path(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_string()
        } else if field.is_empty() {
            self.path.clone()
        } else if field.starts_with('[') {
            format!("{}{field}", self.path)
        } else {
            format!("{}.{field}", self.path)
        }
    }

    /// The place of a field, whether it is there or not.
    pub(super) fn at(&self, field: &str) -> At<'a> {
        At::new(self.get(field).unwrap_or(&NULL), self.path(field), self.found)
    }

    /// The place of a field that is there.
    pub(super) fn some(&self, field: &str) -> Option<At<'a>> {
        self.get(field)
            .map(|value| At::new(value, self.path(field), self.found))
    }

    /// The same value under another path.
    pub(super) fn named(&self, path: impl Into<String>) -> At<'a> {
        At::new(self.value, path, self.found)
    }

    /// The places of the items of a list.
    pub(super) fn each(&self, field: &str) -> impl Iterator<Item = At<'a>> + use<'a> {
        let (path, found) = (self.path(field), self.found);
        let items = self.list(field).iter().enumerate();
        items.map(move |(index, item)| At::new(item, format!("{path}[{index}]"), found))
    }

    /// The places of the members of a map, in the order of their keys.
    pub(super) fn keyed(&self, field: &str) -> impl Iterator<Item = (&'a str, At<'a>)> + use<'a> {
        let (path, found) = (self.path(field), self.found);
        let members = self.map(field).into_iter().flatten();
        members.map(move |(key, value)| (key.as_str(), At::new(value, format!("{path}[{key}]"), found)))
    }
}

/// Telling.
impl At<'_> {
    pub(super) fn say(&self, error: FieldError) {
        let mut list = self.found.0.borrow_mut();
        if list.len() < ERRORS_MAX {
            list.push(error);
        }
    }

    pub(super) fn required(&self, field: &str, why: &str) {
        self.say(FieldError::required(self.path(field), why));
    }

    /// The value of the field breaks a rule.
    pub(super) fn invalid(&self, field: &str, why: &str) {
        let value = self.get(field).unwrap_or(&NULL);
        self.say(FieldError::invalid(self.path(field), value, why));
    }

    /// The field breaks a rule; `shown` stands for its value.
    pub(super) fn invalid_as(&self, field: &str, shown: impl Into<Value>, why: &str) {
        self.say(FieldError::invalid(self.path(field), &shown.into(), why));
    }

    pub(super) fn forbidden(&self, field: &str, why: &str) {
        self.say(FieldError::forbidden(self.path(field), why));
    }

    pub(super) fn unsupported(&self, field: &str, known: &[&str]) {
        self.say(FieldError::not_supported(
            self.path(field),
            self.text(field),
            known,
        ));
    }

    pub(super) fn unsupported_as(&self, field: &str, shown: &str, known: &[&str]) {
        self.say(FieldError::not_supported(self.path(field), shown, known));
    }

    pub(super) fn duplicate(&self, field: &str) {
        let value = self.get(field).unwrap_or(&NULL);
        self.say(FieldError::duplicate(self.path(field), value));
    }

    pub(super) fn duplicate_as(&self, field: &str, shown: impl Into<Value>) {
        self.say(FieldError::duplicate(self.path(field), &shown.into()));
    }

    pub(super) fn not_found(&self, field: &str) {
        self.say(FieldError::not_found(self.path(field), self.text(field)));
    }

    pub(super) fn too_long(&self, field: &str, bytes_max: usize) {
        self.say(FieldError::too_long(self.path(field), bytes_max));
    }

    pub(super) fn too_many(&self, field: &str, items_max: usize) {
        let items = if items_max == 1 { "item" } else { "items" };
        let count = self.count(field);
        let words = format!("Too many: {count}: must have at most {items_max} {items}");
        self.say(FieldError::new(self.path(field), Cause::TooMany, words));
    }
}

/// Rules of one field.
impl At<'_> {
    /// The texts must be there.
    pub(super) fn need(&self, fields: &[&str]) {
        for field in fields.iter().filter(|field| self.text(field).is_empty()) {
            self.required(field, "");
        }
    }

    /// The text, if there is one, is one of a fixed set.
    pub(super) fn one_of(&self, field: &str, known: &[&str]) {
        if !self.text(field).is_empty() {
            self.exactly_one_of(field, known);
        }
    }

    /// The text is one of a fixed set; none counts as a wrong one.
    pub(super) fn exactly_one_of(&self, field: &str, known: &[&str]) {
        if !known.contains(&self.text(field)) {
            self.unsupported(field, known);
        }
    }

    /// The text is there and one of a fixed set.
    pub(super) fn must_be_one_of(&self, field: &str, known: &[&str]) {
        if self.text(field).is_empty() {
            self.required(field, "");
        } else {
            self.exactly_one_of(field, known);
        }
    }

    /// The text follows a naming rule.
    pub(super) fn name(&self, field: &str, rule: NameRule) {
        let text = self.text(field);
        rule(text)
            .iter()
            .for_each(|why| self.invalid_as(field, text, why));
    }

    /// The text, if there is one, follows a naming rule.
    pub(super) fn may_name(&self, field: &str, rule: NameRule) {
        if !self.text(field).is_empty() {
            self.name(field, rule);
        }
    }

    /// The text is there and follows a naming rule.
    pub(super) fn must_name(&self, field: &str, rule: NameRule) {
        if self.text(field).is_empty() {
            self.required(field, "");
        } else {
            self.name(field, rule);
        }
    }

    /// The number, if there is one, lies in a range.
    pub(super) fn range(&self, field: &str, low: i64, high: i64) {
        if let Some(number) = self.int(field)
            && !(low..=high).contains(&number)
        {
            self.invalid_as(field, number, &in_range(low, high));
        }
    }

    /// The number is there and lies in a range; none counts as zero.
    pub(super) fn number_in(&self, field: &str, low: i64, high: i64) {
        let number = self.number(field);
        if !(low..=high).contains(&number) {
            self.invalid_as(field, number, &in_range(low, high));
        }
    }

    /// The numbers, where given, are not negative.
    pub(super) fn not_negative(&self, fields: &[&str]) {
        for field in fields {
            if let Some(number) = self.int(field).filter(|number| *number < 0) {
                self.invalid_as(field, number, NOT_NEGATIVE);
            }
        }
    }

    /// The number, if there is one, is at least one.
    pub(super) fn positive(&self, field: &str) {
        if let Some(number) = self.int(field).filter(|number| *number <= 0) {
            self.invalid_as(field, number, POSITIVE);
        }
    }

    /// A port: a number in the range of ports, or a name.
    pub(super) fn port(&self, field: &str) {
        match self.get(field) {
            Some(Value::String(_)) => self.name(field, crate::name::port),
            _ => self.number_in(field, 1, PORT_MAX),
        }
    }

    /// A whole number that is not negative, or a percentage.
    pub(super) fn count_or_percent(&self, field: &str) {
        match self.get(field) {
            Some(Value::String(text)) if percent(text).is_none() => self.invalid(field, PERCENT),
            Some(Value::Number(_)) => self.not_negative(&[field]),
            _ => {}
        }
    }

    /// A percentage is at most the whole.
    pub(super) fn percent_at_most_whole(&self, field: &str) {
        if percent(self.text(field)).is_some_and(|number| number > 100) {
            self.invalid(field, "must not be greater than 100%");
        }
    }

    /// Whether a count or percentage is nothing.
    pub(super) fn is_zero(&self, field: &str) -> bool {
        match self.get(field) {
            Some(Value::String(text)) => percent(text) == Some(0),
            value => value.and_then(Value::as_i64).unwrap_or_default() == 0,
        }
    }

    /// The field is what it was.
    pub(super) fn frozen(&self, field: &str, old: &At) {
        if self.get(field) != old.get(field) {
            self.invalid(field, IMMUTABLE);
        }
    }
}

/// Why a number is outside of a range.
pub(super) fn in_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// The number of a percentage such as `25%`.
pub(super) fn percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}
