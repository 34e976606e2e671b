//! The two operations: tracking what a write of any kind changed, and applying a configuration.
//! Invariants: both leave `metadata.managedFields` of the new object as it is to be stored; a live object
//! that nobody tracks is tracked from its first apply on; the time of an entry changes with its fields alone.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::change::Change;
use super::element::{Element, same};
use super::fields::{fields_of, fits};
use super::last_applied;
use super::managed::{Entry, Managed, Manager, is_cleared};
use super::merge::{merged, without};
use super::reset::Reset;
use super::set::Set;
use super::typed::Typed;
use crate::convert;
use crate::resource::{Resource, find_kind};

/// Who owns what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The name of a client that gives none.
const UNKNOWN: &str = "unknown";
/// The one manager that goes over from client-side apply without conflicts.
const KUBECTL: &str = "kubectl";

/// Metadata that nobody owns.
static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
    Set::of_fields(&[
        &["apiVersion"],
        &["kind"],
        &["metadata"],
        &["metadata", "name"],
        &["metadata", "namespace"],
        &["metadata", "creationTimestamp"],
        &["metadata", "selfLink"],
        &["metadata", "uid"],
        &["metadata", "clusterName"],
        &["metadata", "generation"],
        &["metadata", "managedFields"],
        &["metadata", "resourceVersion"],
    ])
});

static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// The versions of a kind: what each looks like, and how an object goes over to another.
pub trait Versions {
    /// The schema of a version; none where it is not served any more.
    fn typed(&self, api_version: &str) -> Option<Typed<'_>>;
    /// An object in a version; none where it cannot be.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// The versions of the kind of a row of the table. Those of a custom kind share their fields, and are all
/// seen by the schema of the row.
impl Versions for Resource {
    fn typed(&self, api_version: &str) -> Option<Typed<'_>> {
        match &self.custom {
            Some(custom) => Some(Typed::custom_object(&custom.schema)),
            None => Typed::built_in(api_version, &self.kind),
        }
    }

    fn convert(&self, object: &Value, api_version: &str) -> Option<Value> {
        if self.custom.is_some() {
            let mut object = object.clone();
            object["apiVersion"] = json!(api_version);
            return Some(object);
        }
        let resource = find_kind(api_version, &self.kind)?;
        Some(convert::to_version(&resource, object.clone()))
    }
}

/// A write: whose, when, of what.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The manager's name; may be empty but for apply.
    pub manager: &'a str,
    /// The version of the request.
    pub api_version: &'a str,
    /// Through which subresource; empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339 in UTC, whole seconds.
    pub now: &'a str,
    /// What such a write may own.
    pub reset: &'a Reset,
}

impl Writer<'_> {
    fn identity(&self, applies: bool) -> Manager {
        let name = if self.manager.is_empty() {
            UNKNOWN
        } else {
            self.manager
        };
        Manager {
            applies,
            name: name.to_string(),
            api_version: self.api_version.to_string(),
            subresource: self.subresource.to_string(),
        }
    }

    fn owned(&self, set: Set) -> Set {
        self.reset.pass(set).difference(&UNOWNED)
    }
}

/// A field that another manager owns.
#[derive(Debug, Clone)]
pub struct Conflict {
    /// Whose it is.
    pub manager: Manager,
    /// Which.
    pub path: Vec<Element>,
}

impl Conflict {
    /// The path as it is printed, such as `.spec.replicas`.
    pub fn field(&self) -> String {
        self.path.iter().map(Element::to_string).collect()
    }
}

/// Why a configuration is not applied.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    /// It makes no sense for this kind.
    #[error("{0}")]
    Malformed(String),
    /// Others own what it changes.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager,
            one.field()
        );
    }
    let mut lines = Vec::new();
    for of_one in conflicts.chunk_by(|a, b| a.manager == b.manager) {
        lines.push(format!("conflicts with {}:", of_one[0].manager));
        lines.extend(of_one.iter().map(|conflict| format!("- {}", conflict.field())));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

/// One change as each version of the kind sees it.
struct Changes<'a> {
    versions: &'a dyn Versions,
    reset: &'a Reset,
    old: &'a Value,
    new: &'a Value,
    seen: Vec<(String, Option<Change>)>,
}

impl<'a> Changes<'a> {
    fn new(versions: &'a dyn Versions, writer: &Writer<'a>, old: &'a Value, new: &'a Value) -> Option<Self> {
        let of = versions.typed(writer.api_version)?;
        let change = Change::between(of, old, new).filtered(|set| writer.reset.pass(set));
        Some(Self {
            versions,
            reset: writer.reset,
            old,
            new,
            seen: vec![(writer.api_version.to_string(), Some(change))],
        })
    }

    fn is_empty(&self) -> bool {
        self.seen[0].1.as_ref().is_none_or(Change::is_empty)
    }

    /// The change as the version of the write sees it.
    fn into_own(mut self) -> Change {
        self.seen.swap_remove(0).1.unwrap_or_default()
    }

    /// None where the version is gone.
    fn at(&mut self, api_version: &str) -> Option<&Change> {
        let known = self.seen.iter().position(|(version, _)| version == api_version);
        let index = known.unwrap_or_else(|| {
            let change = self.converted(api_version);
            self.seen.push((api_version.to_string(), change));
            self.seen.len() - 1
        });
        self.seen[index].1.as_ref()
    }

    fn converted(&self, api_version: &str) -> Option<Change> {
        let of = self.versions.typed(api_version)?;
        let old = self.versions.convert(self.old, api_version)?;
        let new = self.versions.convert(self.new, api_version)?;
        Some(Change::between(of, &old, &new).filtered(|set| self.reset.pass(set)))
    }
}

/// Tracks a write that is no apply: `new` is what is to be stored, with the list of managers that the client
/// sent; `live` is none for a create.
pub fn update(versions: &dyn Versions, writer: &Writer<'_>, live: Option<&Value>, new: &mut Value) {
    let sent = take_entries(new);
    let before = live.and_then(|live| live.pointer("/metadata/managedFields"));
    let mut managed = known(writer, before, sent);
    if live.is_some() && managed.0.is_empty() {
        return;
    }
    let changes = Changes::new(versions, writer, live.unwrap_or(&NOTHING), new);
    if let Some(mut changes) = changes.filter(|changes| !changes.is_empty()) {
        reconcile(versions, &mut managed);
        disown(&mut managed, &mut changes);
        let said = writer.owned(changes.into_own().into_said());
        own(&mut managed, writer.identity(false), said, writer.now);
    }
    managed.cap();
    put_entries(new, managed.into_value());
}

/// The entries that hold before a write: what the client sent, where that makes sense.
fn known(writer: &Writer<'_>, live: Option<&Value>, sent: Option<Value>) -> Managed {
    // Most writes send the list back as it is.
    if sent.as_ref() == live {
        return Managed::of_written(sent.unwrap_or_default()).unwrap_or_default();
    }
    let of_live = || Managed::of_written(live.cloned().unwrap_or_default()).unwrap_or_default();
    if !writer.subresource.is_empty() {
        return of_live();
    }
    if is_cleared(sent.as_ref()) {
        return Managed::default();
    }
    match Managed::read(sent.as_ref()) {
        Ok(managed) if !managed.0.is_empty() => managed,
        _ => of_live(),
    }
}

fn own(managed: &mut Managed, manager: Manager, fields: Set, now: &str) {
    if fields.is_empty() {
        return;
    }
    match managed.of(&manager) {
        Some(entry) => {
            let mut all = entry.take_fields();
            all.union(&fields);
            entry.set_fields(all);
            entry.time = Some(now.to_string());
        }
        None => managed.0.push(Entry::new(manager, fields, now)),
    }
}

/// Takes what was changed from everybody who had it; who is left with nothing goes.
fn disown(managed: &mut Managed, changes: &mut Changes<'_>) {
    managed.0.retain_mut(|entry| {
        let Some(change) = changes.at(&entry.manager.api_version) else {
            return false;
        };
        for lost in [&change.added, &change.modified, &change.removed] {
            if entry.touched_by(lost) {
                let fields = entry.take_fields().difference(lost);
                entry.set_fields(fields);
            }
        }
        !entry.is_empty()
    });
}

fn reconcile(versions: &dyn Versions, managed: &mut Managed) {
    for entry in &mut managed.0 {
        let of = versions.typed(&entry.manager.api_version);
        if let Some(of) = of.filter(|of| of.may_change()) {
            let (before, after) = (entry.fields(), entry.fields().reconciled(of));
            if before != after {
                entry.set_fields(after);
            }
        }
    }
}

/// The object with a configuration applied, its managers included; `live` is none where it is not there yet.
pub fn apply(
    versions: &dyn Versions,
    writer: &Writer<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, Problem> {
    let of = versions
        .typed(writer.api_version)
        .ok_or_else(|| Problem::Malformed(format!("no corresponding type for {}", writer.api_version)))?;
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|list| !list.is_null())
    {
        return Err(Problem::Malformed("metadata.managedFields must be nil".into()));
    }
    if let Err(problem) = fits(of, config) {
        let metadata = &config["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let kind = config["kind"].as_str().unwrap_or_default();
        return Err(Problem::Malformed(format!(
            "failed to create typed patch object ({namespace}/{name}; {}, Kind={kind}): {problem}",
            writer.api_version
        )));
    }
    let mut base = live
        .cloned()
        .unwrap_or_else(|| json!({"apiVersion": writer.api_version, "kind": config["kind"]}));
    let entries = take_entries(&mut base);
    let mut managed = Managed::of_written(entries.unwrap_or_default()).unwrap_or_default();
    if live.is_some() && managed.0.is_empty() {
        let said = writer.owned(Change::between(of, &NOTHING, &base).into_said());
        let before = Writer {
            manager: BEFORE_FIRST_APPLY,
            ..*writer
        };
        own(&mut managed, before.identity(false), said, writer.now);
    }
    reconcile(versions, &mut managed);
    let applied = Applied {
        versions,
        writer,
        of,
        base: &base,
        config,
    };
    let mut new = applied.onto(managed, force)?;
    if writer.manager == KUBECTL {
        last_applied::refresh(&mut new, config);
    }
    Ok(new)
}

struct Applied<'a> {
    versions: &'a dyn Versions,
    writer: &'a Writer<'a>,
    of: Typed<'a>,
    base: &'a Value,
    config: &'a Value,
}

impl Applied<'_> {
    fn onto(&self, mut managed: Managed, force: bool) -> Result<Value, Problem> {
        let writer = self.writer;
        let identity = writer.identity(true);
        let last = managed.take(&identity);
        let fields = writer.reset.pass(fields_of(self.of, self.config));
        let mut entry = Entry::new(identity, fields, writer.now);
        let mut new = merged(self.of, self.base, self.config);
        if let Some(last) = last.as_ref().filter(|last| !last.is_empty()) {
            managed.0.push(entry.clone());
            new = self.pruned(new, last, &managed);
            managed.0.pop();
        }
        let mut changes = Changes::new(self.versions, writer, self.base, &new)
            .ok_or_else(|| Problem::Malformed(format!("no corresponding type for {}", writer.api_version)))?;
        if !force {
            let conflicts = self.unforgiven(conflicts(&managed, &mut changes));
            if !conflicts.is_empty() {
                return Err(Problem::Conflicts(conflicts));
            }
        }
        disown(&mut managed, &mut changes);
        let fields = entry.take_fields().difference(&UNOWNED);
        entry.set_fields(fields);
        if let Some(last) = last
            && same(self.base, &new)
        {
            entry.time = last.time;
        }
        managed.0.push(entry);
        put_entries(&mut new, managed.into_value());
        Ok(new)
    }

    /// Without the conflicts about what client-side apply set last.
    fn unforgiven(&self, conflicts: Vec<Conflict>) -> Vec<Conflict> {
        if conflicts.is_empty() || self.writer.manager != KUBECTL {
            return conflicts;
        }
        match last_applied::fields(self.of, self.base, self.writer.api_version) {
            Some(own) => conflicts
                .into_iter()
                .filter(|conflict| !own.has(&conflict.path))
                .collect(),
            None => conflicts,
        }
    }

    fn at(&self, object: &Value, api_version: &str) -> Option<(Value, Typed<'_>)> {
        let of = self.versions.typed(api_version)?;
        if object["apiVersion"] == api_version {
            return Some((object.clone(), of));
        }
        Some((self.versions.convert(object, api_version)?, of))
    }

    /// Without what the manager applied last and does not apply now, unless others own it.
    fn pruned(&self, merged: Value, last: &Entry, managed: &Managed) -> Value {
        let version = last.manager.api_version.as_str();
        let Some((whole, of)) = self.at(&merged, version) else {
            return merged;
        };
        let last_fields = last.fields().with_named_fields(of);
        let all = |object: &Value, of| fields_of(of, object).with_named_fields(of);
        let mut left = without(of, &whole, &last_fields);
        let mut versions = vec![version];
        for entry in &managed.0 {
            let version = entry.manager.api_version.as_str();
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        for version in versions {
            let (Some((whole, of)), Some((cut, _))) = (self.at(&whole, version), self.at(&left, version))
            else {
                continue;
            };
            let mut kept = all(&cut, of);
            for entry in managed
                .0
                .iter()
                .filter(|entry| entry.manager.api_version == version)
            {
                kept.union(&entry.fields().with_named_fields(of));
            }
            left = without(of, &whole, &all(&whole, of).difference(&kept));
        }
        let Some((left, _)) = self.at(&left, version) else {
            return merged;
        };
        // What went along without ever having been applied comes back.
        let gone = all(&whole, of)
            .difference(&all(&left, of))
            .intersection(&last_fields);
        let rest = without(of, &whole, &gone);
        match self.at(&rest, self.writer.api_version) {
            Some((rest, _)) => rest,
            None => merged,
        }
    }
}

/// What others own of the change, sorted.
fn conflicts(managed: &Managed, changes: &mut Changes<'_>) -> Vec<Conflict> {
    let mut found = Vec::new();
    let mut entries: Vec<&Entry> = managed.0.iter().collect();
    entries.sort_by(|a, b| a.manager.cmp(&b.manager));
    for entry in entries {
        let Some(change) = changes.at(&entry.manager.api_version) else {
            continue;
        };
        let paths = entry.fields().intersection(&change.said()).paths();
        found.extend(paths.into_iter().map(|path| Conflict {
            manager: entry.manager.clone(),
            path,
        }));
    }
    found
}

/// Gives entries their old times back where nothing but times changed, so that such a write is none.
pub fn keep_times(new: &mut Value, old: &Value) {
    let list =
        |object| -> Option<&Vec<Value>> { Value::pointer(object, "/metadata/managedFields")?.as_array() };
    let (Some(after), Some(before)) = (list(new), list(old)) else {
        return;
    };
    let equal = after.len() == before.len()
        && after
            .iter()
            .zip(before)
            .all(|(after, before)| same_but(after, before, &["time"]));
    if !equal || after == before {
        return;
    }
    // The revision is no part of the state.
    let metadata = same_but(
        &new["metadata"],
        &old["metadata"],
        &["managedFields", "resourceVersion"],
    );
    if metadata && same_but(new, old, &["metadata"]) {
        let before = Value::Array(before.clone());
        put_entries(new, Some(before));
    }
}

/// Whether two objects have the same fields, but for some.
fn same_but(a: &Value, b: &Value, but: &[&str]) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return a == b;
    };
    let counts = |field: &String| !but.contains(&field.as_str());
    a.iter()
        .filter(|(field, _)| counts(field))
        .eq(b.iter().filter(|(field, _)| counts(field)))
}

fn take_entries(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields")
}

fn put_entries(object: &mut Value, entries: Option<Value>) {
    let Some(entries) = entries else {
        return;
    };
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".into(), entries);
    }
}
