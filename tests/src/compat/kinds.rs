//! What every kind can do: its place in discovery and each of its verbs, as the reference's table has them, in the
//! life of one small object. `fixtures/compat/resources.tsv` is the table, `objects.yaml` has the objects. Called by
//! the suite once a kind. What a kind means is the behaviours' part and the other tests'.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::api::{Answer, Api, text};

const TABLE: &str = include_str!("../../fixtures/compat/resources.tsv");
const OBJECTS: &str = include_str!("../../fixtures/compat/objects.yaml");
/// How often a replacement is tried again where a controller wrote in between.
const CONFLICTS_MAX: usize = 20;

/// One row of the table.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    group: String,
    version: String,
    plural: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
    short_names: Vec<String>,
    subresources: Vec<(String, Vec<String>)>,
    categories: Vec<String>,
}

/// All rows.
pub(super) fn all() -> Vec<Kind> {
    TABLE.lines().skip(1).map(Kind::read).collect()
}

fn words(cell: &str) -> Vec<String> {
    let words = cell.split(',').filter(|word| !word.is_empty());
    words.map(str::to_owned).collect()
}

impl Kind {
    fn read(line: &str) -> Self {
        let cell = |at: usize| line.split('\t').nth(at).unwrap_or_default().to_owned();
        let subresources = cell(7);
        let subresources = subresources.split(';').filter_map(|one| {
            let (name, verbs) = one.strip_suffix(']')?.split_once('[')?;
            Some((
                name.to_owned(),
                words(verbs.split(';').next().unwrap_or_default()),
            ))
        });
        Self {
            group: cell(0),
            version: cell(1),
            plural: cell(2),
            kind: cell(3),
            namespaced: cell(4) == "true",
            verbs: words(&cell(5)),
            short_names: words(&cell(6)),
            subresources: subresources.collect(),
            categories: words(&cell(8)),
        }
    }

    /// `/apps/v1/deployments`: how the suite calls it.
    pub(super) fn name(&self) -> String {
        let slash = if self.group.is_empty() { "" } else { "/" };
        format!("{slash}{}/{}/{}", self.group, self.version, self.plural)
    }

    fn root(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// Its collection, in the namespace where it has one.
    fn collection(&self, namespace: &str) -> String {
        if self.namespaced {
            format!("{}/namespaces/{namespace}/{}", self.root(), self.plural)
        } else {
            format!("{}/{}", self.root(), self.plural)
        }
    }

    fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Runs it all; returns what was shown.
    ///
    /// # Errors
    /// With the first answer that is not as it should be.
    pub(super) async fn check(&self, api: &Api, namespace: &str, request: &str) -> anyhow::Result<()> {
        self.discovered(api).await?;
        if !self.can("delete") {
            return Ok(());
        }
        let fixtures: Value = serde_norway::from_str(OBJECTS)?;
        let fixture = &fixtures[self.name()];
        ensure!(
            fixture.is_object(),
            "the fixtures have no object for {}",
            self.name()
        );
        let name = format!("compat-{}", self.plural);
        let of_its_own = text(&fixture["name"]).replace("NAME", &name);
        let name = if of_its_own.is_empty() { name } else { of_its_own };
        let object = fixture["object"].to_string();
        let object = object
            .replace("NAME", &format!("compat-{}", self.plural))
            .replace("REQUEST", request);
        let mut object: Value = serde_json::from_str(&object)?;
        let version = if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        };
        object["apiVersion"] = json!(version);
        object["kind"] = json!(self.kind);
        object["metadata"] = json!({ "name": name, "labels": { "compat": self.plural } });
        let life = Life {
            kind: self,
            api,
            collection: self.collection(namespace),
            name,
            object,
        };
        life.run().await
    }

    async fn discovered(&self, api: &Api) -> anyhow::Result<()> {
        let found = api.get(&self.root()).await?.expect(200)?.body;
        let list = found["resources"].as_array().context("a list of resources")?;
        let of = |name: &str| list.iter().find(|row| row["name"] == name);
        let row = of(&self.plural).context("it is not in discovery")?;
        ensure!(row["kind"] == self.kind, "its kind is {}", row["kind"]);
        ensure!(
            row["namespaced"] == self.namespaced,
            "namespaced is {}",
            row["namespaced"]
        );
        ensure!(same(&row["verbs"], &self.verbs), "its verbs are {}", row["verbs"]);
        ensure!(
            same(&row["shortNames"], &self.short_names),
            "its short names are {}",
            row["shortNames"]
        );
        ensure!(
            same(&row["categories"], &self.categories),
            "its categories are {}",
            row["categories"]
        );
        for (name, verbs) in &self.subresources {
            let row = of(&format!("{}/{name}", self.plural));
            let row = row.with_context(|| format!("{name} is not in discovery"))?;
            ensure!(
                same(&row["verbs"], verbs),
                "the verbs of {name} are {}",
                row["verbs"]
            );
        }
        Ok(())
    }
}

fn same(found: &Value, known: &[String]) -> bool {
    let mut found: Vec<String> = found.as_array().into_iter().flatten().map(text).collect();
    let mut known = known.to_vec();
    found.sort();
    known.sort();
    found == known
}

/// The life of one object.
struct Life<'a> {
    kind: &'a Kind,
    api: &'a Api,
    collection: String,
    name: String,
    object: Value,
}

impl Life<'_> {
    fn path(&self) -> String {
        format!("{}/{}", self.collection, self.name)
    }

    fn selected(&self) -> String {
        format!("{}?labelSelector=compat%3D{}", self.collection, self.kind.plural)
    }

    async fn run(&self) -> anyhow::Result<()> {
        let (api, path) = (self.api, self.path());
        // What an earlier run may have left.
        let _ = api.delete(&path, &Value::Null).await?;
        api.until(&path, |answer| answer.status == 404).await?;

        api.post(&format!("{}?dryRun=All", self.collection), &self.object)
            .await?
            .expect(201)?;
        api.get(&path).await?.refused(404, "NotFound")?;
        let created = api.post(&self.collection, &self.object).await?.expect(201)?;
        ensure!(
            !text(&created.body["metadata"]["uid"]).is_empty(),
            "it has no uid"
        );
        ensure!(!created.version().is_empty(), "it has no resource version");
        api.post(&self.collection, &self.object)
            .await?
            .refused(409, "AlreadyExists")?;
        let got = api.get(&path).await?.expect(200)?;
        ensure!(
            got.body["kind"] == self.kind.kind && got.body["metadata"]["name"] == self.name,
            "another object"
        );
        self.lists().await?;
        self.changes(&created).await?;
        self.subresources().await?;
        self.ends(&created).await
    }

    async fn lists(&self) -> anyhow::Result<()> {
        let api = self.api;
        let list = api.get(&self.selected()).await?.expect(200)?.body;
        ensure!(
            list["kind"] == format!("{}List", self.kind.kind),
            "the list is a {}",
            list["kind"]
        );
        let found = list["items"].as_array().map_or(0, Vec::len);
        ensure!(found == 1, "{found} objects have its label");
        let everywhere = format!(
            "{}/{}?labelSelector=compat%3D{}",
            self.kind.root(),
            self.kind.plural,
            self.kind.plural
        );
        let list = api.get(&everywhere).await?.expect(200)?.body;
        ensure!(
            list["items"].as_array().map_or(0, Vec::len) == 1,
            "it is not in the list of all namespaces"
        );
        let named = format!("{}?fieldSelector=metadata.name%3D{}", self.collection, self.name);
        let list = api.get(&named).await?.expect(200)?.body;
        ensure!(
            list["items"].as_array().map_or(0, Vec::len) == 1,
            "it is not found by its name"
        );
        let table = api.accept("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
        let table = table.get(&self.selected()).await?.expect(200)?.body;
        ensure!(
            table["kind"] == "Table",
            "{} where a Table is asked for",
            table["kind"]
        );
        let columns = table["columnDefinitions"].as_array().map_or(0, Vec::len);
        let cells = table["rows"][0]["cells"].as_array().map_or(0, Vec::len);
        ensure!(
            columns > 0 && columns == cells,
            "{cells} cells in {columns} columns"
        );
        let meta =
            api.accept("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json");
        let meta = meta.get(&self.selected()).await?.expect(200)?.body;
        ensure!(
            meta["kind"] == "PartialObjectMetadataList",
            "{} where metadata is asked for",
            meta["kind"]
        );
        ensure!(meta["items"][0]["spec"].is_null(), "metadata with a spec");
        Ok(())
    }

    async fn changes(&self, created: &Answer) -> anyhow::Result<()> {
        let (api, path) = (self.api, self.path());
        let marked = |by: &str| json!({ "metadata": { "annotations": { (by): "yes" } } });
        api.patch("merge", &path, &marked("merge")).await?.expect(200)?;
        api.patch("strategic", &path, &marked("strategic"))
            .await?
            .expect(200)?;
        let add = json!([{ "op": "add", "path": "/metadata/annotations/json", "value": "yes" }]);
        api.patch("json", &path, &add).await?.expect(200)?;
        let mut applied = json!({
            "apiVersion": self.object["apiVersion"], "kind": self.kind.kind,
            "metadata": { "name": self.name, "annotations": { "apply": "yes" } },
        });
        api.patch("apply", &format!("{path}?fieldManager=compat"), &applied)
            .await?
            .expect(200)?;
        applied["metadata"]["resourceVersion"] = json!(created.version());
        let mut stale = self.object.clone();
        stale["metadata"]["resourceVersion"] = json!(created.version());
        stale["metadata"]["annotations"] = json!({ "stale": "yes" });
        api.put(&path, &stale).await?.refused(409, "Conflict")?;
        let put = self.replaced().await?;
        for mark in ["merge", "strategic", "json", "apply", "put"] {
            ensure!(
                put.body["metadata"]["annotations"][mark] == "yes",
                "the change by {mark} is lost"
            );
        }
        ensure!(
            put.body["metadata"]["uid"] == created.body["metadata"]["uid"],
            "its uid changed"
        );
        Ok(())
    }

    /// Replaces it by what it is, with an annotation; again where somebody wrote in between.
    async fn replaced(&self) -> anyhow::Result<Answer> {
        for _ in 0..CONFLICTS_MAX {
            let mut now = self.api.get(&self.path()).await?.expect(200)?.body;
            now["metadata"]["annotations"]["put"] = json!("yes");
            let put = self.api.put(&self.path(), &now).await?;
            if put.status != 409 {
                return put.expect(200);
            }
        }
        anyhow::bail!("{}: a conflict {CONFLICTS_MAX} times", self.path())
    }

    async fn subresources(&self) -> anyhow::Result<()> {
        let api = self.api;
        for (name, verbs) in &self.kind.subresources {
            if name != "status" && name != "scale" && name != "approval" {
                continue;
            }
            ensure!(verbs.len() == 3, "the verbs of {name}: {verbs:?}");
            let path = format!("{}/{name}", self.path());
            let got = api.get(&path).await?.expect(200)?;
            let kind = if name == "scale" { "Scale" } else { &self.kind.kind };
            ensure!(got.body["kind"] == kind, "{name} is a {}", got.body["kind"]);
            if name == "scale" {
                let scaled = api
                    .patch("merge", &path, &json!({ "spec": { "replicas": 0 } }))
                    .await?;
                ensure!(
                    scaled.expect(200)?.body["spec"]["replicas"].as_i64().unwrap_or(0) == 0,
                    "it is not scaled"
                );
                continue;
            }
            let patch = json!({ "metadata": { "annotations": { (name.as_str()): "yes" } } });
            api.patch("merge", &path, &patch).await?.expect(200)?;
        }
        Ok(())
    }

    async fn ends(&self, created: &Answer) -> anyhow::Result<()> {
        let (api, path) = (self.api, self.path());
        let other = json!({ "preconditions": { "uid": "another" } });
        api.delete(&path, &other).await?.refused(409, "Conflict")?;
        let ended = api.delete(&path, &Value::Null).await?;
        ensure!(ended.status.is_success(), "{}: {}", ended.asked, ended.text());
        api.until(&path, |answer| answer.status == 404).await?;
        let watched = format!(
            "{}&watch=1&resourceVersion={}",
            self.selected(),
            created.version()
        );
        let ends = |events: &[Value]| events.iter().any(|event| event["type"] == "DELETED");
        let events = api.watch(&watched, ends).await?;
        ensure!(
            events.first().is_some_and(|event| event["type"] == "MODIFIED"),
            "the watch begins with {}",
            events[0]["type"]
        );
        if self.kind.can("deletecollection") {
            api.post(&self.collection, &self.object).await?.expect(201)?;
            api.delete(&self.selected(), &Value::Null).await?.expect(200)?;
            api.until(&path, |answer| answer.status == 404).await?;
        }
        Ok(())
    }
}
