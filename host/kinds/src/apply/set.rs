//! Sets of fields: what a manager owns, as `fieldsV1` writes it, and their algebra.
//! Invariants: items are sorted and each stands once; a node that neither is a member nor has members below
//! is never kept. A member is a leaf or, with members below, an object or list item that is owned itself.

use serde_json::{Map, Value};

use super::element::Element;
use super::typed::{Atom, Typed};

/// Levels of `fieldsV1` that are read at most.
const DEPTH_MAX: usize = 128;

/// A set of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set {
    items: Vec<(Element, Node)>,
}

/// What of a path is in the set: itself, and what is below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Whether the path itself is in the set.
    pub member: bool,
    /// The paths below it.
    pub below: Set,
}

impl Node {
    /// A path and nothing below it.
    pub fn leaf() -> Self {
        Self {
            member: true,
            below: Set::default(),
        }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    fn union(&mut self, other: &Node) {
        self.member |= other.member;
        self.below.union(&other.below);
    }
}

impl Set {
    /// The set of these paths, each of named fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path.iter().map(|name| Element::field(name)));
        }
        set
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What it has at an element.
    pub fn get(&self, element: &Element) -> Option<&Node> {
        let at = self.items.binary_search_by(|(own, _)| own.cmp(element));
        at.ok().map(|index| &self.items[index].1)
    }

    /// What it has at a field.
    pub fn at_field(&self, name: &str) -> Option<&Node> {
        let at = self.items.binary_search_by(|(own, _)| match own {
            Element::Field(own) => (**own).cmp(name),
            _ => std::cmp::Ordering::Greater,
        });
        at.ok().map(|index| &self.items[index].1)
    }

    /// The elements and what is at them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.items.iter().map(|(element, node)| (element, node))
    }

    /// Adds a path.
    pub fn insert(&mut self, path: impl Iterator<Item = Element>) {
        let mut path = path.peekable();
        let mut set = self;
        while let Some(element) = path.next() {
            let node = set.entry(element);
            if path.peek().is_none() {
                node.member = true;
                return;
            }
            set = &mut node.below;
        }
    }

    /// Adds a node; an empty one is left out.
    pub fn put(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.items.last() {
            Some((last, _)) if *last >= element => self.entry(element).union(&node),
            _ => self.items.push((element, node)),
        }
    }

    fn entry(&mut self, element: Element) -> &mut Node {
        let index = match self.items.binary_search_by(|(own, _)| own.cmp(&element)) {
            Ok(index) => index,
            Err(index) => {
                self.items.insert(index, (element, Node::default()));
                index
            }
        };
        &mut self.items[index].1
    }

    /// Whether a path is in it.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.get(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.get(first).is_some_and(|node| node.below.has(rest)),
        }
    }

    /// Adds all of another set.
    pub fn union(&mut self, other: &Set) {
        if self.items.is_empty() {
            self.items.clone_from(&other.items);
            return;
        }
        for (element, node) in &other.items {
            self.entry(element.clone()).union(node);
        }
    }

    /// What is in both.
    pub fn intersection(&self, other: &Set) -> Set {
        let mut both = Set::default();
        for (element, node) in &self.items {
            if let Some(theirs) = other.get(element) {
                let node = Node {
                    member: node.member && theirs.member,
                    below: node.below.intersection(&theirs.below),
                };
                both.put(element.clone(), node);
            }
        }
        both
    }

    /// Whether something is in both.
    pub fn intersects(&self, other: &Set) -> bool {
        self.items.iter().any(|(element, node)| {
            other
                .get(element)
                .is_some_and(|theirs| (node.member && theirs.member) || node.below.intersects(&theirs.below))
        })
    }

    /// Without the paths of another set; what is below such a path stays.
    pub fn difference(mut self, other: &Set) -> Set {
        self.subtract(other, false);
        self
    }

    /// Without the paths of another set and all that is below them.
    pub fn recursive_difference(mut self, other: &Set) -> Set {
        self.subtract(other, true);
        self
    }

    fn subtract(&mut self, other: &Set, recursive: bool) {
        if other.is_empty() {
            return;
        }
        self.items.retain_mut(|(element, node)| {
            let Some(theirs) = other.get(element) else {
                return true;
            };
            if recursive && theirs.member {
                return false;
            }
            node.member &= !theirs.member;
            node.below.subtract(&theirs.below, recursive);
            !node.is_empty()
        });
    }

    /// Whether something in it is in `fieldsV1`, as this program writes it.
    pub fn touches(&self, fields: &Value) -> bool {
        let Some(fields) = fields.as_object() else {
            return false;
        };
        self.items.iter().any(|(element, node)| {
            fields.get(&element.text()).is_some_and(|theirs| {
                let member = || {
                    theirs
                        .as_object()
                        .is_none_or(|own| own.is_empty() || own.contains_key("."))
                };
                (node.member && member()) || node.below.touches(theirs)
            })
        })
    }

    /// With every declared field that has members below it as a member too.
    pub fn with_named_fields(&self, of: Typed<'_>) -> Set {
        let atoms = of.every();
        let items = self.items.iter().map(|(element, node)| {
            let (mut declared, mut inner) = (false, Typed::Deduced);
            for atom in &atoms {
                match (element, atom) {
                    (Element::Field(name), Atom::Map(map)) => {
                        if let Some((member, named)) = map.member(name) {
                            (declared, inner) = (named, member);
                        }
                    }
                    (Element::Keys(_), Atom::List(list)) => inner = list.items,
                    _ => {}
                }
            }
            let node = Node {
                member: node.member || (declared && !node.below.is_empty()),
                below: node.below.with_named_fields(inner),
            };
            (element.clone(), node)
        });
        Set {
            items: items.collect(),
        }
    }

    /// As the schema has it now: where something below an atomic value is owned, the value itself is.
    pub fn reconciled(&self, of: Typed<'_>) -> Set {
        let atoms = of.every();
        let mut set = Set::default();
        for (element, node) in &self.items {
            let inner = atoms.iter().find_map(|atom| match (element, atom) {
                (Element::Field(name), Atom::Map(map)) => map.member(name).map(|(member, _)| member),
                (Element::Keys(_) | Element::Value(_), Atom::List(list)) => Some(list.items),
                _ => None,
            });
            let node = match inner {
                Some(inner) if !node.below.is_empty() && inner.is_atomic() => Node::leaf(),
                Some(inner) => Node {
                    member: node.member,
                    below: node.below.reconciled(inner),
                },
                None => node.clone(),
            };
            set.put(element.clone(), node);
        }
        set
    }

    /// Every path in it.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for (element, node) in &self.items {
            prefix.push(element.clone());
            if node.member {
                paths.push(prefix.clone());
            }
            prefix.pop();
        }
        for (element, node) in &self.items {
            prefix.push(element.clone());
            node.below.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// As `fieldsV1`.
    pub fn to_fields(&self) -> Value {
        Value::Object(self.to_map(false))
    }

    fn to_map(&self, with_itself: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if with_itself && !self.items.is_empty() {
            map.insert(".".to_string(), Value::Object(Map::new()));
        }
        for (element, node) in &self.items {
            map.insert(element.text(), Value::Object(node.below.to_map(node.member)));
        }
        map
    }

    /// Reads `fieldsV1`.
    pub fn from_fields(fields: &Value) -> Result<Set, String> {
        match fields {
            Value::Null => Ok(Set::default()),
            Value::Object(map) => Ok(Self::from_map(map, 0)?.0),
            other => Err(format!("fieldsV1 must be an object, it is {other}")),
        }
    }

    /// The members below, and whether the node itself is one.
    fn from_map(map: &Map<String, Value>, depth: usize) -> Result<(Set, bool), String> {
        if depth > DEPTH_MAX {
            return Err(format!("fieldsV1 is deeper than {DEPTH_MAX} levels"));
        }
        let (mut set, mut member) = (Set::default(), map.is_empty());
        for (key, inner) in map {
            if key == "." {
                member = true;
                continue;
            }
            let Some(element) = Element::parse(key)? else {
                continue;
            };
            let (below, is_member) = match inner {
                Value::Object(inner) => Self::from_map(inner, depth + 1)?,
                Value::Null => (Set::default(), true),
                other => return Err(format!("\"{key}\" in fieldsV1 must be an object, it is {other}")),
            };
            set.put(
                element,
                Node {
                    member: is_member,
                    below,
                },
            );
        }
        let member = member || set.is_empty();
        Ok((set, member))
    }
}
