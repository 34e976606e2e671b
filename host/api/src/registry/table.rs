//! The table of resources that the server knows now: the built-in rows, and those of custom kinds, which come
//! and go with their definitions while it runs.
//!
//! The feed alone changes it, at the revision at which a definition changed, so that the objects that follow
//! are read by the right row. Rows of a definition that did not change stay the same ones. Where a built-in
//! row has a name, it keeps it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use capstan_kinds::custom;
use capstan_kinds::resource::{self, Resource};
use serde_json::Value;

/// See the module. A request pins the rows that it uses.
pub(crate) struct Table(ArcSwap<Rows>);

#[derive(Default)]
struct Rows {
    all: Vec<Arc<Resource>>,
    by_name: HashMap<(String, String, String), Arc<Resource>>,
    by_storage: HashMap<String, Arc<Resource>>,
    /// By the definition's name.
    defined: BTreeMap<String, Arc<Defined>>,
    /// Changes with every change of the rows.
    generation: u64,
}

/// What one definition adds.
struct Defined {
    /// Of everything that the rows are made of.
    seen: u64,
    /// Of what decides how stored objects read.
    spec: u64,
    rows: custom::Rows,
}

impl Defined {
    fn read(definition: &Value) -> Option<Self> {
        let rows = custom::rows(definition)?;
        Some(Self {
            seen: seen(definition),
            spec: hash(&definition["spec"].to_string()),
            rows,
        })
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn seen(definition: &Value) -> u64 {
    hash(&(
        definition["spec"].to_string(),
        definition["status"]["acceptedNames"].to_string(),
        custom::is_true(definition, "Established"),
        definition["metadata"]["deletionTimestamp"].is_string(),
    ))
}

impl Rows {
    fn new(defined: BTreeMap<String, Arc<Defined>>, generation: u64) -> Self {
        let mut rows = Self {
            generation,
            ..Self::default()
        };
        for row in resource::all() {
            rows.add(row);
            if row.is_stored() {
                rows.by_storage
                    .entry(row.storage_prefix().to_owned())
                    .or_insert_with(|| row.clone());
            }
        }
        let mut served: Vec<&Arc<Resource>> = defined.values().flat_map(|one| &one.rows.served).collect();
        served.sort_by_cached_key(|row| {
            let order = std::cmp::Reverse(custom::version_priority(&row.version));
            (row.group.clone(), order, row.version.clone(), row.plural.clone())
        });
        for row in served {
            if !rows.by_name.contains_key(&name(row)) {
                rows.add(row);
            }
        }
        for one in defined.values() {
            let storage = &one.rows.storage;
            rows.by_storage
                .entry(storage.storage_prefix().to_owned())
                .or_insert_with(|| storage.clone());
        }
        rows.defined = defined;
        rows
    }

    fn add(&mut self, row: &Arc<Resource>) {
        self.by_name.insert(name(row), row.clone());
        self.all.push(row.clone());
    }
}

fn name(row: &Resource) -> (String, String, String) {
    (row.group.clone(), row.version.clone(), row.plural.clone())
}

impl Table {
    pub(crate) fn built_in() -> Self {
        Self(ArcSwap::from_pointee(Rows::new(BTreeMap::new(), 1)))
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let name = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.0.load().by_name.get(&name).cloned()
    }

    /// The row by which objects below a storage prefix are read.
    pub(crate) fn stored(&self, prefix: &str) -> Option<Arc<Resource>> {
        self.0.load().by_storage.get(prefix).cloned()
    }

    /// Other rows that stand for the same stored objects, such as other versions.
    pub(crate) fn equivalent(&self, resource: &Resource) -> Vec<Arc<Resource>> {
        let prefix = resource.storage_prefix();
        let same = |one: &&Arc<Resource>| {
            one.is_stored() && one.storage_prefix() == prefix && !std::ptr::eq(&***one, resource)
        };
        self.0.load().all.iter().filter(same).cloned().collect()
    }

    /// All rows in the order in which discovery shows them, and the table's generation.
    pub(crate) fn all(&self) -> (u64, Vec<Arc<Resource>>) {
        let rows = self.0.load();
        (rows.generation, rows.all.clone())
    }

    /// Takes a definition as it is now (none: it is gone). Gives the storage prefix whose objects must be
    /// read again, because what they mean has changed.
    pub(crate) fn define(&self, name: &str, definition: Option<&Value>) -> Option<String> {
        let rows = self.0.load();
        let before = rows.defined.get(name);
        if let (Some(before), Some(definition)) = (before, definition)
            && before.seen == seen(definition)
        {
            return None;
        }
        let after = definition.and_then(Defined::read).map(Arc::new);
        if before.is_none() && after.is_none() {
            return None;
        }
        let prefix = |one: &Arc<Defined>| one.rows.storage.storage_prefix().to_owned();
        let stale = match (before, &after) {
            (Some(before), Some(after)) if before.spec == after.spec => None,
            (_, Some(one)) | (Some(one), None) => Some(prefix(one)),
            (None, None) => None,
        };
        let mut defined = rows.defined.clone();
        match after {
            Some(after) => defined.insert(name.to_owned(), after),
            None => defined.remove(name),
        };
        self.0.store(Arc::new(Rows::new(defined, rows.generation + 1)));
        stale
    }

    /// Takes all definitions that there are, in place of those that it knew.
    pub(crate) fn define_all(&self, definitions: Vec<(String, Value)>) {
        let rows = self.0.load();
        let defined = definitions
            .into_iter()
            .filter_map(|(name, definition)| {
                let known = rows
                    .defined
                    .get(&name)
                    .filter(|one| one.seen == seen(&definition));
                let one = known
                    .cloned()
                    .or_else(|| Defined::read(&definition).map(Arc::new))?;
                Some((name, one))
            })
            .collect();
        self.0.store(Arc::new(Rows::new(defined, rows.generation + 1)));
    }
}
