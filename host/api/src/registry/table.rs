//! The table of resources that the server knows now: the built-in rows, and rows added while it runs.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use capstan_kinds::resource::{self, Resource};

/// See the module. A request pins the rows that it uses.
pub(crate) struct Table(ArcSwap<Rows>);

#[derive(Default)]
struct Rows {
    all: Vec<Arc<Resource>>,
    by_name: HashMap<(String, String, String), Arc<Resource>>,
    by_storage: HashMap<String, Arc<Resource>>,
    /// Changes with every change of the rows.
    generation: u64,
}

impl Rows {
    fn new(all: Vec<Arc<Resource>>, generation: u64) -> Self {
        let mut rows = Self {
            generation,
            ..Self::default()
        };
        for row in &all {
            let name = (row.group.clone(), row.version.clone(), row.plural.clone());
            rows.by_name.insert(name, row.clone());
            if row.is_stored() {
                rows.by_storage
                    .entry(row.storage_prefix().to_owned())
                    .or_insert_with(|| row.clone());
            }
        }
        rows.all = all;
        rows
    }
}

impl Table {
    pub(crate) fn built_in() -> Self {
        Self(ArcSwap::from_pointee(Rows::new(resource::all().to_vec(), 1)))
    }

    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let name = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.0.load().by_name.get(&name).cloned()
    }

    /// The row by which objects below a storage prefix are indexed.
    pub(crate) fn stored(&self, prefix: &str) -> Option<Arc<Resource>> {
        self.0.load().by_storage.get(prefix).cloned()
    }

    /// All rows in the order in which discovery shows them, and the table's generation.
    pub(crate) fn all(&self) -> (u64, Vec<Arc<Resource>>) {
        let rows = self.0.load();
        (rows.generation, rows.all.clone())
    }
}
