//! JSONPaths of definitions: printer columns, selectable fields, the scale subresource.
//! Invariants: reading never fails, what is absent gives nothing. The subset that definitions use: members
//! (`.a.b`, `.a\.b`, `['a']`), indexes and slices, wildcards, and filters such as `[?(@.type=="Ready")]`.
//! Left out: recursive descent, functions, more than one comparison in a filter.

use serde_json::Value;

/// Steps of one path at most.
const STEPS_MAX: usize = 64;
/// Values that one path gives at most.
const VALUES_MAX: usize = 1024;

/// A path, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Path(Box<[Step]>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(Box<str>),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Filter(Box<Filter>),
}

#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Path,
    operator: Operator,
    right: Option<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Literal(Value),
    Path(Path),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    Exists,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Path {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_start_matches('$');
        let mut reader = Reader { rest: text };
        let steps = reader.steps()?;
        match reader.rest {
            "" => Ok(Self(steps.into())),
            rest => Err(format!("unexpected \"{rest}\"")),
        }
    }

    /// All values that it leads to.
    pub fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.follow(value, &mut next);
                if next.len() > VALUES_MAX {
                    next.truncate(VALUES_MAX);
                    break;
                }
            }
            found = next;
        }
        found
    }

    /// The first value that it leads to.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.find(object).into_iter().next()
    }

    /// The names of its members; none where it has other steps.
    pub fn members(&self) -> Option<Vec<&str>> {
        let name = |step: &'_ Step| match step {
            Step::Member(_) => Some(()),
            _ => None,
        };
        self.0.iter().try_for_each(name)?;
        Some(
            self.0
                .iter()
                .filter_map(|step| match step {
                    Step::Member(name) => Some(&**name),
                    _ => None,
                })
                .collect(),
        )
    }

    /// Puts a value where its members lead, making the objects on the way.
    pub fn put(&self, object: &mut Value, value: Value) -> Result<(), String> {
        let Some(members) = self.members() else {
            return Err("the path has more than members".to_string());
        };
        let mut at = object;
        for name in members {
            if at.is_null() {
                *at = Value::Object(Default::default());
            }
            let Some(fields) = at.as_object_mut() else {
                return Err(format!("the parent of {name} is no object"));
            };
            at = fields.entry(name).or_insert(Value::Null);
        }
        *at = value;
        Ok(())
    }
}

impl Step {
    fn follow<'a>(&self, value: &'a Value, found: &mut Vec<&'a Value>) {
        match (self, value) {
            (Step::Member(name), Value::Object(fields)) => found.extend(fields.get(&**name)),
            (Step::Index(index), Value::Array(list)) => {
                let at = if *index < 0 {
                    list.len() as i64 + index
                } else {
                    *index
                };
                found.extend(usize::try_from(at).ok().and_then(|at| list.get(at)));
            }
            (Step::Slice(from, to), Value::Array(list)) => {
                let length = list.len() as i64;
                let place = |at: i64| (if at < 0 { length + at } else { at }).clamp(0, length) as usize;
                let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
                found.extend(list.get(from..to).unwrap_or_default());
            }
            (Step::All, Value::Array(list)) => found.extend(list),
            (Step::All, Value::Object(fields)) => found.extend(fields.values()),
            (Step::Filter(filter), Value::Array(list)) => {
                found.extend(list.iter().filter(|item| filter.holds(item)));
            }
            (Step::Filter(filter), Value::Object(_)) if filter.holds(value) => found.push(value),
            _ => {}
        }
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let Some(left) = self.left.first(item) else {
            return false;
        };
        let right = match &self.right {
            None => return true,
            Some(Operand::Literal(value)) => value,
            Some(Operand::Path(path)) => match path.first(item) {
                Some(value) => value,
                None => return false,
            },
        };
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(std::cmp::Ordering::Equal),
            _ => None,
        };
        match (self.operator, order) {
            (Operator::Exists, _) => true,
            (Operator::NotEqual, order) => order.is_none_or(std::cmp::Ordering::is_ne),
            (_, None) => false,
            (Operator::Equal, Some(order)) => order.is_eq(),
            (Operator::Less, Some(order)) => order.is_lt(),
            (Operator::LessOrEqual, Some(order)) => order.is_le(),
            (Operator::Greater, Some(order)) => order.is_gt(),
            (Operator::GreaterOrEqual, Some(order)) => order.is_ge(),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if steps.len() > STEPS_MAX {
                return Err(format!("more than {STEPS_MAX} steps"));
            }
            if let Some(rest) = self.rest.strip_prefix("..") {
                return Err(format!("recursive descent before \"{rest}\" is not supported"));
            } else if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                if let Some(rest) = rest.strip_prefix('*') {
                    self.rest = rest;
                    steps.push(Step::All);
                } else if !rest.is_empty() && !rest.starts_with('[') {
                    steps.push(Step::Member(self.name()?));
                }
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                self.rest = rest;
                steps.push(self.bracket()?);
            } else {
                return Ok(steps);
            }
        }
    }

    fn name(&mut self) -> Result<Box<str>, String> {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
                '.' | '[' | ']' | ' ' | '=' | '!' | '<' | '>' | ')' | '(' | '{' | '}' | '|' => {
                    end = at;
                    break;
                }
                _ => name.push(c),
            }
        }
        self.rest = &self.rest[end..];
        if name.is_empty() {
            return Err(format!("a name is missing before \"{}\"", self.rest));
        }
        Ok(name.into())
    }

    fn until(&mut self, end: &str) -> Result<&'a str, String> {
        let (inside, rest) = self
            .rest
            .split_once(end)
            .ok_or_else(|| format!("\"{end}\" is missing after \"{}\"", self.rest))?;
        self.rest = rest;
        Ok(inside)
    }

    fn bracket(&mut self) -> Result<Step, String> {
        if let Some(rest) = self.rest.strip_prefix("?(") {
            self.rest = rest;
            let filter = self.filter()?;
            self.rest = self
                .rest
                .trim_start()
                .strip_prefix(")]")
                .ok_or_else(|| format!("\")]\" is missing before \"{}\"", self.rest))?;
            return Ok(Step::Filter(Box::new(filter)));
        }
        if let Some(quote @ ('\'' | '"')) = self.rest.chars().next() {
            self.rest = &self.rest[1..];
            let name = self.until(&format!("{quote}]"))?;
            return Ok(Step::Member(name.into()));
        }
        let inside = self.until("]")?.trim();
        let number = |text: &str| {
            text.trim()
                .parse::<i64>()
                .map_err(|_| format!("invalid index \"{text}\""))
        };
        let bound = |text: &str| match text.trim() {
            "" => Ok(None),
            text => number(text).map(Some),
        };
        match inside.split_once(':') {
            _ if inside == "*" => Ok(Step::All),
            Some((from, to)) => Ok(Step::Slice(bound(from)?, bound(to)?)),
            None => Ok(Step::Index(number(inside)?)),
        }
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let Operand::Path(left) = self.operand()? else {
            return Err("a filter starts with @".to_string());
        };
        self.rest = self.rest.trim_start();
        const OPERATORS: [(&str, Operator); 6] = [
            ("==", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        for (text, operator) in OPERATORS {
            if let Some(rest) = self.rest.strip_prefix(text) {
                self.rest = rest;
                let right = Some(self.operand()?);
                return Ok(Filter {
                    left,
                    operator,
                    right,
                });
            }
        }
        Ok(Filter {
            left,
            operator: Operator::Exists,
            right: None,
        })
    }

    fn operand(&mut self) -> Result<Operand, String> {
        self.rest = self.rest.trim_start();
        if let Some(rest) = self.rest.strip_prefix('@') {
            self.rest = rest;
            return Ok(Operand::Path(Path(self.steps()?.into())));
        }
        if let Some(quote @ ('\'' | '"')) = self.rest.chars().next() {
            self.rest = &self.rest[1..];
            return Ok(Operand::Literal(self.until(&quote.to_string())?.into()));
        }
        let end = self
            .rest
            .find([')', ' ', '=', '<', '>', '!'])
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        serde_json::from_str(word)
            .map(Operand::Literal)
            .map_err(|_| format!("\"{word}\" is neither a path nor a value"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_where_kubectl_would_go() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "spec": {"replicas": 3, "list": [1, 2, 3]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1}, {"type": "Synced", "status": "False", "n": 2}]}
        });
        for (path, expected) in [
            (".spec.replicas", json!([3])),
            (".spec.nope", json!([])),
            (r".metadata.labels.a\.b/c", json!(["x"])),
            (".metadata.labels['a.b/c']", json!(["x"])),
            (".spec.list[-1]", json!([3])),
            (".spec.list[0:2]", json!([1, 2])),
            (".status.conditions[*].type", json!(["Ready", "Synced"])),
            (
                r#".status.conditions[?(@.type=="Synced")].status"#,
                json!(["False"]),
            ),
            (".status.conditions[?(@.type == 'Ready')].n", json!([1])),
            (".status.conditions[?(@.n>1)].type", json!(["Synced"])),
        ] {
            let found = Path::parse(path).unwrap();
            assert_eq!(json!(found.find(&object)), expected, "{path}");
        }
        for wrong in [".a[", ".a[?(@.b==)]", "..a", "a", ".a[x]"] {
            assert!(Path::parse(wrong).is_err(), "{wrong}");
        }
        let mut object = json!({});
        Path::parse(".spec.size")
            .unwrap()
            .put(&mut object, json!(2))
            .unwrap();
        assert_eq!(object, json!({"spec": {"size": 2}}));
    }
}
