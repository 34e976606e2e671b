//! `metadata.managedFields`: who owns which fields of an object, and since when.
//! Invariants: entries are told apart by manager, operation, subresource and, for updates, version; an entry
//! without fields is never kept; the order is the original's (appliers first, then by time and name).

use serde_json::{Map, Value, json};

use super::set::Set;

/// Update entries of one object at most; the oldest are joined.
pub const UPDATE_MANAGERS_MAX: usize = 10;
/// Who owns what the joined entries owned.
const ANCIENT: &str = "ancient-changes";
/// Bytes of a manager's name and of a subresource's at most.
const MANAGER_BYTES_MAX: usize = 128;
const SUBRESOURCE_BYTES_MAX: usize = 256;

/// Who writes, by what kind of request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// Whether by apply rather than any other write.
    pub applies: bool,
    /// The name, as `fieldManager` says.
    pub name: String,
    /// In which version the fields are named.
    pub api_version: String,
    /// Empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// Whether both are one: an applier is, whatever its version.
    pub fn is(&self, other: &Manager) -> bool {
        self.name == other.name
            && self.applies == other.applies
            && self.subresource == other.subresource
            && (self.applies || self.api_version == other.api_version)
    }
}

/// As conflicts name it.
impl std::fmt::Display for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if !self.applies {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Whose.
    pub manager: Manager,
    /// When it last changed, RFC 3339 in UTC.
    pub time: Option<String>,
    fields: Fields,
}

/// What an entry owns. Most writes touch one entry: the others stay as they were read.
#[derive(Debug, Clone)]
enum Fields {
    /// The whole entry as this program wrote it.
    Written(Value),
    Read(Set),
}

impl Entry {
    pub(super) fn new(manager: Manager, fields: Set, time: &str) -> Self {
        Self {
            manager,
            time: Some(time.to_string()),
            fields: Fields::Read(fields),
        }
    }

    /// What it owns.
    pub fn fields(&self) -> Set {
        match &self.fields {
            Fields::Read(set) => set.clone(),
            Fields::Written(entry) => Set::from_fields(&entry["fieldsV1"]).unwrap_or_default(),
        }
    }

    /// What it owns, at the end or to be set anew.
    pub(super) fn take_fields(&mut self) -> Set {
        match std::mem::replace(&mut self.fields, Fields::Read(Set::default())) {
            Fields::Read(set) => set,
            Fields::Written(entry) => Set::from_fields(&entry["fieldsV1"]).unwrap_or_default(),
        }
    }

    pub(super) fn set_fields(&mut self, fields: Set) {
        self.fields = Fields::Read(fields);
    }

    /// Whether it owns something of a set.
    pub(super) fn touched_by(&self, set: &Set) -> bool {
        match &self.fields {
            Fields::Read(own) => own.intersects(set),
            Fields::Written(entry) => set.touches(&entry["fieldsV1"]),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.fields {
            Fields::Read(set) => set.is_empty(),
            Fields::Written(entry) => entry["fieldsV1"].as_object().is_none_or(Map::is_empty),
        }
    }

    fn head(entry: &Value) -> Result<(Manager, Option<String>), String> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let applies = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return Err("operation must be `Apply` or `Update`".into()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        if text("fieldsType") != "FieldsV1" {
            return Err(format!("invalid fieldsType {:?}", text("fieldsType")));
        }
        let manager = Manager {
            applies,
            name: text("manager").to_string(),
            api_version: text("apiVersion").to_string(),
            subresource: text("subresource").to_string(),
        };
        Ok((
            manager,
            Some(text("time").to_string()).filter(|time| !time.is_empty()),
        ))
    }

    fn read(entry: &Value) -> Result<Self, String> {
        let (manager, time) = Self::head(entry)?;
        let fields = Set::from_fields(entry.get("fieldsV1").unwrap_or(&Value::Null))?;
        Ok(Self {
            manager,
            time,
            fields: Fields::Read(fields),
        })
    }

    fn written(entry: Value) -> Result<Self, String> {
        let (manager, time) = Self::head(&entry)?;
        Ok(Self {
            manager,
            time,
            fields: Fields::Written(entry),
        })
    }

    fn into_value(self) -> Value {
        let fields = match self.fields {
            Fields::Written(entry) => return entry,
            Fields::Read(fields) => fields,
        };
        let mut entry = Map::new();
        let operation = if self.manager.applies { "Apply" } else { "Update" };
        entry.insert("apiVersion".into(), json!(self.manager.api_version));
        entry.insert("fieldsType".into(), json!("FieldsV1"));
        entry.insert("fieldsV1".into(), fields.to_fields());
        entry.insert("manager".into(), json!(self.manager.name));
        entry.insert("operation".into(), json!(operation));
        if !self.manager.subresource.is_empty() {
            entry.insert("subresource".into(), json!(self.manager.subresource));
        }
        if let Some(time) = self.time {
            entry.insert("time".into(), json!(time));
        }
        Value::Object(entry)
    }
}

/// All entries of an object.
#[derive(Debug, Clone, Default)]
pub struct Managed(pub Vec<Entry>);

impl Managed {
    /// Reads `metadata.managedFields`.
    pub fn read(entries: Option<&Value>) -> Result<Self, String> {
        let list = match entries {
            None | Some(Value::Null) => return Ok(Self::default()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err("managedFields must be a list".into()),
        };
        list.iter().map(Entry::read).collect::<Result<_, _>>().map(Self)
    }

    /// Takes a list over that this program wrote.
    pub(super) fn of_written(entries: Value) -> Result<Self, String> {
        match entries {
            Value::Null => Ok(Self::default()),
            Value::Array(list) => list
                .into_iter()
                .map(Entry::written)
                .collect::<Result<_, _>>()
                .map(Self),
            _ => Err("managedFields must be a list".into()),
        }
    }

    /// The entry of a manager.
    pub fn of(&mut self, manager: &Manager) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.manager.is(manager))
    }

    /// Takes the entry of a manager out.
    pub(super) fn take(&mut self, manager: &Manager) -> Option<Entry> {
        let index = self.0.iter().position(|entry| entry.manager.is(manager))?;
        Some(self.0.swap_remove(index))
    }

    /// Joins the oldest update entries of each version where there are too many.
    pub(super) fn cap(&mut self) {
        let mut updates = self.0.iter().filter(|entry| !entry.manager.applies).count();
        if updates <= UPDATE_MANAGERS_MAX {
            return;
        }
        let (mut old, mut kept): (Vec<Entry>, Vec<Entry>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|entry| !entry.manager.applies);
        old.sort_by(|a, b| (&a.time, &a.manager.name).cmp(&(&b.time, &b.manager.name)));
        let mut buckets: Vec<Entry> = Vec::new();
        for entry in old {
            let version = entry.manager.api_version.clone();
            let bucket = buckets.iter_mut().find(|one| one.manager.api_version == version);
            match bucket {
                Some(bucket) if updates > UPDATE_MANAGERS_MAX => {
                    let mut fields = bucket.take_fields();
                    fields.union(&entry.fields());
                    let manager = Manager {
                        applies: false,
                        name: ANCIENT.into(),
                        api_version: version,
                        subresource: String::new(),
                    };
                    *bucket = Entry {
                        manager,
                        time: entry.time,
                        fields: Fields::Read(fields),
                    };
                    updates -= 1;
                }
                Some(_) => kept.push(entry),
                None => buckets.push(entry),
            }
        }
        kept.extend(buckets);
        self.0 = kept;
    }

    /// Writes them; none where there are none.
    pub fn into_value(mut self) -> Option<Value> {
        self.0.retain(|entry| !entry.is_empty());
        if self.0.is_empty() {
            return None;
        }
        self.0.sort_by(|a, b| {
            let key = |entry: &Entry| (!entry.manager.applies, entry.time.clone().unwrap_or_default());
            key(a)
                .cmp(&key(b))
                .then_with(|| a.manager.name.cmp(&b.manager.name))
                .then_with(|| a.manager.api_version.cmp(&b.manager.api_version))
                .then_with(|| a.manager.subresource.cmp(&b.manager.subresource))
        });
        Some(Value::Array(self.0.into_iter().map(Entry::into_value).collect()))
    }
}

/// Whether a client clears the list: it sends it empty, or with one empty entry.
pub(super) fn is_cleared(entries: Option<&Value>) -> bool {
    match entries {
        Some(Value::Array(list)) => match list.as_slice() {
            [] => true,
            [Value::Object(one)] => one.values().all(Value::is_null),
            _ => false,
        },
        _ => false,
    }
}

/// Why a list of entries may not be stored; none where it may.
pub fn problem(entries: Option<&Value>) -> Option<String> {
    let list = entries.and_then(Value::as_array)?;
    for (index, entry) in list.iter().enumerate() {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let path = format!("metadata.managedFields[{index}]");
        if !matches!(text("operation"), "Apply" | "Update") {
            let operation = text("operation");
            return Some(format!(
                "{path}.operation: Invalid value: {operation:?}: must be `Apply` or `Update`"
            ));
        }
        if let Err(problem) = name_problem(text("manager")) {
            return Some(format!("{path}.manager: {problem}"));
        }
        if text("subresource").len() > SUBRESOURCE_BYTES_MAX {
            return Some(format!(
                "{path}.subresource: Too long: may not be more than {SUBRESOURCE_BYTES_MAX} bytes"
            ));
        }
        if let Err(problem) = Entry::read(entry) {
            return Some(format!("{path}: {problem}"));
        }
    }
    None
}

/// Whether a name may be a manager's: printable, and not too long.
pub fn name_problem(name: &str) -> Result<(), String> {
    if name.len() > MANAGER_BYTES_MAX {
        return Err(format!(
            "Too long: may not be more than {MANAGER_BYTES_MAX} bytes"
        ));
    }
    match name.char_indices().find(|(_, c)| !is_printable(*c)) {
        Some((at, c)) => Err(format!(
            "Invalid value: {name:?}: invalid character U+{:04X} (at position {at})",
            u32::from(c)
        )),
        None => Ok(()),
    }
}

/// The manager's name of a client that gives none: the program in its user agent.
pub fn name_of_agent(user_agent: &str) -> String {
    let mut name = String::new();
    let program = user_agent.split('/').next().unwrap_or_default();
    for c in program.chars().filter(|c| is_printable(*c)) {
        if name.len() + c.len_utf8() > MANAGER_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    name
}

fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace())
}
