//! What functions cost by the sizes of what they are given, and how large their results are.
//! A function that is not here costs one unit, and of its result only the type is known.

use super::super::functions;
use super::{Estimate, LIST_COST, Size};
use crate::cel::tree::{Expr, Literal, Node};
use crate::cel::types::Type;

/// Characters that a named format's regular expression may have.
const FORMAT_PATTERN_CHARS_MAX: u64 = 128;
/// Bytes of two addresses, which are compared.
const ADDRESSES_BYTES: Size = Size { min: 8, max: 32 };

/// Units of a call, and the size of its result where that is known.
type Priced = (u64, Option<Size>);

fn priced(cost: u64) -> Priced {
    (cost, None)
}

impl Estimate<'_> {
    pub(super) fn call(&mut self, node: &Node, target: Option<&Node>, name: &str, args: &[Node]) -> u64 {
        let space = match target.map(|target| &target.expr) {
            Some(Expr::Ident(space)) if functions::is_namespace(space) && self.local(space).is_none() => {
                Some(space.as_str())
            }
            _ => None,
        };
        let target = target.filter(|_| space.is_none());
        let cost = self.all(target.into_iter().chain(args));
        if let ("dyn", None, [arg]) = (name, target, args) {
            if let Some(size) = self.size(arg) {
                self.sizes.insert(node, size);
            }
            if let Some(entry) = self.entry(arg) {
                self.entries.insert(node, entry);
            }
            return cost.saturating_add(1);
        }
        let full = space.map_or_else(|| name.to_string(), |space| format!("{space}.{name}"));
        let (own, size) = match (target, args) {
            (Some(target), _) => self.method(&full, target, args),
            (None, [first, rest @ ..]) => self.function(&full, first, rest),
            (None, []) => priced(1),
        };
        if let Some(size) = size {
            self.sizes.insert(node, size);
        }
        cost.saturating_add(own)
    }

    fn function(&self, name: &str, first: &Node, rest: &[Node]) -> Priced {
        let size = self.size_or_any(first);
        let kind = self.types.get(first);
        match name {
            "url" | "jsonpatch.escapeKey" => (size.walk(), Some(size)),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" => {
                priced(size.walk())
            }
            "ip.isCanonical" => priced(size.walk_twice()),
            "string" if matches!(kind, Type::Plain("bytes") | Type::Dyn) => {
                let made = Size {
                    min: size.min / 4,
                    ..size
                };
                (size.walk().max(1), Some(made))
            }
            "bytes" if matches!(kind, Type::Plain("string") | Type::Dyn) => {
                let made = size * Size { min: 1, max: 4 };
                (size.walk().max(1), Some(made))
            }
            "sets.contains" | "sets.intersects" | "sets.equivalent" => {
                let both = size * rest.first().map_or(Size::ANY, |other| self.size_or_any(other));
                let factor = if name == "sets.equivalent" { 2.0 } else { 1.0 };
                priced(both.times(factor).saturating_add(1))
            }
            _ => priced(1),
        }
    }

    fn method(&self, name: &str, target: &Node, args: &[Node]) -> Priced {
        let size = self.size_or_any(target);
        let arg = |at: usize| args.get(at).map_or(Size::ANY, |arg| self.size_or_any(arg));
        match name {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                priced(self.compare(target, size))
            }
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (size.walk(), Some(size)),
            "replace" if args.len() >= 2 => (size.walk_twice(), Some(replaced(size, arg(0), arg(1)))),
            "split" => {
                let most = match args.get(1).map(|limit| &limit.expr) {
                    Some(Expr::Literal(Literal::Int(limit))) => *limit as u64,
                    _ => size.max,
                };
                (size.walk_twice(), Some(Size::up_to(most)))
            }
            "join" => {
                let separators = Size {
                    min: size.min.saturating_sub(1),
                    max: size.max.saturating_sub(1),
                };
                let items = self
                    .items(target)
                    .map_or(Size::default(), |(items, _)| size * items);
                let between = if args.is_empty() {
                    Size::default()
                } else {
                    arg(0) * separators
                };
                let made = items + between;
                (made.walk(), Some(made))
            }
            "find" | "findAll" => {
                let cost = matched(size, arg(0));
                (cost, Some(Size::up_to(size.max)))
            }
            "matches" => priced(matched(size, arg(0))),
            "contains" => priced(size.walk().saturating_mul(arg(0).walk())),
            "startsWith" | "endsWith" => priced(arg(0).walk()),
            "format" => priced(size.walk()),
            "validate" => {
                let walked = Size::up_to(arg(0).walk());
                priced(walked.times(Size::exactly(FORMAT_PATTERN_CHARS_MAX).pattern() as f64))
            }
            "containsIP" | "containsCIDR" => priced(self.contained(name, args.first())),
            "slice" | "distinct" | "sort" | "flatten" | "reverse" => self.list(name, target, args, size),
            _ => priced(1),
        }
    }

    /// Comparing each item of a list; walking over a text.
    fn compare(&self, target: &Node, size: Size) -> u64 {
        match self.items(target) {
            Some((items, true)) => size.max.saturating_mul(items.walk().saturating_add(1)),
            Some((_, false)) => size.max,
            None => size.walk(),
        }
    }

    /// The size of each item of a list, and whether items are texts.
    fn items(&self, list: &Node) -> Option<(Size, bool)> {
        let text = match self.types.get(list) {
            Type::List(items) => matches!(**items, Type::Plain("string" | "bytes")),
            _ => return None,
        };
        let mut path = self.path(list);
        let declared = (!path.is_empty()).then(|| {
            path.push("@items".to_string());
            self.declared(&path)
        });
        Some((declared.flatten().unwrap_or(Size::ANY), text))
    }

    fn contained(&self, name: &str, arg: Option<&Node>) -> u64 {
        let mut cost = ADDRESSES_BYTES.walk();
        if name == "containsCIDR" {
            cost += Size::up_to(ADDRESSES_BYTES.max / 2).walk() + 1;
        }
        match arg {
            // A text is read first.
            Some(arg) if matches!(self.types.get(arg), Type::Plain("string") | Type::Dyn) => {
                cost.saturating_add(self.size_or_any(arg).walk())
            }
            _ => cost,
        }
    }

    /// Functions that make a list of another.
    fn list(&self, name: &str, target: &Node, args: &[Node], size: Size) -> Priced {
        let number = |at: usize, otherwise: u64| match args.get(at).map(|arg| &arg.expr) {
            Some(Expr::Literal(Literal::Int(number))) => u64::try_from(*number).unwrap_or_default(),
            _ => otherwise,
        };
        let text = self.items(target).is_some_and(|(_, text)| text);
        let (factor, made) = match name {
            "slice" => (
                1.0,
                Size::exactly(number(1, size.max).saturating_sub(number(0, 0))),
            ),
            "flatten" => {
                let depth = if args.is_empty() { 1 } else { number(0, u64::MAX) };
                (depth as f64, size)
            }
            "distinct" => (2.0, size * size),
            "sort" => (if text { 2.1 } else { 2.0 }, size * size),
            _ => (1.0, size),
        };
        let cost = made.times(factor).saturating_add(1 + LIST_COST);
        (cost, Some(made))
    }
}

/// Units of a text against a regular expression. An empty text costs something too.
fn matched(text: Size, pattern: Size) -> u64 {
    (text + Size::exactly(1)).walk().saturating_mul(pattern.pattern())
}

/// How long a text is after replacing: at most the longest replacement in place of the shortest find, as often
/// as that fits.
fn replaced(text: Size, from: Size, to: Size) -> Size {
    let (count_max, kept_max) = if from.min == 0 {
        (text.max.saturating_add(1), text.max)
    } else if to.max <= from.min {
        (0, text.max)
    } else {
        (text.max.div_ceil(from.min), 0)
    };
    let (count_min, kept_min) = if from.max == 0 {
        (text.min.saturating_add(1), text.min)
    } else if from.max <= to.min {
        (0, text.min)
    } else {
        (text.min.div_ceil(from.max), 0)
    };
    Size {
        min: count_min.saturating_mul(to.min).saturating_add(kept_min),
        max: count_max.saturating_mul(to.max).saturating_add(kept_max),
    }
}
